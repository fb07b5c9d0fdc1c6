"""Has the data drifted? Effects beyond a tolerance and beyond their noise, column by column and together.

A column drifts when ``effect − noise > threshold``. The noise is the larger of what the reference's own
time chunks show and of what so few rows can show by chance, so the verdict on one distribution does not
change with the number of rows, and clustered or seasonal data does not cry wolf. Many columns are many
chances to be wrong; that is dealt with once, at the data set's level, where a share of the columns has to
drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from mlretrain.drift.metrics import METHODS, Method, measure, sampling_noise
from mlretrain.drift.profile import ColumnProfile, DriftProfile, Kind
from mlretrain.errors import ConfigError
from mlretrain.verdict import Drift

REPORT_VERSION = 1

THRESHOLDS: Mapping[Method, float] = MappingProxyType(
    {
        "ks": 0.02,
        "wasserstein": 0.1,
        "psi": 0.1,
        "jensen_shannon": 0.1,
        "total_variation": 0.02,
        "chi_squared": 0.02,
        "missing_rate": 0.05,
        "new_category_share": 0.05,
    }
)
"""The tolerance of each method where none is given."""

_AUTO: Mapping[Kind, Method] = MappingProxyType(
    {
        "numeric": "ks",
        "text": "ks",
        "categorical": "total_variation",
        "boolean": "total_variation",
        # Instants move on with the calendar; only their absence says something.
        "datetime": "missing_rate",
    }
)
_LABELS: Mapping[Method, str] = MappingProxyType(
    {
        "ks": "KS",
        "wasserstein": "Wasserstein",
        "psi": "PSI",
        "jensen_shannon": "Jensen–Shannon",
        "total_variation": "total variation",
        "chi_squared": "chi-squared",
        "missing_rate": "missing rate",
        "new_category_share": "new categories",
    }
)
_NAMED_COLUMNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnPolicy:
    """How a column is judged.

    :param method: ``auto`` takes Kolmogorov–Smirnov for numbers, total variation for categories, and looks at
        the missing rate too.
    :param threshold: the tolerated effect; by method where left out.
    """

    method: Method | Literal["auto"] = "auto"
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPolicy:
    """How a window is judged.

    :param columns: exceptions from ``defaults`` by column.
    :param share: the window drifts when at least this share of the judged columns does.
    :param min_rows: with fewer rows the verdict is ``insufficient``.
    :param prediction_threshold: the tolerated effect on ``prediction_column``; that column alone makes the
        window drift. ``None``: predictions are not judged.
    """

    defaults: ColumnPolicy = ColumnPolicy()
    columns: Mapping[str, ColumnPolicy | Literal["ignore"]] = field(default_factory=dict)
    share: float = 0.3
    min_rows: int = 1000
    prediction_threshold: float | None = None
    prediction_column: str = "prediction"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column's verdict; it drifted when ``effect − noise > threshold``, or for what ``note`` says."""

    name: str
    kind: Kind
    method: Method
    effect: float
    threshold: float
    noise: float
    drifted: bool
    missing_rate: float
    reference_missing_rate: float
    note: str | None = None

    @property
    def limit(self) -> float:
        """The effect beyond which the column drifts."""
        return self.threshold + self.noise

    def __str__(self) -> str:
        if self.note:
            return f"{self.name} {self.note}"
        sign = ">" if self.drifted else "≤"
        return f"{self.name} {_LABELS[self.method]} {self.effect:.2g} {sign} {self.limit:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """The verdict on a window.

    :param share: share of the judged columns that drifted; ``required_share`` makes the window drift.
    :param columns: the judged columns, the furthest beyond its limit first.
    :param prediction: the verdict on the predictions, if they were judged.
    :param new_columns: columns that the reference does not know; reported, not judged.
    :param missing_columns: columns of the reference that the window has lost; each counts as drifted.
    :param summary: one sentence.
    """

    version: int = REPORT_VERSION
    verdict: Drift
    share: float
    required_share: float
    rows: int
    reference_rows: int
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift | None = None
    new_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    summary: str
    start: datetime | None = None
    end: datetime | None = None


def compare(reference: DriftProfile, current: DriftProfile, policy: DriftPolicy) -> DriftReport:
    """The verdict on ``current``, best profiled with ``reference`` so that both count in the same bins.

    Raises :class:`ConfigError` if a column's method means nothing for its kind.
    """
    judged = [
        judge_column(column, current.column(column.name), rule)
        for column in reference.columns
        if (rule := _rule(policy, column.name)) is not None
    ]
    judged.sort(key=_rank)
    prediction = _prediction(reference, current, policy)
    drifted = [each for each in judged if each.drifted]
    share = len(drifted) / len(judged) if judged else 0.0
    names = {column.name for column in current.columns}
    known = {column.name for column in reference.columns} | {policy.prediction_column}
    verdict, summary = _verdict(judged, prediction, share, min(current.rows, reference.rows), policy)
    return DriftReport(
        verdict=verdict,
        share=share,
        required_share=policy.share,
        rows=current.rows,
        reference_rows=reference.rows,
        columns=tuple(judged),
        prediction=prediction,
        new_columns=tuple(sorted(names - known)),
        missing_columns=tuple(each.name for each in judged if each.name not in names),
        summary=summary,
        start=current.start,
        end=current.end,
    )


def judge_column(reference: ColumnProfile, current: ColumnProfile | None, rule: ColumnPolicy) -> ColumnDrift:
    """One column's verdict; ``current`` is ``None`` if the window has lost the column."""
    automatic = _AUTO[reference.kind]
    methods: list[Method] = [automatic, "missing_rate"] if rule.method == "auto" else [rule.method]
    unfit = [method for method in methods if method not in METHODS[reference.kind]]
    if unfit:
        raise ConfigError(
            f"{unfit[0]} means nothing for a {reference.kind} column",
            where=f"drift.columns.{reference.name}.method",
            found=unfit[0],
            allowed=", ".join(("auto", *METHODS[reference.kind])),
        )
    if current is None:
        return _broken(reference, None, "has vanished")
    if current.kind != reference.kind and current.valued:
        return _broken(reference, current, f"has changed from {reference.kind} to {current.kind}")
    found = [_drift(method, reference, current, _threshold(rule, method, methods[0])) for method in methods]
    return next((each for each in found if each.drifted), found[0])


