"""Whatever is missing, no number or too small: gates answer, and less evidence never helps a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain.gates.evidence import MANY, WORST, markdown, text
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

METRICS = ("roc_auc", "log_loss", "latency_p95_ms")
CARRIERS = ("AA", "B6", "UA")
FUNCTION = "flights.gates:check"

values = st.floats(0, 1) | st.sampled_from([float("nan"), float("inf"), 0.0])
bounds = st.floats(0, 1)
some = st.dictionaries(st.sampled_from(METRICS), values)
every = st.fixed_dictionaries(dict.fromkeys(METRICS, bounds))

absolute = st.builds(Gate, metric=st.sampled_from(METRICS), min=bounds, max=st.none() | bounds)
versus = st.builds(
    Gate,
    metric=st.sampled_from(METRICS[:2]),
    versus=st.just("champion"),
    min_improvement=st.none() | st.floats(-0.5, 0.5),
    confidence=st.sampled_from([None, 0.9, 0.95, 0.99]),
)
delong = st.builds(
    Gate, metric=st.just("roc_auc"), versus=st.just("champion"), confidence=bounds, method=st.just("delong")
)
ratio = st.builds(
    Gate, metric=st.sampled_from(METRICS[1:]), versus=st.just("champion"), max_ratio=st.floats(0.5, 3)
)
sliced = st.builds(
    Gate,
    metric=st.sampled_from(METRICS[:2]),
    slices=st.just("all"),
    min=st.none() | bounds,
    max_drop=bounds,
    min_support=st.integers(1, 60),
)
groups = st.builds(
    Gate,
    metric=st.sampled_from(METRICS[:2]),
    groups=st.just("carrier"),
    max_gap=bounds,
    min_support=st.integers(1, 60),
)
gates = st.one_of(absolute, versus, delong, ratio, sliced, groups, st.just(Gate(function=FUNCTION)))

intervals = st.dictionaries(
    st.sampled_from(METRICS[:2]),
    st.builds(
        Interval,
        estimate=values,
        low=values,
        high=values,
        confidence=st.sampled_from([0.9, 0.95, float("nan")]),
    ),
)


@st.composite
def scores(draw: st.DrawFn, sizes: dict[str, int], *, whole: bool) -> Scores:
    metrics = every if whole else some
    slices = {name: SliceScores(n=n, metrics=draw(metrics)) for name, n in sizes.items()}
    return Scores(
        holdout_sha256="a" if whole else draw(st.sampled_from(["a", "b", ""])),
        metrics=draw(metrics),
        slices={"carrier": slices} if slices else {},
    )


@st.composite
def evaluations(draw: st.DrawFn, *, whole: bool) -> Evaluation:
    """Evaluations of which everything, or anything, is there and a number."""
    sizes = draw(st.dictionaries(st.sampled_from(CARRIERS), st.integers(0, 100)))
    version = draw(st.sampled_from([None, "7", "7"]))
    results = st.builds(FunctionResult, passed=st.booleans(), error=st.sampled_from([None, "raised"]))
    return Evaluation(
        holdout_sha256="a",
        rows=sum(sizes.values()) or draw(st.integers(0, 100)),
        candidate=draw(scores(sizes, whole=whole)),
        champion=draw(scores(sizes, whole=whole) if whole else st.none() | scores(sizes, whole=False))
        if version
        else None,
        champion_version=version,
        differences=draw(intervals),
        delong=draw(intervals),
        functions=draw(st.dictionaries(st.just(FUNCTION), results)),
    )


def lesser(evaluation: Evaluation) -> Iterator[Evaluation]:
    """The evaluation without one piece of its evidence, for each piece."""
    for name in ("differences", "delong", "functions"):
        for key in getattr(evaluation, name):
            changes: dict[str, Any] = {name: _without(getattr(evaluation, name), key)}
            yield replace(evaluation, **changes)
    for each in _lesser_scores(evaluation.candidate):
        yield replace(evaluation, candidate=each)
    if evaluation.champion is not None:
        yield replace(evaluation, champion=None)
        for each in _lesser_scores(evaluation.champion):
            yield replace(evaluation, champion=each)
        for value in evaluation.candidate.slices.get("carrier", {}):
            both = [_without_slice(one, value) for one in (evaluation.candidate, evaluation.champion)]
            yield replace(evaluation, candidate=both[0], champion=both[1])


def _lesser_scores(scores: Scores) -> Iterator[Scores]:
    yield replace(scores, holdout_sha256="")
    yield from (replace(scores, metrics=_without(scores.metrics, metric)) for metric in scores.metrics)
    for value, part in scores.slices.get("carrier", {}).items():
        yield _without_slice(scores, value)
        for metric in part.metrics:
            less = replace(part, metrics=_without(part.metrics, metric))
            yield replace(scores, slices={"carrier": {**scores.slices["carrier"], value: less}})


def _without(given: Any, key: str) -> Any:
    return {name: value for name, value in given.items() if name != key}


def _without_slice(scores: Scores, value: str) -> Scores:
    return replace(scores, slices={"carrier": _without(scores.slices.get("carrier", {}), value)})


@settings(max_examples=500)
@given(gates, evaluations(whole=True) | evaluations(whole=False))
def test_a_gate_that_fails_stays_failed_with_less_evidence(gate: Gate, evaluation: Evaluation) -> None:
    if judge([gate], evaluation).verdict == "reject":
        assert {judge([gate], each).verdict for each in lesser(evaluation)} <= {"reject"}


@given(st.lists(gates, max_size=4), evaluations(whole=False))
def test_any_evaluation_is_judged_and_can_be_shown(many: list[Gate], evaluation: Evaluation) -> None:
    verdict = judge(many, evaluation)
    assert (verdict.verdict == "promote") == all(check.passed for check in verdict.checks)
    assert verdict.verdict == "reject" or evaluation.rows > 0
    assert len(text(verdict.checks)) == len(verdict.checks) + 1
    assert len(markdown(verdict.checks)) < 400 * (len(verdict.checks) + 2)
    assert to_wire(from_wire(Evaluation, to_wire(evaluation))) == to_wire(evaluation)


@given(sliced, evaluations(whole=True))
def test_a_promotion_over_slices_has_seen_every_row(gate: Gate, evaluation: Evaluation) -> None:
    if judge([gate], evaluation).verdict == "promote":
        slices = evaluation.candidate.slices["carrier"]
        assert sum(each.n for each in slices.values()) == evaluation.rows
        judged = [each for each in slices.values() if each.n >= gate.min_support]
        assert judged
        assert all(each.metrics[str(gate.metric)] >= (gate.min or 0) for each in judged)


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_table_of_slices_stays_small(failing: int, holding: int) -> None:
    sizes = {
        f"{i:04}": SliceScores(n=100, metrics={"f1": float(i >= failing)}) for i in range(failing + holding)
    }
    evaluation = Evaluation(
        holdout_sha256="a",
        rows=100 * len(sizes),
        candidate=Scores(holdout_sha256="a", metrics={}, slices={"carrier": sizes}),
    )
    checks = judge([Gate(metric="f1", slices="all", min=0.5)], evaluation).checks
    assert markdown(checks).count("| **no** |") >= min(failing, MANY)
    assert markdown(checks).count("\n") <= 2 + 3 + MANY + WORST + 2
