"""May this candidate become the champion? Every gate must hold; one that cannot be computed fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlretrain.errors import ConfigError
from mlretrain.metrics import higher_is_better
from mlretrain.verdict import Check, Promotion, failures, number, usable


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition on one metric; its fields are combined with *and*.

    :param min: the smallest allowed value, on the whole holdout or, with ``slices``, in each slice.
    :param max: the largest allowed value, likewise.
    :param versus: compare with the champion on the same holdout.
    :param min_improvement: how much better than the champion, in the metric's own unit and in its better
        direction; 0 if ``versus`` stands alone.
    :param confidence: judge the improvement by the lower end of its confidence interval, not by its estimate.
    :param slices: ``"all"`` applies ``min``, ``max`` and ``max_drop`` to every evaluated slice.
    :param max_drop: how much worse than the champion is tolerated, in the metric's own unit.
    :param min_support: slices with fewer rows are not judged.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    versus: Literal["champion"] | None = None
    min_improvement: float | None = None
    confidence: float | None = None
    slices: Literal["all"] | None = None
    max_drop: float | None = None
    min_support: int = 100

    def __post_init__(self) -> None:
        asks = (self.min, self.max, self.versus, self.min_improvement, self.max_drop)
        if all(each is None for each in asks):
            raise ConfigError(
                f"the gate on {self.metric} asks for nothing",
                allowed="min, max, versus, min_improvement, max_drop",
                remedy="Give it a condition or remove it.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceScores:
    """Scores on the rows of one slice; ``n`` rows."""

    n: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What one model scored on the holdout with that SHA-256; ``slices`` by column and value."""

    holdout_sha256: str
    metrics: Mapping[str, float]
    slices: Mapping[str, Mapping[str, SliceScores]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A score, or candidate minus champion, in the metric's own unit, with its confidence interval."""

    estimate: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All evidence on a candidate: its scores and the champion's on one frozen holdout.

    :param differences: candidate minus champion, by metric.
    :param intervals: the candidate's scores on the whole holdout, by metric.
    """

    holdout_sha256: str
    rows: int
    candidate: Scores
    champion: Scores | None = None
    champion_version: str | None = None
    differences: Mapping[str, Interval] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)


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
) -> PromotionVerdict:
    """The verdict on a candidate.

    Without any champion the comparisons hold (somebody has to be first); a champion that exists but was not
    scored on the same holdout fails them.

    :param metric_direction: whether a larger value of a metric is better.
    """
    checks = [_same_holdout(evaluation)]
    for gate in gates:
        checks += _gate_checks(gate, evaluation, 1.0 if metric_direction(gate.metric) else -1.0)
    versions = (
        f"champion v{evaluation.champion_version}" if evaluation.champion_version else "no champion yet"
    )
    if all(check.passed for check in checks):
        seen = {gate.metric: evaluation.candidate.metrics.get(gate.metric) for gate in gates}
        scores = ", ".join(f"{metric} {number(value)}" for metric, value in seen.items())
        reason = f"promote: all {len(checks)} checks hold" + (f" ({scores})" if scores else "")
        return PromotionVerdict(verdict="promote", reason=f"{reason}; {versions}", checks=tuple(checks))
    return PromotionVerdict(
        verdict="reject", reason=f"reject: {failures(checks)}; {versions}", checks=tuple(checks)
    )


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


def _gate_checks(gate: Gate, evaluation: Evaluation, sign: float) -> Iterator[Check]:
    judged = list(_slices(gate, evaluation)) if gate.slices else [_whole(gate, evaluation)]
    if gate.slices and not judged:
        yield Check(
            name=f"{gate.metric} in slices",
            passed=False,
            observed="not measured",
            required=f"a slice with at least {gate.min_support} rows",
            note="no slice could be judged",
        )
    for each in judged:
        yield from _bounds(gate, each)
        if gate.max_drop is not None:
            yield _drop(gate, each, evaluation, sign)
    if gate.versus or gate.min_improvement is not None:
        yield _improvement(gate, evaluation, sign)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One metric of both models on the same rows."""

    name: str
    candidate: float | None
    champion: float | None
    note: str | None = None


def _whole(gate: Gate, evaluation: Evaluation) -> _Pair:
    champion = evaluation.champion
    return _Pair(
        name=gate.metric,
        candidate=evaluation.candidate.metrics.get(gate.metric),
        champion=champion.metrics.get(gate.metric) if champion else None,
    )


def _slices(gate: Gate, evaluation: Evaluation) -> Iterator[_Pair]:
    """Every slice large enough in either model's scores, so that one the candidate leaves out fails."""
    candidate = evaluation.candidate.slices
    champion = evaluation.champion.slices if evaluation.champion else {}
    for column in sorted({*candidate, *champion}):
        ours, theirs = candidate.get(column, {}), champion.get(column, {})
        for value in sorted({*ours, *theirs}):
            mine, other = ours.get(value), theirs.get(value)
            rows = max(each.n for each in (mine, other) if each is not None)
            if rows >= gate.min_support:
                yield _Pair(
                    name=f"{gate.metric} of {column}={value}",
                    candidate=mine.metrics.get(gate.metric) if mine else None,
                    champion=other.metrics.get(gate.metric) if other else None,
                    note=f"{rows} rows",
                )


def _bounds(gate: Gate, pair: _Pair) -> Iterator[Check]:
    value = pair.candidate
    for bound, sign, symbol in ((gate.min, 1.0, "≥"), (gate.max, -1.0, "≤")):
        if bound is not None:
            yield Check(
                name=pair.name,
                passed=value is not None and usable(value) and sign * (value - bound) >= 0,
                observed=number(value),
                required=f"{symbol} {number(bound)}",
                note=pair.note,
            )


def _drop(gate: Gate, pair: _Pair, evaluation: Evaluation, sign: float) -> Check:
    name, required = f"{pair.name} against the champion", f"at most {number(gate.max_drop)} worse"
    if evaluation.champion_version is None and evaluation.champion is None:
        return _no_champion(name, required, passed=usable(pair.candidate), value=pair.candidate)
    ours, theirs = pair.candidate, pair.champion
    if ours is None or theirs is None or not (usable(ours) and usable(theirs)):
        return Check(
            name=name, passed=False, observed=f"{number(ours)} against {number(theirs)}", required=required
        )
    return Check(
        name=name,
        passed=gate.max_drop is not None and sign * (theirs - ours) <= gate.max_drop,
        observed=f"{number(ours)} against {number(theirs)}",
        required=required,
        note=pair.note,
    )


def _improvement(gate: Gate, evaluation: Evaluation, sign: float) -> Check:
    least = gate.min_improvement or 0.0
    name = f"improvement of {gate.metric}"
    required = f"≥ {number(least)}" + (
        f" with confidence {number(gate.confidence)}" if gate.confidence else ""
    )
    pair = _whole(gate, evaluation)
    ours, theirs = pair.candidate, pair.champion
    if evaluation.champion_version is None and evaluation.champion is None:
        return _no_champion(name, required, passed=usable(ours), value=ours)
    if ours is None or theirs is None or not (usable(ours) and usable(theirs)):
        return Check(
            name=name, passed=False, observed=f"{number(ours)} against {number(theirs)}", required=required
        )
    gained, observed = sign * (ours - theirs), f"{number(ours)} against {number(theirs)}"
    if gate.confidence is not None:
        interval = evaluation.differences.get(gate.metric)
        if interval is None or interval.confidence < gate.confidence - 1e-9:
            return Check(name=name, passed=False, observed=f"{observed}, no such interval", required=required)
        gained = interval.low if sign > 0 else -interval.high
        observed += f", at least {number(gained)}"
    return Check(
        name=name,
        passed=usable(gained) and gained >= least,
        observed=observed,
        required=required,
    )


def _no_champion(name: str, required: str, *, passed: bool, value: float | None) -> Check:
    return Check(name=name, passed=passed, observed=number(value), required=required, note="no champion yet")
