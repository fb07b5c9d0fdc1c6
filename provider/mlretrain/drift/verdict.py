"""The verdict on a window and what it rests on, in data and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from mlretrain.drift.domain import DomainShift
from mlretrain.drift.metrics import Method
from mlretrain.drift.profile import Kind
from mlretrain.verdict import Drift

REPORT_VERSION = 2

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "ks": "KS",
        "wasserstein": "Wasserstein",
        "psi": "PSI",
        "jensen_shannon": "Jensen–Shannon",
        "total_variation": "total variation",
        "chi_squared": "chi-squared",
        "missing_rate": "missing rate",
        "new_category_share": "new categories",
        "projection": "projection KS",
        "centroid": "centroid shift",
    }
)
"""The methods' names for people."""

_NAMED = 3
"""Columns named in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column's verdict: it drifted when ``effect − noise > threshold``.

    :param method: one of our own; or what another engine calls its own, whose verdict then stands.
    :param importance: the column's share of the champion's feature importance.
    :param note: why the column could not be measured; then nothing else is said of it.
    :param schema: whether that is because the column is gone or of another kind.
    """

    name: str
    kind: Kind
    method: Method | str
    effect: float
    threshold: float
    noise: float
    drifted: bool
    missing_rate: float
    reference_missing_rate: float
    importance: float | None = None
    note: str | None = None
    schema: bool = False

    @property
    def limit(self) -> float:
        """The effect beyond which the column drifts."""
        return self.threshold + self.noise

    def __str__(self) -> str:
        if self.note:
            return f"{self.name} {self.note}"
        sign = ">" if self.effect > self.limit else "≤"
        return f"{self.name} {LABELS.get(self.method, self.method)} {self.effect:.2g} {sign} {self.limit:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """The verdict on a window.

    :param signals: by name whether something is violated; ``None`` where it could not be measured.
    :param share: the drifted columns' share of the importance; ``required_share`` makes the window drift.
    :param reference: what the window was compared with, in words.
    :param columns: what could not be measured first, then what drifted, by effect × importance.
    :param prediction: the verdict on the predictions, if they were judged.
    :param schema: columns that are gone or have changed their kind, in sentences.
    :param quality: what is wrong with the values themselves, in sentences.
    :param new_columns: columns that the reference does not know; reported, not judged.
    :param summary: one sentence.
    :param engine: who measured.
    """

    version: int = REPORT_VERSION
    verdict: Drift
    signals: Mapping[str, bool | None] = field(default_factory=dict)
    share: float = 0.0
    required_share: float = 0.0
    rows: int = 0
    reference_rows: int = 0
    reference: str = ""
    columns: tuple[ColumnDrift, ...] = ()
    prediction: ColumnDrift | None = None
    domain: DomainShift | None = None
    schema: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    new_columns: tuple[str, ...] = ()
    summary: str
    start: datetime | None = None
    end: datetime | None = None
    engine: Literal["mlretrain", "evidently"] = "mlretrain"


def unknown_report(reason: str, *, reference: str = "", rows: int = 0) -> DriftReport:
    """The report on a window that could not be measured at all."""
    return DriftReport(
        verdict="unknown",
        signals=dict.fromkeys(("drift", "prediction", "domain", "schema", "quality")),
        rows=rows,
        reference=reference,
        summary=f"unknown: {reason}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """All that a verdict is made of.

    :param rows: those of the smaller side.
    :param stuck: whether all rows of the window are alike, which those of the reference are not.
    """

    rows: int
    min_rows: int
    required_share: float
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift | None
    domain: DomainShift | None
    schema: tuple[str, ...]
    quality: tuple[str, ...]
    stuck: bool = False

    @property
    def measured(self) -> list[ColumnDrift]:
        """The columns that could be."""
        return [each for each in self.columns if each.note is None]

    @property
    def drifted(self) -> list[ColumnDrift]:
        """Those that did."""
        return [each for each in self.columns if each.drifted]

    @property
    def share(self) -> float:
        """The drifted columns' part of the measured columns' importance."""
        return _importance(self.drifted) / (_importance(self.measured) or 1.0)

    @property
    def unmeasured_share(self) -> float:
        """The part of the importance that nothing is known about."""
        return 1.0 - _importance(self.measured) if self.columns else 0.0


def _importance(columns: Sequence[ColumnDrift]) -> float:
    return sum(each.importance or 0.0 for each in columns)


def summarise(found: Finding) -> tuple[Drift, str]:
    """The verdict and its sentence."""
    reason = _why_unknown(found)
    if reason is not None:
        return "unknown", f"unknown: {reason}"
    drifted, others = found.drifted, [each for each in (found.prediction, found.domain) if each is not None]
    reached = bool(drifted) and found.share >= found.required_share
    sign = "≥" if found.share >= found.required_share else "<"
    parts = [
        f"{len(drifted)} of {len(found.measured)} columns drifted "
        f"(share {found.share:.3g} {sign} {found.required_share:.3g})"
    ]
    if drifted:
        parts[0] += f": {_names(drifted)}"
    parts += [str(each) for each in others]
    parts += [_some(found.schema), _some(found.quality)]
    text = "; ".join(part for part in parts if part)
    return "drift" if reached or any(each.drifted for each in others) else "stable", text


def _why_unknown(found: Finding) -> str | None:
    if found.rows < max(1, found.min_rows):
        return f"{found.rows} rows, at least {max(1, found.min_rows)} are needed"
    if not found.columns and found.prediction is None:
        return "there is no column to judge"
    unmeasured = [each for each in found.columns if each.note]
    if unmeasured and found.unmeasured_share >= found.required_share:
        return (
            f"{len(unmeasured)} of {len(found.columns)} columns, {found.unmeasured_share:.0%} of the "
            f"importance, cannot be measured: {_names(unmeasured)}"
        )
    if found.stuck:
        return "every row holds the same values"
    return None


def _names(columns: Sequence[ColumnDrift]) -> str:
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return f"{', '.join(str(each) for each in columns[:_NAMED])}{more}"


def _some(sentences: Sequence[str]) -> str:
    more = f" and {len(sentences) - _NAMED} more" if len(sentences) > _NAMED else ""
    return f"{'; '.join(sentences[:_NAMED])}{more}"
