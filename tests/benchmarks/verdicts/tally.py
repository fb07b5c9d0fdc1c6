"""Counts of verdicts, and how far a rate may be from what was counted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Z = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one rule said of reports on one sort of data.

    :param drift: reports whose verdict on the data set was drift; ``unknown`` the ones without a verdict.
    :param alarmed: reports with at least one column flagged.
    :param flagged: columns flagged, of ``columns`` in all reports.
    """

    reports: int = 0
    drift: int = 0
    unknown: int = 0
    alarmed: int = 0
    flagged: int = 0
    columns: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            reports=self.reports + other.reports,
            drift=self.drift + other.drift,
            unknown=self.unknown + other.unknown,
            alarmed=self.alarmed + other.alarmed,
            flagged=self.flagged + other.flagged,
            columns=self.columns + other.columns,
        )

    @property
    def column_rate(self) -> float:
        """The share of columns flagged."""
        return self.flagged / self.columns if self.columns else math.nan


def one_report(flags: Iterable[bool], verdict: str) -> Tally:
    """The tally of a single report."""
    seen = list(flags)
    return Tally(
        reports=1,
        drift=int(verdict == "drift"),
        unknown=int(verdict == "unknown"),
        alarmed=int(any(seen)),
        flagged=sum(seen),
        columns=len(seen),
    )


def wilson_upper(found: int, of: int) -> float:
    """The upper end of Wilson's 95 % interval for a rate (Wilson 1927)."""
    if not of:
        return 1.0
    rate = found / of
    centre = rate + Z * Z / (2 * of)
    return (centre + Z * math.sqrt(rate * (1 - rate) / of + Z * Z / (4 * of * of))) / (1 + Z * Z / of)
