"""The sentence in which a run ends is in its note, beside what was noted before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlretrain_provider.plugins.run_note import note_conclusion, with_conclusion

KEPT = {"outcome": "stable", "reason": "keep: drift in 0 of the last 3 windows", "event": "stable"}


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (None, "stable: keep: drift in 0 of the last 3 windows"),
        ("asked by Ann", "asked by Ann\n\nstable: keep: drift in 0 of the last 3 windows"),
        (
            "stable: keep: drift in 0 of the last 3 windows",
            "stable: keep: drift in 0 of the last 3 windows",
        ),
    ],
)
def test_a_conclusion_is_noted_once(note: str | None, expected: str) -> None:
    assert with_conclusion(note, KEPT) == expected


def test_an_outcome_is_not_said_twice() -> None:
    assert with_conclusion(None, {"outcome": "rolled_back", "reason": "rolled back to v3"}) == (
        "rolled back to v3"
    )


def test_what_is_no_conclusion_changes_nothing() -> None:
    assert with_conclusion("mine", {"verdict": "keep"}) == "mine"


def test_other_runs_are_left_alone() -> None:
    run = SimpleNamespace(dag_id="somebody.elses", note="mine", run_id="r")
    note_conclusion(run)
    assert run.note == "mine"
