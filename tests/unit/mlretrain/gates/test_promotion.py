"""Promotion gates: what holds, what fails, and what a reader is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.gates.evidence import markdown
from mlretrain.gates.promotion import (
    Evaluation,
    FunctionResult,
    Gate,
    Interval,
    Scores,
    SliceScores,
    judge,
)
from mlretrain.wire import from_wire, to_wire


def scores(auc: float, loss: float = 0.5, **carriers: tuple[int, float]) -> Scores:
    slices = {name: SliceScores(n=n, metrics={"roc_auc": value}) for name, (n, value) in carriers.items()}
    return Scores(
        holdout_sha256="abc", metrics={"roc_auc": auc, "log_loss": loss}, slices={"carrier": slices}
    )


BETTER = Evaluation(
    holdout_sha256="abc",
    rows=950,
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
        "| improvement of roc_auc | 0.74 against 0.71, at least 0.01 | ≥ 0 with confidence 0.95 | yes |  |"
        in markdown(result.checks)
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
    assert [check.name for check in result.checks if not check.passed] == ["drop of roc_auc in carrier=AA"]


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


def test_slices_that_are_too_small_are_counted() -> None:
    check = judge([Gate(metric="roc_auc", slices="all", max_drop=0.03)], BETTER).checks[1]
    assert check.note == "900 rows; not judged: 1 with fewer than 100 rows"


def test_the_worst_slice_is_named_even_when_all_hold() -> None:
    gate = Gate(metric="roc_auc", slices="all", max_drop=0.9, min_support=50)
    assert judge([gate], BETTER).reason == (
        "promote: all 3 checks hold (roc_auc 0.74, worst of 2 slices: drop of roc_auc in carrier=UA is "
        "0.8 (0.1 against 0.9)); champion v7"
    )


def test_a_rejection_names_the_worst_slice_and_counts_the_others() -> None:
    gates = [
        Gate(metric="roc_auc", slices="all", max_drop=0.01, min_support=50),
        Gate(metric="roc_auc", slices="all", min=0.05, min_support=50),
    ]
    assert judge(gates, BETTER).reason == (
        "reject: worst of 2 slices, 2 of which fail: drop of roc_auc in carrier=UA is 0.8 (0.1 against 0.9), "
        "required ≤ 0.01; worst of 2 slices: roc_auc in carrier=UA is 0.1; champion v7"
    )


def test_rows_in_no_slice_fail_the_gate() -> None:
    result = judge([Gate(metric="roc_auc", slices="all", max_drop=0.9)], replace(BETTER, rows=1000))
    assert "rows in slices of carrier is 950, required all 1000" in result.reason


def test_an_interval_is_taken_from_the_method_asked_for() -> None:
    narrow = Interval(estimate=0.03, low=0.02, high=0.04, confidence=0.95)
    both = replace(BETTER, delong={"roc_auc": narrow})
    gate = Gate(metric="roc_auc", versus="champion", min_improvement=0.02, confidence=0.95)
    assert verdict(gate, both) == "reject"
    assert verdict(replace(gate, method="delong"), both) == "promote"
    assert verdict(replace(gate, method="delong")) == "reject"


@pytest.mark.parametrize("end", [float("nan"), float("-inf")])
def test_an_interval_without_ends_is_none(end: float) -> None:
    unknown = {"roc_auc": Interval(estimate=0.03, low=end, high=0.04, confidence=0.95)}
    result = judge(
        [Gate(metric="roc_auc", versus="champion", confidence=0.95)], replace(BETTER, differences=unknown)
    )
    assert "0.74 against 0.71, without such an interval" in result.reason


def costs(candidate: dict[str, float], champion: dict[str, float]) -> Evaluation:
    return replace(
        BETTER,
        candidate=replace(BETTER.candidate, metrics=candidate),
        champion=replace(scores(0.7), metrics=champion),
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(15.0, 10.0, "promote"), (15.1, 10.0, "reject"), (1.0, 0.0, "reject"), (float("nan"), 10.0, "reject")],
)
def test_a_cost_may_be_so_many_times_the_champions(ours: float, theirs: float, expected: str) -> None:
    measured = costs({"latency_p95_ms": ours}, {"latency_p95_ms": theirs})
    assert verdict(Gate(metric="latency_p95_ms", versus="champion", max_ratio=1.5), measured) == expected
    assert verdict(Gate(metric="latency_p95_ms", versus="champion", max_ratio=1.5)) == "reject"


def test_a_cost_is_judged_by_itself_too() -> None:
    measured = costs({"latency_p95_ms": 40.0, "model_size_mb": 210.0}, {})
    assert verdict(Gate(metric="latency_p95_ms", max=50), measured) == "promote"
    result = judge([Gate(metric="model_size_mb", max=200)], measured)
    assert result.reason == "reject: model_size_mb is 210, required ≤ 200; champion v7"


@pytest.mark.parametrize(
    ("gap", "support", "expected"),
    [
        (0.6, 50, "promote"),
        (0.59, 50, "reject"),
        (0.9, 100, "reject"),
    ],
)
def test_groups_are_treated_alike(gap: float, support: int, expected: str) -> None:
    gate = Gate(metric="roc_auc", groups="carrier", max_gap=gap, min_support=support)
    assert verdict(gate) == expected


def test_a_gap_names_the_best_and_the_worst_group() -> None:
    three = replace(
        BETTER, rows=1150, candidate=scores(0.74, 0.5, AA=(900, 0.7), B6=(200, 0.8), UA=(50, 0.1))
    )
    result = judge([Gate(metric="roc_auc", groups="carrier", max_gap=0.05)], three)
    check = result.checks[1]
    assert check.name == "gap of roc_auc by carrier"
    assert check.observed == "0.1 (best carrier=B6 0.8 with 200 rows, worst carrier=AA 0.7 with 900 rows)"
    assert check.note == "not judged: 1 with fewer than 100 rows"


def test_the_best_group_of_a_loss_has_the_smallest() -> None:
    slices = {
        name: SliceScores(n=475, metrics={"log_loss": loss}) for name, loss in {"AA": 0.3, "UA": 0.5}.items()
    }
    lossy = replace(BETTER, candidate=replace(BETTER.candidate, slices={"carrier": slices}), champion=None)
    check = judge([Gate(metric="log_loss", groups="carrier", max_gap=0.1)], lossy).checks[1]
    assert check.observed.startswith("0.2 (best carrier=AA 0.3")


@pytest.mark.parametrize("column", ["carrier", "origin"])
def test_a_gap_between_groups_that_were_not_scored_fails(column: str) -> None:
    unscored = {"AA": SliceScores(n=900, metrics={}), "UA": SliceScores(n=50, metrics={"roc_auc": 0.7})}
    evaluation = replace(BETTER, candidate=replace(BETTER.candidate, slices={"carrier": unscored}))
    result = judge([Gate(metric="roc_auc", groups=column, max_gap=1, min_support=10)], evaluation)
    assert "not measured" in result.reason
    assert result.verdict == "reject"


CUSTOM = Gate(function="flights.gates:check")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (FunctionResult(passed=True, observed="3", required="≤ 5"), "promote: all 2 checks hold"),
        (FunctionResult(passed=True), "promote: all 2 checks hold"),
        (FunctionResult(passed=False, observed="7", required="≤ 5"), "check is 7, required ≤ 5"),
        (FunctionResult(passed=True, error="KeyError: 'x'"), "check is KeyError: 'x', required holds"),
        (None, "check is not asked by the evaluation, required holds"),
    ],
)
def test_a_function_of_ones_own_is_judged_by_what_the_evaluation_kept(
    result: FunctionResult | None, reason: str
) -> None:
    kept = {} if result is None else {"flights.gates:check": result}
    assert reason in judge([CUSTOM], replace(BETTER, functions=kept)).reason


def test_an_evaluation_from_before_these_gates_is_still_judged() -> None:
    kept = to_wire(BETTER)
    old = {name: value for name, value in kept.items() if name not in ("delong", "functions")}
    assert from_wire(Evaluation, old) == BETTER
    assert verdict(Gate(metric="latency_p95_ms", max=50), from_wire(Evaluation, old)) == "reject"


def test_a_gate_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="the gate on roc_auc asks for nothing"):
        Gate(metric="roc_auc")
    with pytest.raises(ConfigError, match="unknown metric"):
        judge([Gate(metric="rocauc", min=0.5)], BETTER)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({}, "on a metric or a function"),
        ({"metric": "f1", "function": "a:b"}, "on a metric or a function"),
        ({"function": "a:b", "min": 1.0}, "judges by itself"),
        ({"metric": "f1", "groups": "carrier"}, "`max_gap` need each other"),
        ({"metric": "f1", "min": 0.5, "confidence": 0.9}, "`confidence` needs"),
        (
            {"metric": "f1", "versus": "champion", "confidence": 0.9, "method": "delong"},
            "needs `metric: roc_auc`",
        ),
        ({"metric": "roc_auc", "versus": "champion", "method": "delong"}, "`confidence`"),
        ({"metric": "f1", "versus": "champion", "max_ratio": 1.5}, "less is better"),
        ({"metric": "f1", "versus": "champion", "slices": "all"}, "`slices` needs"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(gate: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gate(**gate)
