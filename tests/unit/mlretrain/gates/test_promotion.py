"""Promotion gates: what holds, what fails, and what a reader is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlretrain.errors import ConfigError
from mlretrain.gates.promotion import Evaluation, Gate, Interval, Scores, SliceScores, judge
from mlretrain.verdict import to_markdown


def scores(auc: float, loss: float = 0.5, **carriers: tuple[int, float]) -> Scores:
    slices = {name: SliceScores(n=n, metrics={"roc_auc": value}) for name, (n, value) in carriers.items()}
    return Scores(
        holdout_sha256="abc", metrics={"roc_auc": auc, "log_loss": loss}, slices={"carrier": slices}
    )


BETTER = Evaluation(
    holdout_sha256="abc",
    rows=5000,
    candidate=scores(0.74, 0.50, AA=(900, 0.70), UA=(50, 0.10)),
    champion=scores(0.71, 0.55, AA=(900, 0.72), UA=(50, 0.90)),
    champion_version="7",
    differences={
        "roc_auc": Interval(estimate=0.03, low=0.01, high=0.05, confidence=0.95),
        "log_loss": Interval(estimate=-0.05, low=-0.07, high=-0.03, confidence=0.95),
    },
)


def verdict(gate: Gate, evaluation: Evaluation = BETTER) -> str:
    return judge([gate], evaluation).verdict


def test_a_better_candidate_is_promoted_with_its_numbers() -> None:
    gates = [Gate(metric="roc_auc", min=0.70), Gate(metric="roc_auc", versus="champion", confidence=0.95)]
    result = judge(gates, BETTER)
    assert result.verdict == "promote"
    assert result.reason == "promote: all 3 checks hold (roc_auc 0.74); champion v7"
    assert (
        "| improvement of roc_auc | 0.74 against 0.71, at least 0.01 | ≥ 0 with confidence 0.95 | yes |"
        in (to_markdown(result.checks))
    )


def test_a_rejection_says_what_was_observed_and_required() -> None:
    result = judge([Gate(metric="roc_auc", min=0.75), Gate(metric="log_loss", max=0.4)], BETTER)
    assert result.verdict == "reject"
    assert result.reason == (
        "reject: roc_auc is 0.74, required ≥ 0.75; log_loss is 0.5, required ≤ 0.4; champion v7"
    )


@pytest.mark.parametrize(("improvement", "expected"), [(0.0, "promote"), (0.02, "promote"), (0.06, "reject")])
def test_a_smaller_loss_is_an_improvement(improvement: float, expected: str) -> None:
    assert verdict(Gate(metric="log_loss", min_improvement=improvement)) == expected


def test_confidence_judges_the_lower_end_in_the_better_direction() -> None:
    assert verdict(Gate(metric="log_loss", min_improvement=0.03, confidence=0.95)) == "promote"
    assert verdict(Gate(metric="log_loss", min_improvement=0.031, confidence=0.95)) == "reject"
    assert verdict(Gate(metric="roc_auc", versus="champion", confidence=0.99)) == "reject"


def test_slices_are_judged_where_they_are_large_enough() -> None:
    assert verdict(Gate(metric="roc_auc", slices="all", max_drop=0.03)) == "promote"
    assert verdict(Gate(metric="roc_auc", slices="all", max_drop=0.01)) == "reject"
    assert verdict(Gate(metric="roc_auc", slices="all", max_drop=0.03, min_support=50)) == "reject"
    assert verdict(Gate(metric="roc_auc", slices="all", max_drop=0.03, min_support=1000)) == "reject"


def test_a_slice_that_the_candidate_lacks_fails() -> None:
    lacking = replace(BETTER, candidate=scores(0.74))
    result = judge([Gate(metric="roc_auc", slices="all", max_drop=0.9)], lacking)
    assert [check.name for check in result.checks if not check.passed] == [
        "roc_auc of carrier=AA against the champion"
    ]


def test_without_a_champion_comparisons_hold_with_a_note() -> None:
    alone = replace(BETTER, champion=None, champion_version=None, differences={})
    gates = [Gate(metric="roc_auc", versus="champion", confidence=0.95), Gate(metric="roc_auc", max_drop=0.1)]
    result = judge(gates, alone)
    assert result.verdict == "promote"
    assert {check.note for check in result.checks[1:]} == {"no champion yet"}
    assert result.reason.endswith("; no champion yet")


@pytest.mark.parametrize(
    "broken",
    [
        replace(BETTER, champion=None),
        replace(BETTER, holdout_sha256="other"),
        replace(BETTER, rows=0),
        replace(BETTER, champion=replace(scores(0.71), holdout_sha256="other")),
        replace(BETTER, candidate=replace(scores(0.74), metrics={})),
        replace(BETTER, champion=replace(scores(0.71), metrics={"roc_auc": float("nan")})),
        replace(BETTER, candidate=replace(scores(0.74), metrics={"roc_auc": float("inf")})),
        replace(BETTER, differences={}),
    ],
)
def test_what_cannot_be_computed_is_rejected(broken: Evaluation) -> None:
    assert verdict(Gate(metric="roc_auc", versus="champion", confidence=0.95), broken) == "reject"


def test_a_gate_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="the gate on roc_auc asks for nothing"):
        Gate(metric="roc_auc")
    with pytest.raises(ConfigError, match="unknown metric"):
        judge([Gate(metric="rocauc", min=0.5)], BETTER)
