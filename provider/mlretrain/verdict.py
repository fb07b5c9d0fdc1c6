"""What every decision is made of: checks that say what was observed and what was required."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Promotion = Literal["promote", "reject"]
Rollout = Literal["advance", "hold", "roll_back"]
Retraining = Literal["retrain", "keep"]
Drift = Literal["drift", "stable", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of a decision, in words that a person can follow.

    :param observed: the value that was found, or why there is none.
    :param required: the condition that it had to meet.
    :param note: what else a reader should know.
    :param one_of: the condition that many checks alike ask of different things, such as the slices of a
        holdout; of those the worst comes first.
    """

    name: str
    passed: bool
    observed: str
    required: str
    note: str | None = None
    one_of: str | None = None


def number(value: float | None) -> str:
    """A value for people: four significant digits, or ``not measured``."""
    if value is None:
        return "not measured"
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def usable(value: float | None) -> bool:
    """Whether there is a value to judge: ``None``, NaN and infinities are none."""
    return value is not None and math.isfinite(value)


def failures(checks: Iterable[Check]) -> str:
    """The checks that failed, as one clause: ``roc_auc is 0.65, required ≥ 0.7; …``."""
    return "; ".join(
        f"{check.name} is {check.observed}, required {check.required}" for check in checks if not check.passed
    )
