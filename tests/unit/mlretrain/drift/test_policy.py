"""Verdicts: right on unchanged data, right on a shift, and in words."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlretrain.drift.metrics import measure
from mlretrain.drift.policy import ColumnPolicy, DriftPolicy, compare
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.drift.report import render_html
from mlretrain.drift.scan import choose_edges
from mlretrain.errors import ConfigError


def numeric(name: str, values: Sequence[float], edges: Sequence[float] | None = None) -> ColumnProfile:
    ordered = sorted(values)
    n = len(ordered)
    mean = sum(ordered) / n
    if edges is None:
        edges = choose_edges([ordered[min(n - 1, i * n // 32)] for i in range(33)])
    counts = [0] * (len(edges) + 1)
    for value in ordered:
        counts[bisect_left(edges, value)] += 1
    return ColumnProfile(
        name=name,
        kind="numeric",
        n=n,
        nulls=0,
        edges=tuple(edges),
        counts=tuple(counts),
        minimum=ordered[0],
        maximum=ordered[-1],
        mean=mean,
        sd=(sum((value - mean) ** 2 for value in ordered) / n) ** 0.5,
    )


def categorical(name: str, counts: dict[str, int], other: int = 0, nulls: int = 0) -> ColumnProfile:
    return ColumnProfile(
        name=name,
        kind="categorical",
        n=sum(counts.values()) + other + nulls,
        nulls=nulls,
        categories=tuple(counts),
        counts=tuple(counts.values()),
        other=other,
    )


def pair(n: int, shifts: Sequence[float], seed: int) -> tuple[DriftProfile, DriftProfile]:
    random_ = random.Random(seed)
    old = [numeric(f"x{i}", [random_.gauss(0, 1) for _ in range(n)]) for i in range(len(shifts))]
    new = [
        numeric(each.name, [random_.gauss(shift, 1) for _ in range(n)], each.edges)
        for each, shift in zip(old, shifts, strict=True)
    ]
    return DriftProfile(rows=n, columns=tuple(old)), DriftProfile(rows=n, columns=tuple(new))


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_unchanged_data_is_stable_and_half_a_deviation_is_found(n: int) -> None:
    for seed in range(5):
        report = compare(*pair(n, [0.0] * 6, seed), DriftPolicy())
        assert [each.name for each in report.columns if each.drifted] == []
    shifted = compare(*pair(n, [0.5, 0.5, 0.0, 0.0, 0.0, 0.0], 9), DriftPolicy())
    assert {each.name for each in shifted.columns if each.drifted} == {"x0", "x1"}
    assert shifted.verdict == "drift"


def test_the_summary_is_one_sentence_with_the_evidence() -> None:
    report = compare(*pair(2_000, [0.5, 0.0, 0.0], 1), DriftPolicy())
    assert report.summary.startswith("1 of 3 columns drifted (share 0.33 ≥ 0.30): x0 KS 0.2")
    stable = compare(*pair(2_000, [0.0, 0.0, 0.0], 1), DriftPolicy())
    assert (stable.verdict, stable.summary) == ("stable", "0 of 3 columns drifted (share 0.00 < 0.30)")


def test_too_few_rows_are_insufficient() -> None:
    report = compare(*pair(500, [3.0], 1), DriftPolicy())
    assert (report.verdict, report.summary) == (
        "insufficient",
        "insufficient: 500 rows, at least 1000 are needed",
    )


def test_the_learnt_noise_of_a_column_is_granted_to_it() -> None:
    reference, current = pair(2_000, [0.5], 1)
    assert compare(reference, current, DriftPolicy()).verdict == "drift"
    noisy = replace(reference, columns=(replace(reference.columns[0], noise={"ks": 0.3}),))
    assert compare(noisy, current, DriftPolicy()).verdict == "stable"


def test_bins_of_another_profile_are_interpolated() -> None:
    random_ = random.Random(3)
    old, new = (numeric("x", [random_.gauss(0, 1) for _ in range(20_000)]) for _ in range(2))
    assert old.edges != new.edges
    assert measure("ks", old, new) < 0.03
    moved = numeric("x", [random_.gauss(0.5, 1) for _ in range(20_000)])
    assert measure("ks", old, moved) == pytest.approx(0.197, abs=0.03)
    assert measure("wasserstein", old, moved) == pytest.approx(0.5, abs=0.05)


def test_columns_have_rules_of_their_own() -> None:
    reference, current = pair(2_000, [0.5, 0.5], 1)
    policy = DriftPolicy(
        columns={"x0": "ignore", "x1": ColumnPolicy(method="wasserstein", threshold=0.8)}, share=0.01
    )
    report = compare(reference, current, policy)
    assert [(each.name, each.method, each.drifted) for each in report.columns] == [
        ("x1", "wasserstein", False)
    ]
    with pytest.raises(ConfigError, match="new_category_share means nothing for a numeric column"):
        compare(reference, current, DriftPolicy(defaults=ColumnPolicy(method="new_category_share")))


def test_lost_values_lost_columns_and_new_categories_are_drift() -> None:
    old = (
        categorical("a", {"x": 1000, "y": 1000}),
        categorical("b", {"x": 2000}),
        categorical("c", {"x": 2000}),
    )
    new = (
        categorical("a", {"x": 500, "y": 500}, nulls=1000),
        categorical("c", {"x": 1000}, other=1000),
    )
    rules = {"c": ColumnPolicy(method="new_category_share")}
    report = compare(
        DriftProfile(rows=2000, columns=old),
        DriftProfile(rows=2000, columns=new),
        DriftPolicy(columns=rules),
    )
    assert {each.name: (each.method, each.effect, each.drifted) for each in report.columns} == {
        "a": ("missing_rate", 0.5, True),
        "b": ("missing_rate", 1.0, True),
        "c": ("new_category_share", 0.5, True),
    }
    assert report.missing_columns == ("b",)
    assert "b has vanished" in report.summary


def test_drifted_predictions_alone_make_the_window_drift() -> None:
    (reference, current), (old, new) = pair(2_000, [0.0], 1), pair(2_000, [1.0], 2)
    answers = [replace(each.columns[0], name="prediction") for each in (old, new)]
    reference = replace(reference, columns=(*reference.columns, answers[0]))
    current = replace(current, columns=(*current.columns, answers[1]))
    report = compare(reference, current, DriftPolicy(prediction_threshold=0.1))
    assert report.verdict == "drift"
    assert (report.share, len(report.columns)) == (0.0, 1)
    assert "; prediction KS 0.4 > 0.15" in report.summary
    assert compare(reference, current, DriftPolicy()).verdict == "stable"


def test_psi_of_few_rows_is_smoothed_not_floored() -> None:
    random_ = random.Random(5)
    old = numeric("x", [random_.gauss(0, 1) for _ in range(100)])
    new = numeric("x", [random_.gauss(0, 1) for _ in range(100)], old.edges)
    assert measure("psi", old, new) < 1.5


def test_the_page_is_small_escaped_and_without_script() -> None:
    reference, current = pair(1_000, [0.5] * 50, 1)
    names = [f"<script>{i}" for i in range(100)]
    wide = [
        replace(
            each,
            columns=tuple(
                replace(each.columns[i % 50], name=name)
                if i % 2
                else categorical(name, {f"<b>{j}": 10 + j for j in range(100)})
                for i, name in enumerate(names)
            ),
        )
        for each in (reference, current)
    ]
    page = render_html(compare(wide[0], wide[1], DriftPolicy()), wide[0], wide[1], "flights <v7>")
    assert len(page.encode()) < 300_000
    assert "<script" not in page
    assert "<b>" not in page
    assert "flights &lt;v7&gt;" in page
