"""The page about a window: readable, small, well-formed, and with nothing of the data in its markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from mlretrain.drift.domain import DomainShift
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import ColumnProfile, DriftProfile, Kind
from mlretrain.drift.report import render_html
from mlretrain.drift.verdict import ColumnDrift, DriftReport, unknown_report
from tests.unit.mlretrain.drift.columns import categorical, numeric

EVIL = "<script>alert('x')</script>&<b>\"'"
VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a browser would find: the text, and whether each tag is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def profile(*columns: ColumnProfile, rows: int | None = None) -> DriftProfile:
    return DriftProfile(
        rows=max((each.n for each in columns), default=0) if rows is None else rows, columns=columns
    )


def shown(old: Sequence[ColumnProfile], new: Sequence[ColumnProfile], **policy: Any) -> Page:
    reference, current = profile(*old), profile(*new)
    report = compare(reference, current, DriftPolicy(**policy), against="champion v3")
    return Page(render_html(report, reference, current, "flights"))


def line(name: str, shift: float = 0.0, n: int = 4000) -> ColumnProfile:
    return numeric(name, [i / n + shift for i in range(n)], numeric(name, [i / n for i in range(n)]).grid)


def column(kind: Kind, **facts: Any) -> ColumnProfile:
    return ColumnProfile(name="x", kind=kind, **facts)


def verdict(kind: Kind = "numeric", **facts: Any) -> ColumnDrift:
    known: dict[str, Any] = {
        "name": "x",
        "method": "ks",
        "effect": 0.3,
        "threshold": 0.02,
        "noise": 0.01,
        "drifted": True,
        "missing_rate": 0.0,
        "reference_missing_rate": 0.0,
    }
    return ColumnDrift(kind=kind, **(known | facts))


def render(report: DriftReport, *columns: tuple[ColumnProfile | None, ColumnProfile | None]) -> Page:
    reference, current = ([pair[i] for pair in columns if pair[i]] for i in (0, 1))
    return Page(
        render_html(report, profile(*filter(None, reference)), profile(*filter(None, current)), "flights")
    )


def one(drift: ColumnDrift, old: ColumnProfile | None, new: ColumnProfile | None) -> Page:
    return render(DriftReport(verdict="drift", columns=(drift,), summary="x"), (old, new))


def test_the_verdict_comes_first_with_its_sentence_and_what_it_was_compared_with() -> None:
    page = shown([line("x"), line("y")], [line("x", 0.5), line("y")])

    assert "This window has drifted1 of 2 columns drifted (share 0.5 ≥ 0.3): x KS 0.5 > " in page.text
    assert "4,000 rows, compared with 4,000 rows of champion v3" in page.text
    assert "drift: violated" in page.text
    assert "prediction: not measured" in page.text
    assert "schema: fine" in page.text
    assert page.text.index("Drifted columns") < page.text.index("Stable columns")


def test_the_windows_time_is_told() -> None:
    span = {"start": datetime(2013, 7, 1, tzinfo=UTC), "end": datetime(2013, 7, 8, 6, tzinfo=UTC)}
    page = render(DriftReport(verdict="stable", summary="fine", rows=1, **span))  # type: ignore[arg-type]
    assert "01 Jul 2013 00:00 to 08 Jul 2013 06:00 UTC · 1 row" in page.text
    assert "No drift" in page.text


def test_a_column_tells_its_figures() -> None:
    drift = verdict(importance=0.25, missing_rate=0.1)
    page = one(drift, line("x"), line("x", 0.5))

    assert "KS 0.3 > 0.03" in page.text
    assert (
        "tolerance 0.02, noise 0.01 · importance 25.0% · missing 0% → 10.0% · mean 0.4999 → 0.9999"
        in page.text
    )
    assert page.tags.count("path") == 2
    assert "0.5" in page.words


def test_stable_columns_open_on_demand() -> None:
    page = one(verdict(drifted=False), line("x"), line("x"))
    assert "details" in page.tags
    assert "section" not in page.tags


def test_categories_are_listed_with_their_shares_and_the_new_ones_named() -> None:
    old = categorical("x", {"JFK": 600, "LGA": 300, "EWR": 100})
    new = replace(categorical("x", {"JFK": 300, "LGA": 300, "EWR": 100}, other=300), fresh=(("BOS", 250),))

    page = one(verdict("categorical", method="total_variation"), old, new)

    assert "JFK60.0% → 30.0%LGA30.0%EWR10.0%new BOS0% → 25.0%all others0% → 5.0%" in page.text


def test_a_value_that_the_reference_did_not_list_is_not_called_new() -> None:
    old = replace(categorical("x", {"a": 900}, other=100), fresh=(("b", 30),))
    new = replace(categorical("x", {"a": 900}, other=100), fresh=(("b", 60), ("c", 20)))

    page = one(verdict("categorical", method="total_variation"), old, new)

    assert "b3.0% → 6.0%crare → 2.0%all others7.0% → 2.0%" in page.text


def test_the_most_changed_of_many_categories_are_shown() -> None:
    names = {f"c{i}": 100 for i in range(50)}
    page = one(verdict("categorical"), categorical("x", names), categorical("x", names | {"c49": 400}))
    assert "c49" in page.words
    assert "c48" not in page.words


def test_booleans() -> None:
    old = replace(categorical("x", {"false": 500, "true": 500}), kind="boolean")
    new = replace(categorical("x", {"false": 900, "true": 100}), kind="boolean")
    assert "false50.0% → 90.0%true50.0% → 10.0%" in one(verdict("boolean"), old, new).text


def test_instants_are_dates() -> None:
    start = datetime(2013, 1, 1, tzinfo=UTC).timestamp()
    old = replace(numeric("x", [start + i * 3600.0 for i in range(24 * 90)]), kind="datetime")
    page = one(verdict("datetime"), old, old)
    assert "mean 14 Feb 2013" in page.text
    assert any(word.endswith("Feb 2013") for word in page.words)


def test_text_by_length() -> None:
    old = replace(numeric("x", [float(i % 30) for i in range(300)]), kind="text", empty=10)
    new = replace(numeric("x", [float(i % 20) for i in range(300)], old.grid), kind="text", empty=15)
    assert "mean 14.5 → 9.5 characters · empty 3.3% → 5.0%" in one(verdict("text"), old, new).text


def test_embeddings_by_what_moved_most() -> None:
    parts = [line("norm"), line("projection 1"), line("projection 2")]
    old = column("embedding", n=4000, parts=tuple(parts), centroid=(1.0, 0.0))
    new = replace(old, parts=(*parts[:2], line("projection 2", 0.3)), centroid=(1.0, 0.1))

    page = one(verdict("embedding", method="projection"), old, new)

    assert "the mean vector has moved by 20.0% of the mean norm; most changed: projection 2" in page.text
    assert page.tags.count("path") == 2


def test_sensitive_values_are_shown_as_they_were_kept() -> None:
    old = replace(categorical("x", {"9f2c": 10}), salt="s")
    page = one(verdict("categorical"), old, old)
    assert "9f2c" in page.words
    assert "sensitive: values are digests" in page.text
    assert "s" not in page.words


def test_joint_shifts_schema_quality_and_new_columns_are_sentences() -> None:
    shift = DomainShift(auc=0.72, low=0.7, high=0.74, rows=5000, drifted=True, columns=("a", "b"), noise=0.02)
    report = DriftReport(
        verdict="drift",
        columns=(),
        domain=shift,
        schema=("x has vanished",),
        quality=("y is missing in 20.0% of the rows instead of 1.0%",),
        new_columns=("z",),
        summary="x",
    )
    text = render(report).text
    assert "x has vanishedy is missing in 20.0% of the rows instead of 1.0%" in text
    assert (
        "A classifier tells the window's rows from the reference's with an AUC of 0.72 "
        "(at least 0.70 with 95% confidence; 0.62 is tolerated); it goes by a, b" in text
    )
    assert "New columns, not judged: z" in text


def test_a_classifier_without_an_answer_says_why() -> None:
    report = DriftReport(verdict="stable", domain=DomainShift(rows=3, note="too few rows"), summary="x")
    assert "was not measured: too few rows" in render(report).text


def test_predictions_come_before_the_columns() -> None:
    old, new = [line("x"), line("prediction")], [line("x", 0.5), line("prediction", 0.5)]
    text = shown(old, new, prediction_threshold=0.05).text
    assert text.index("Predictions") < text.index("Drifted columns")


def test_stable_predictions_are_open() -> None:
    page = shown([line("x"), line("prediction")], [line("x"), line("prediction")], prediction_threshold=0.05)
    assert page.attributes.count(("open", None)) == 1


def test_anothers_verdict_is_not_drawn_as_ours() -> None:
    column = verdict(method="K-S p_value", effect=0.001, threshold=0.05, noise=0.0)
    report = DriftReport(
        verdict="drift", columns=(column,), reference="champion v3", engine="evidently", summary="x"
    )

    page = render(report, (line("x"), line("x", 0.5)))

    assert "K-S p_value 0.001 ≤ 0.05" in page.text
    assert "champion v3 · columns judged by Evidently" in page.text
    assert ("class", "g") not in page.attributes


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (line("x"), None, "has vanished"),
        (line("x"), categorical("x", {"a": 4000}), "has changed from numeric to categorical"),
        (line("x"), column("numeric", n=4000, nulls=4000), "has no values"),
        (column("numeric", n=4000, nulls=4000), line("x"), "has no values in the reference"),
    ],
)
def test_what_could_not_be_measured_says_why(
    old: ColumnProfile, new: ColumnProfile | None, words: str
) -> None:
    page = shown([old, line("y"), line("z")], [*([new] if new else []), line("y"), line("z")])
    assert f"Not measuredx{words}" in page.text


def test_a_window_that_nothing_is_known_of_still_has_a_page() -> None:
    empty = profile()
    page = Page(render_html(unknown_report("the file is corrupt"), empty, empty, "flights"))
    assert "Not known whether it driftedunknown: the file is corrupt0 rows" in page.text
    assert page.text.count(": not measured") == 5


BROKEN: Mapping[str, ColumnProfile] = {
    "empty": column("numeric"),
    "no grid": column("numeric", n=5),
    "all null": column("numeric", n=5, nulls=5),
    "one value": numeric("x", [3.0]),
    "all equal": numeric("x", [0.0] * 50),
    "huge": numeric("x", [1e149, -1e149, 1.0, 2.0]),
    "tiny": numeric("x", [1e-300, 2e-300, 3e-300]),
    "far": numeric("x", [1e15 + i for i in range(9)]),
    "no categories": column("categorical", n=5, other=5),
    "empty category": categorical("x", {"": 3}),
    "no instants": column("datetime", n=5, nulls=5),
    "instants out of range": replace(numeric("x", [1e18, 2e18]), kind="datetime"),
    "no parts": column("embedding", n=5),
    "one part": column("embedding", n=5, parts=(line("norm"),)),
}


@pytest.mark.parametrize("old", [None, *BROKEN.values()], ids=["none", *BROKEN])
def test_broken_columns_do_not_break_the_page(old: ColumnProfile | None) -> None:
    for new in (None, *BROKEN.values()):
        for effect in (0.0, 1e308, float("inf"), float("nan")):
            page = one(verdict(effect=effect, noise=effect), old, new)
            assert "inf%" not in page.html
            assert "nan%" not in page.html


def test_nothing_of_the_data_gets_into_the_markup() -> None:
    old = categorical(EVIL, {EVIL: 100, f"{EVIL}2": 50})
    new = replace(categorical(EVIL, {EVIL: 90}, other=30), fresh=((f"{EVIL}3", 30),))
    parts = column("embedding", n=4000, parts=(line(EVIL),), centroid=(1.0,))
    report = DriftReport(
        verdict="drift",
        signals={EVIL: True},
        reference=EVIL,
        columns=(
            verdict("categorical", name=EVIL, method=EVIL),
            verdict("embedding"),
            verdict(name="gone", note=EVIL),
            verdict(name="stable", method=EVIL, drifted=False),
            *[verdict(name=f"{EVIL}{i}", drifted=False) for i in range(200)],
        ),
        schema=(EVIL,),
        quality=(EVIL,),
        new_columns=(EVIL,),
        domain=DomainShift(rows=1, note=EVIL),
        summary=EVIL,
    )
    page = Page(render_html(report, profile(old, parts), profile(new, parts), EVIL))

    tags = "html head meta title style body header h1 h2 h3 p strong small ul li i u b s em br div section"
    assert set(page.tags) <= {*tags.split(), "details", "summary", "svg", "path"}
    names = {"lang", "charset", "name", "content", "style", "class", "role", "aria-label", "d"}
    assert {name for name, _ in page.attributes} <= {*names, "viewbox", "preserveaspectratio"}
    assert page.text.count(EVIL) > 200
    assert "url(" not in page.html
    assert "http" not in page.html.replace(EVIL, "")


@pytest.mark.parametrize("drifted", [True, False])
def test_a_hundred_columns_are_a_small_page(drifted: bool) -> None:
    values = {f"{'long category name '}{i}": 1000 + i for i in range(100)}
    old = [line(f"x{i:03}") if i % 2 else categorical(f"x{i:03}", values, other=1000) for i in range(100)]
    fresh = tuple((f"a new category with a long name {i}", 10 * i) for i in range(1, 6))
    new = [
        line(each.name, 0.3) if each.kind == "numeric" else replace(each, other=1200, fresh=fresh)
        for each in old
    ]
    report = DriftReport(
        verdict="drift",
        columns=tuple(verdict(each.kind, name=each.name, drifted=drifted, importance=0.01) for each in old),
        summary="x",
    )
    html = render_html(report, profile(*old), profile(*new), "flights")
    Page(html)
    assert len(html.encode()) < 300_000


def test_a_thousand_columns_are_one_page_too() -> None:
    report = DriftReport(
        verdict="drift",
        columns=tuple(verdict(name=f"x{i:04}", drifted=i < 50) for i in range(1000)),
        summary="x",
    )
    same = profile(*(line(f"x{i:04}", n=100) for i in range(1000)))
    page = Page(render_html(report, same, same, "flights"))
    assert page.tags.count("svg") == 100
    assert "x0999 KS 0.3" in page.text
    assert len(page.html) < 300_000
