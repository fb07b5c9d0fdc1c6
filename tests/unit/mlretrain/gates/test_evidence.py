"""The table of evidence: readable in a log, small and tamper-proof as Markdown."""

from __future__ import annotations

import pytest

from mlretrain.gates.evidence import MANY, WORST, families, markdown, text
from mlretrain.verdict import Check


def check(name: str, *, passed: bool = True, note: str | None = None, one_of: str | None = None) -> Check:
    return Check(name=name, passed=passed, observed="0.7", required="≥ 0.6", note=note, one_of=one_of)


def slices(count: int, *, failing: int = 0, one_of: str = "roc_auc ≥ 0.6") -> list[Check]:
    return [check(f"roc_auc in c={i}", passed=i >= failing, one_of=one_of) for i in range(count)]


def test_text_is_aligned_and_says_everything() -> None:
    assert text([check("holdout"), check("roc_auc in c=1", passed=False, note="90 rows")]) == [
        "check           observed  required  holds  note",
        "holdout         0.7       ≥ 0.6     yes",
        "roc_auc in c=1  0.7       ≥ 0.6     NO     90 rows",
    ]
    assert len(text(slices(400))) == 401


def test_markdown_is_a_table() -> None:
    assert markdown([check("holdout"), check("f1", passed=False, note="90 rows")]) == (
        "| check | observed | required | holds | note |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| holdout | 0.7 | ≥ 0.6 | yes |  |\n"
        "| f1 | 0.7 | ≥ 0.6 | **no** | 90 rows |\n"
    )


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("a\n\nb", "a b"),
        ("<script>", r"\<script\>"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("**yes**", r"\*\*yes\*\*"),
        ("_x_ roc_auc", r"\_x\_ roc_auc"),
        ("a\x1b[31mb", r"a\[31mb"),
        ("x" * 500, "x" * 119 + "…"),
    ],
)
def test_names_from_data_cannot_change_the_table(name: str, cell: str) -> None:
    [_, _, row] = markdown([check(name)]).splitlines()
    assert row == f"| {cell} | 0.7 | ≥ 0.6 | yes |  |"


def test_few_slices_are_all_shown() -> None:
    assert markdown(slices(MANY)).count("\n") == MANY + 2


def test_of_many_slices_the_failing_and_the_worst_are_shown() -> None:
    rows = markdown([check("holdout"), *slices(200, failing=3), check("f1")])
    assert rows.splitlines()[-1] == f"{197 - WORST} more checks of slices: {197 - WORST} hold."
    shown = [line.split(" | ")[0] for line in rows.splitlines()[2:-2]]
    assert shown == ["| holdout", *[f"| roc_auc in c={i}" for i in range(3 + WORST)], "| f1"]


def test_even_failures_are_too_many_at_times() -> None:
    rows = markdown(slices(200, failing=150))
    assert rows.count("**no**") == MANY
    assert f"{200 - MANY - WORST} more checks of slices: 120 **fail**, {50 - WORST} hold." in rows


def test_checks_are_kept_in_families() -> None:
    found = families([check("holdout"), *slices(2), *slices(3, one_of="drop ≤ 0.1")])
    assert {name: len(members) for name, members in found.items()} == {"roc_auc ≥ 0.6": 2, "drop ≤ 0.1": 3}
