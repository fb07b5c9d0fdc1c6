"""Is the champion still good enough? A pure verdict on a score, its interval and what is required."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mlretrain.errors import ConfigError
from mlretrain.gates.promotion import Interval
from mlretrain.metrics import higher_is_better
from mlretrain.verdict import number, usable

Verdict = Literal["violated", "fine", "unknown"]
Basis = Literal["labels", "estimate", "none"]

LEAST_LABELLED = 100
"""Labelled rows below which labels say nothing, whatever their share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformancePolicy:
    """What is required of the champion's answers.

    :param min: the smallest allowed value of a metric whose larger values are better.
    :param max_drop: how much worse than in the champion's own evaluation it may be, in the metric's own unit.
    :param min_coverage: the labelled share of the answers that it takes to judge on labels.
    :param estimate: what to do with fewer: ``auto`` estimates without labels, ``never`` waits for them.
    :param confidence: level of the interval around the metric.
    """

    metric: str
    min: float | None = None
    max_drop: float | None = None
    min_coverage: float = 0.5
    estimate: Literal["auto", "never"] = "auto"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        where = "monitor.performance"
        if self.min is None and self.max_drop is None:
            raise ConfigError("nothing that performance must hold", where=where, allowed="min, max_drop")
        if not higher_is_better(self.metric) and self.min is not None:
            raise ConfigError(
                f"a lower {self.metric} is better, so it has no least value",
                where=f"{where}.min",
                remedy="Use max_drop: how much worse than in the champion's own evaluation it may be.",
            )
        if not 0 < self.confidence < 1:
            raise ConfigError("no level of confidence", where=where, found=str(self.confidence))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A metric of some rows with its interval; ``None`` where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Answers of about the same prediction.

    :param predicted: their mean prediction; the label, for people, where these are no numbers.
    :param observed: their mean label; the share of right answers where labels are no numbers; the calibrated
        probability where there are no labels.
    """

    predicted: float | str
    observed: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceReport:
    """The verdict on one window of answers, and what it rests on.

    :param basis: ``labels``, ``estimate`` (from the answers' own confidence), or ``none``.
    :param champion_value: the metric in the champion's own evaluation.
    :param coverage: the labelled share of ``rows``.
    :param rows: the champion's answers in the window.
    :param notes: what was decided about rows, in sentences.
    :param metrics: other metrics on the same basis.
    """

    version: int = 1
    verdict: Verdict
    basis: Basis
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float
    champion_value: float | None = None
    champion_low: float | None = None
    champion_high: float | None = None
    min: float | None = None
    max_drop: float | None = None
    coverage: float = 0.0
    rows: int = 0
    labelled: int = 0
    summary: str
    notes: tuple[str, ...] = ()
    metrics: dict[str, float]
    groups: tuple[Group, ...] = ()
    start: datetime | None = None
    end: datetime | None = None


def worse_than_allowed(policy: PerformancePolicy, score: Score, own: Score | None) -> bool | None:
    """Whether all of the score's interval misses what is required; ``None`` if that cannot be said.

    The interval of the drop is made from both intervals by the method of variance estimates recovery (Zou &
    Donner, Statistics in Medicine 27, 2008): the distances to the two ends that count, added as squares.
    """
    sign = 1.0 if higher_is_better(policy.metric) else -1.0
    best = score.high if sign > 0 else score.low
    if score.value is None or best is None:
        return None
    if policy.min is not None and best < policy.min:
        return True
    if policy.max_drop is None:
        return False
    if own is None or own.value is None:
        return None if policy.min is None else False
    worst = own.low if sign > 0 else own.high
    slack = math.hypot(best - score.value, 0.0 if worst is None else own.value - worst)
    return sign * (score.value - own.value) + slack < -policy.max_drop


def requirement(policy: PerformancePolicy, own: Score | None) -> str:
    """What is required, in words: ``≥ 0.65``."""
    parts = [f"≥ {number(policy.min)}"] if policy.min is not None else []
    if policy.max_drop is not None and own is not None and own.value is not None:
        sign, relation = (1.0, "≥") if higher_is_better(policy.metric) else (-1.0, "≤")
        limit = own.value - sign * policy.max_drop
        change = "less" if sign > 0 else "plus"
        parts.append(
            f"{relation} {number(limit)} (its evaluation's {spell(own)} {change} {number(policy.max_drop)})"
        )
    elif policy.max_drop is not None:
        parts.append(
            f"a drop of at most {number(policy.max_drop)} from its evaluation, which lacks the metric"
        )
    return " and ".join(parts)


def spell(score: Score) -> str:
    """``0.71 [0.69, 0.73]``."""
    ends = f" [{number(score.low)}, {number(score.high)}]" if usable(score.low) and usable(score.high) else ""
    return f"{number(score.value)}{ends}"


def own_score(value: float | None, interval: Interval | None) -> Score | None:
    """A champion's own evaluation of one metric."""
    if not usable(value):
        return None
    return Score(value=value, low=interval.low, high=interval.high) if interval else Score(value=value)