def _threshold(rule: ColumnPolicy, method: Method, first: Method) -> float:
    """The rule's own threshold is about its method, not about the missing rate that ``auto`` adds."""
    return rule.threshold if rule.threshold is not None and method == first else THRESHOLDS[method]


def _drift(method: Method, reference: ColumnProfile, current: ColumnProfile, threshold: float) -> ColumnDrift:
    effect = measure(method, reference, current)
    noise = max(sampling_noise(method, reference, current), reference.noise.get(method, 0.0))
    return ColumnDrift(
        name=reference.name,
        kind=reference.kind,
        method=method,
        effect=effect,
        threshold=threshold,
        noise=noise,
        drifted=effect - noise > threshold,
        missing_rate=current.missing_rate,
        reference_missing_rate=reference.missing_rate,
    )


def _broken(reference: ColumnProfile, current: ColumnProfile | None, note: str) -> ColumnDrift:
    return ColumnDrift(
        name=reference.name,
        kind=reference.kind,
        method="missing_rate",
        effect=1.0,
        threshold=THRESHOLDS["missing_rate"],
        noise=0.0,
        drifted=True,
        missing_rate=current.missing_rate if current else 1.0,
        reference_missing_rate=reference.missing_rate,
        note=note,
    )


def _rank(column: ColumnDrift) -> tuple[bool, float, str]:
    return not column.drifted, -column.effect / max(column.limit, 1e-9), column.name


def _rule(policy: DriftPolicy, name: str) -> ColumnPolicy | None:
    if name == policy.prediction_column:
        return None
    rule = policy.columns.get(name, policy.defaults)
    return None if rule == "ignore" else rule


def _prediction(reference: DriftProfile, current: DriftProfile, policy: DriftPolicy) -> ColumnDrift | None:
    expected = reference.column(policy.prediction_column)
    if expected is None or policy.prediction_threshold is None:
        return None
    rule = ColumnPolicy(threshold=policy.prediction_threshold)
    return judge_column(expected, current.column(policy.prediction_column), rule)


def _verdict(
    judged: Sequence[ColumnDrift],
    prediction: ColumnDrift | None,
    share: float,
    rows: int,
    policy: DriftPolicy,
) -> tuple[Drift, str]:
    if rows < policy.min_rows or not rows:
        return "insufficient", f"insufficient: {rows} rows, at least {max(1, policy.min_rows)} are needed"
    if not judged and prediction is None:
        return "insufficient", "insufficient: there is no column to judge"
    drifted = [each for each in judged if each.drifted]
    reached = bool(drifted) and share >= policy.share
    sign = "≥" if share >= policy.share else "<"
    text = f"{len(drifted)} of {len(judged)} columns drifted (share {share:.2f} {sign} {policy.share:.2f})"
    if drifted:
        more = f" and {len(drifted) - _NAMED_COLUMNS} more" if len(drifted) > _NAMED_COLUMNS else ""
        text += f": {', '.join(str(each) for each in drifted[:_NAMED_COLUMNS])}{more}"
    if prediction is not None:
        text += f"; {prediction}"
    return "drift" if reached or (prediction is not None and prediction.drifted) else "stable", text
