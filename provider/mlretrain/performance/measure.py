"""One window of answers measured: on its labels if there are enough, else estimated, else not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.errors import InvalidInput
from mlretrain.intervals import score_interval, time_blocks
from mlretrain.performance.calibration import Calibration
from mlretrain.performance.estimate import ESTIMABLE, estimate, expected
from mlretrain.performance.policy import (
    LEAST_LABELLED,
    Basis,
    Group,
    PerformancePolicy,
    PerformanceReport,
    Score,
    requirement,
    spell,
    worse_than_allowed,
)
from mlretrain.performance.truth import by_prediction, judged, probabilities
from mlretrain.scoring import score

if TYPE_CHECKING:
    from mlretrain.performance.labels import Answers, Counts, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """What is known of the model whose answers are measured.

    :param own: its evaluation of the metric in question.
    :param calibration: what its log means, as its evaluation found.
    :param notes: what could not be read about it.
    """

    version: str
    own: Score | None = None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    basis: Basis
    score: Score
    metrics: dict[str, float]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def measure(
    answers: Answers, policy: PerformancePolicy, champion: Champion, *, seed: int, trouble: str | None = None
) -> PerformanceReport:
    """The report on one window.

    :param answers: joined with their labels, as far as there are any.
    :param trouble: why there are no labels at all, if so.
    """
    counts = answers.counts
    if not counts.answers:
        return unmeasured(policy, _nothing(counts, champion), champion, counts)
    why_not = trouble or _shortage(policy, counts)
    found: _Found | None = None
    if why_not is None:
        try:
            found = _on_labels(answers, policy, champion, seed)
        except InvalidInput as error:
            why_not = str(error)
    if found is None and policy.estimate == "auto":
        try:
            found = _estimated(answers, policy, champion, seed)
        except InvalidInput as error:
            why_not = f"{why_not}; no estimate: {error}"
    if found is None:
        return unmeasured(policy, str(why_not), champion, counts)
    return _report(policy, champion, counts, found, why_not)


def unmeasured(
    policy: PerformancePolicy, reason: str, champion: Champion | None = None, counts: Counts | None = None
) -> PerformanceReport:
    """The report on a window about which nothing is known, for a reason."""
    return PerformanceReport(
        verdict="unknown",
        basis="none",
        summary=f"{policy.metric} is not measured: {reason}",
        notes=champion.notes if champion else (),
        metrics={},
        **_asked(policy, champion),
        **_counted(counts),
    )


def _nothing(counts: Counts, champion: Champion) -> str:
    if counts.unusable:
        return f"none of the {counts.unusable:,} predictions of champion v{champion.version} is usable"
    return f"none of the {counts.logged:,} predictions in the window is of champion v{champion.version}"


def _shortage(policy: PerformancePolicy, counts: Counts) -> str | None:
    said = f"{_percent(counts.coverage)} of {counts.answers:,} predictions have a label"
    if counts.coverage < policy.min_coverage:
        return f"{said}, {_percent(policy.min_coverage)} needed"
    if counts.labelled < LEAST_LABELLED:
        return f"{counts.labelled:,} of {counts.answers:,} predictions have a label, {LEAST_LABELLED} needed"
    return None


def _on_labels(answers: Answers, policy: PerformancePolicy, champion: Champion, seed: int) -> _Found:
    rows = answers.rows(labelled=True)
    known = judged(policy.metric, rows.predictions, rows.labels, champion.calibration)
    blocks = None if rows.seconds is None else time_blocks(rows.seconds)
    value, low, high = score_interval(
        policy.metric,
        known.truth,
        known.predictions,
        confidence=policy.confidence,
        seed=seed,
        blocks=blocks,
    )
    return _Found(
        basis="labels",
        score=_score(policy.metric, value, low, high),
        metrics=_finite(score(known.metrics, known.truth, known.predictions)),
        groups=known.groups(),
        notes=(*_sampled(rows, answers.counts.labelled), _blocks(blocks)),
    )


def _estimated(answers: Answers, policy: PerformancePolicy, champion: Champion, seed: int) -> _Found:
    calibration = champion.calibration
    if policy.metric not in ESTIMABLE:
        raise InvalidInput(f"{policy.metric} cannot be estimated without labels")
    if calibration is None:
        raise InvalidInput(f"champion v{champion.version} has no calibration; its next retraining makes one")
    if calibration.reason is not None:
        raise InvalidInput(calibration.reason)
    rows = answers.rows(labelled=False)
    scores = probabilities(rows.predictions)
    blocks = None if rows.seconds is None else time_blocks(rows.seconds)
    value, low, high = estimate(
        policy.metric, scores, calibration, confidence=policy.confidence, seed=seed, seconds=rows.seconds
    )
    return _Found(
        basis="estimate",
        score=_score(policy.metric, value, low, high),
        metrics=_finite(expected(ESTIMABLE, scores, calibration)),
        groups=by_prediction(scores, calibration.probability(scores)),
        notes=(*_sampled(rows, answers.counts.answers), _blocks(blocks)),
    )


def _score(metric: str, value: float, low: float, high: float) -> Score:
    if not all(math.isfinite(each) for each in (value, low, high)):
        raise InvalidInput(f"{metric} is not defined on these rows", found="too few cases of one class")
    return Score(value=value, low=low, high=high)


def _report(
    policy: PerformancePolicy, champion: Champion, counts: Counts, found: _Found, why_not: str | None
) -> PerformanceReport:
    violated = worse_than_allowed(policy, found.score, champion.own)
    basis = (
        f"on {_percent(counts.coverage)} labelled of {counts.answers:,} predictions"
        if found.basis == "labels"
        else f"estimated without labels ({why_not})"
    )
    required = requirement(policy, champion.own)
    exact = Score(value=found.score.value, low=found.score.value, high=found.score.value)
    misses = worse_than_allowed(policy, exact, champion.own and Score(value=champion.own.value))
    doubt = ", missed within the margin of chance" if misses and not violated else ""
    return PerformanceReport(
        verdict="unknown" if violated is None else "violated" if violated else "fine",
        basis=found.basis,
        value=found.score.value,
        low=found.score.low,
        high=found.score.high,
        summary=f"{policy.metric} {spell(found.score)} {basis}, required {required}{doubt}",
        notes=(*found.notes, *_left_out(counts), *champion.notes),
        metrics=found.metrics,
        groups=found.groups,
        **_asked(policy, champion),
        **_counted(counts),
    )


def _asked(policy: PerformancePolicy, champion: Champion | None) -> dict[str, Any]:
    own = champion.own if champion else None
    return {
        "metric": policy.metric,
        "confidence": policy.confidence,
        "min": policy.min,
        "max_drop": policy.max_drop,
        "champion_value": own.value if own else None,
        "champion_low": own.low if own else None,
        "champion_high": own.high if own else None,
    }


def _counted(counts: Counts | None) -> dict[str, Any]:
    if counts is None:
        return {}
    return {"coverage": counts.coverage, "rows": counts.answers, "labelled": counts.labelled}


def _left_out(counts: Counts) -> list[str]:
    said = {
        "predictions were left out for later ones with the same key": counts.repeated,
        "predictions were no numbers or missing": counts.unusable,
        "predictions have labels that contradict each other, so none": counts.contradictory,
    }
    return [f"{count:,} {what}" for what, count in said.items() if count]


def _sampled(rows: Rows, of: int) -> list[str]:
    scored = len(rows.predictions)
    return [f"scored on {scored:,} rows drawn by their key"] if scored < of else []


def _blocks(blocks: Any) -> str:
    if blocks is None:
        return "the interval takes rows as independent: their times are unknown or too few"
    return f"the interval is drawn from {int(blocks.max()) + 1:,} blocks of time"


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _percent(share: float) -> str:
    """Rounded down, so that what is too little does not look like enough."""
    return f"{math.floor(100 * share)} %"
