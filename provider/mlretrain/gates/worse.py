"""In what a candidate is worse than the champion, though its gates hold: people decide whether it may."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlretrain.gates.evaluation import Evaluation
from mlretrain.gates.gate import Gate
from mlretrain.metrics import higher_is_better
from mlretrain.verdict import number

MOST = 10
"""Clauses; of more, the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """One metric of both models on the same rows."""

    name: str
    ours: float | None
    theirs: float | None

    def lost(self, sign: float) -> float:
        """How much worse the candidate is; infinitely where one of the two is not known."""
        if self.ours is None or self.theirs is None:
            return math.inf
        lost = sign * (self.theirs - self.ours)
        return math.inf if math.isnan(lost) else lost

    def __str__(self) -> str:
        return f"{self.name} is {number(self.ours)}, the champion's {number(self.theirs)}"


def worse(
    gates: Sequence[Gate],
    evaluation: Evaluation,
    *,
    metric_direction: Callable[[str], bool] = higher_is_better,
) -> tuple[str, ...]:
    """A clause for each metric of a gate that is worse than the champion's, by its estimate.

    That is what a gate tolerates: a drop within ``max_drop``, a ratio within ``max_ratio``, an improvement
    that may be negative. Of gates on slices the worst slice is named. What is not known of either model
    counts as worse. Empty while there is no champion.
    """
    if evaluation.first:
        return ()
    found: dict[str, None] = {}
    for gate in gates:
        if gate.metric is not None:
            sign = 1.0 if metric_direction(gate.metric) else -1.0
            found |= dict.fromkeys(_clauses(gate, evaluation, sign))
    clauses = tuple(found)
    if len(clauses) <= MOST:
        return clauses
    return (*clauses[: MOST - 1], f"{len(clauses) - MOST + 1} more are worse")


def _clauses(gate: Gate, evaluation: Evaluation, sign: float) -> Iterator[str]:
    metric, champion = str(gate.metric), evaluation.champion
    whole = _Compared(
        name=metric,
        ours=evaluation.candidate.metrics.get(metric),
        theirs=champion.metrics.get(metric) if champion else None,
    )
    if whole.lost(sign) > 0:
        yield str(whole)
    parts = [each for each in _slices(gate, evaluation) if each.lost(sign) > 0] if gate.slices else []
    if parts:
        worst = max(parts, key=lambda each: each.lost(sign))
        yield f"{worst}" + (f" (the worst of {len(parts)} slices that are worse)" if parts[1:] else "")


def _slices(gate: Gate, evaluation: Evaluation) -> Iterator[_Compared]:
    metric, champion = str(gate.metric), evaluation.champion
    for column, values in evaluation.candidate.slices.items():
        rivals = champion.slices.get(column, {}) if champion else {}
        for value, ours in values.items():
            if ours.n >= gate.min_support:
                yield _Compared(
                    name=f"{metric} of {column}={value}",
                    ours=ours.metrics.get(metric),
                    theirs=rivals[value].metrics.get(metric) if value in rivals else None,
                )
