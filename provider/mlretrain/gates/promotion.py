"""May this candidate become the champion? Every gate must hold; one that cannot be computed fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlretrain.gates import conditions
from mlretrain.gates.evaluation import Evaluation, FunctionResult, Interval, Scores, SliceScores
from mlretrain.gates.evidence import families
from mlretrain.gates.gate import Gate
from mlretrain.gates.slices import gap_checks, slice_checks
from mlretrain.metrics import higher_is_better
from mlretrain.verdict import Check, Promotion, failures, number

__all__ = [
    "Evaluation",
    "FunctionResult",
    "Gate",
    "Interval",
    "PromotionVerdict",
    "Scores",
    "SliceScores",
    "judge",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionVerdict:
    """Promote or reject, in one sentence, with each check that led there."""

    verdict: Promotion
    reason: str
    checks: tuple[Check, ...]


def judge(
    gates: Sequence[Gate],
    evaluation: Evaluation,
    *,
    metric_direction: Callable[[str], bool] = higher_is_better,
    beside: Sequence[Check] = (),
) -> PromotionVerdict:
    """The verdict on a candidate.

    Without any champion the comparisons hold (somebody has to be first); a champion that exists but was not
    scored on the same holdout fails them. Of gates on slices the reason names the worst slice in any case.

    :param metric_direction: whether a larger value of a metric is better.
    :param beside: checks made elsewhere that have to hold too.
    """
    checks = [_same_holdout(evaluation), *beside]
    for gate in gates:
        checks += _gate_checks(gate, evaluation, metric_direction)
    promoted = all(check.passed for check in checks)
    return PromotionVerdict(
        verdict="promote" if promoted else "reject",
        reason=f"{_because(gates, evaluation, checks)}; {_rival(evaluation)}",
        checks=tuple(checks),
    )


def _gate_checks(
    gate: Gate, evaluation: Evaluation, metric_direction: Callable[[str], bool]
) -> Iterator[Check]:
    if gate.function is not None:
        yield _function_check(gate.function, evaluation)
        return
    sign = 1.0 if metric_direction(str(gate.metric)) else -1.0
    pair = conditions.whole(gate, evaluation)
    if gate.slices:
        yield from slice_checks(gate, evaluation, sign)
    else:
        findings = [*conditions.bounds(gate, pair), *conditions.drop(gate, pair, sign)]
        yield from (finding.check for finding in findings)
    compared = [*conditions.improvement(gate, evaluation, sign), *conditions.ratio(gate, pair)]
    yield from (finding.check for finding in compared)
    yield from gap_checks(gate, evaluation, sign)


def _same_holdout(evaluation: Evaluation) -> Check:
    scored = {evaluation.candidate.holdout_sha256}
    if evaluation.champion is not None:
        scored.add(evaluation.champion.holdout_sha256)
    found = ", ".join(sorted(each[:12] or "none" for each in scored))
    return Check(
        name="holdout",
        passed=scored == {evaluation.holdout_sha256} and "" not in scored and evaluation.rows > 0,
        observed=f"{evaluation.rows} rows, {found}",
        required=f"some rows, {evaluation.holdout_sha256[:12] or 'a hash'}",
    )


def _function_check(name: str, evaluation: Evaluation) -> Check:
    result = evaluation.functions.get(name, FunctionResult(passed=False, error="not asked by the evaluation"))
    return Check(
        name=name,
        passed=result.passed is True and result.error is None,
        observed=result.error or result.observed or ("holds" if result.passed else "does not hold"),
        required=result.required or "holds",
    )


def _because(gates: Sequence[Gate], evaluation: Evaluation, checks: Sequence[Check]) -> str:
    worst = [_worst(members) for members in families(checks).values()]
    if not all(check.passed for check in checks):
        failed = failures(check for check in checks if check.one_of is None)
        return f"reject: {'; '.join(each for each in (failed, *worst) if each)}"
    metrics = dict.fromkeys(gate.metric for gate in gates if gate.metric)
    seen = [f"{metric} {number(evaluation.candidate.metrics.get(metric))}" for metric in metrics]
    inside = ", ".join([*seen, *worst])
    return f"promote: all {len(checks)} checks hold" + (f" ({inside})" if inside else "")


def _worst(members: Sequence[Check]) -> str:
    """The worst slice by name, and how many fail: ``worst of 14 slices: roc_auc in carrier=UA is 0.61 …``."""
    failed = sum(not check.passed for check in members)
    worst = members[0]
    said = failures([worst]) or f"{worst.name} is {worst.observed}"
    count = f", {failed} of which fail" if failed else ""
    return f"worst of {len(members)} slices{count}: {said}"


def _rival(evaluation: Evaluation) -> str:
    return f"champion v{evaluation.champion_version}" if evaluation.champion_version else "no champion yet"
