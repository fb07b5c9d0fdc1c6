"""Has the data drifted? Effects beyond a tolerance and beyond their noise, column by column and together.

A column drifts when ``effect − noise > threshold``. The noise is the larger of what the reference's own
time chunks show and of what so few rows can show by chance, so the verdict on one distribution does not
change with the number of rows, and clustered or seasonal data does not cry wolf. Many columns are many
chances to be wrong: the bounds on chance are for all columns together, and the data set drifts only when
columns that carry ``share`` of the champion's feature importance do.

What cannot be measured never says "drift" and never "stable": it says ``unknown`` and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType
from typing import Literal

from mlretrain.drift.domain import THRESHOLD as DOMAIN_THRESHOLD
from mlretrain.drift.domain import DomainShift
from mlretrain.drift.evidently import EvidentlyResult, judged_by
from mlretrain.drift.metrics import METHODS, Method, measure
from mlretrain.drift.noise import noise
from mlretrain.drift.profile import ColumnProfile, DriftProfile, Kind
from mlretrain.drift.verdict import ColumnDrift, DriftReport, Finding, summarise
from mlretrain.errors import ConfigError
from mlretrain.verdict import Drift

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
        "projection": 0.02,
        "centroid": 0.05,
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
        "embedding": "projection",
    }
)


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
    :param share: the window drifts when columns with at least this share of the importance do.
    :param min_rows: with fewer rows the verdict is ``unknown``.
    :param prediction_threshold: the tolerated effect on ``prediction_column``; that column alone makes the
        window drift. ``None``: predictions are not judged.
    :param domain_threshold: the tolerated AUC of a classifier that tells the window from the reference.
    :param missing: the tolerated change of a column's missing rate.
    :param new_categories: the tolerated growth of the share of values that the reference does not list.
    """

    defaults: ColumnPolicy = ColumnPolicy()
    columns: Mapping[str, ColumnPolicy | Literal["ignore"]] = field(default_factory=dict)
    share: float = 0.3
    min_rows: int = 1000
    prediction_threshold: float | None = None
    prediction_column: str = "prediction"
    domain_threshold: float = DOMAIN_THRESHOLD
    missing: float = THRESHOLDS["missing_rate"]
    new_categories: float = THRESHOLDS["new_category_share"]


def compare(
    reference: DriftProfile,
    current: DriftProfile,
    policy: DriftPolicy,
    *,
    importance: Mapping[str, float] | None = None,
    domain: DomainShift | None = None,
    evidently: EvidentlyResult | None = None,
    against: str = "the reference",
) -> DriftReport:
    """The verdict on ``current``, best profiled with ``reference`` so that both count in the same bins.

    :param importance: the champion's feature importance; without any every column counts the same.
    :param domain: what a domain classifier found.
    :param evidently: its verdict on each column, which then goes before ours.
    :param against: what the reference is, in words.
    :raises ConfigError: a column's method means nothing for its kind.
    """
    rules = {each.name: rule for each in reference.columns if (rule := _rule(policy, each.name)) is not None}
    judge = _Judge(policy=policy, comparisons=len(rules), chunk_rows=reference.chunk_rows)
    weights = _weights(list(rules), importance or {})
    columns = [
        judge.column(column, current.column(column.name), rules[column.name], weights[column.name])
        for column in reference.columns
        if column.name in rules
    ]
    if evidently is not None:
        columns = judged_by(evidently, columns)
    if domain is not None:
        domain = domain.judged(policy.domain_threshold)
    columns.sort(key=_rank)
    finding = Finding(
        rows=min(current.rows, reference.rows),
        min_rows=policy.min_rows,
        required_share=policy.share,
        columns=tuple(columns),
        prediction=_prediction(judge, reference, current),
        domain=domain,
        schema=tuple(f"{each.name} {each.note}" for each in columns if each.schema),
        quality=tuple(_quality(judge, reference, current, rules)),
        stuck=_stuck(current, rules) and not _stuck(reference, rules),
    )
    verdict, summary = summarise(finding)
    if evidently is not None and evidently.note:
        verdict, summary = "unknown", f"unknown: {evidently.note}"
    known = {column.name for column in reference.columns} | {policy.prediction_column}
    return DriftReport(
        verdict=verdict,
        signals=_signals(verdict, finding),
        share=finding.share,
        required_share=policy.share,
        rows=current.rows,
        reference_rows=reference.rows,
        reference=against,
        columns=finding.columns,
        prediction=finding.prediction,
        domain=domain,
        schema=finding.schema,
        quality=finding.quality,
        new_columns=tuple(sorted({each.name for each in current.columns} - known)),
        summary=summary,
        start=current.start,
        end=current.end,
        engine="evidently" if evidently is not None else "mlretrain",
    )


def _rule(policy: DriftPolicy, name: str) -> ColumnPolicy | None:
    if name == policy.prediction_column:
        return None
    rule = policy.columns.get(name, policy.defaults)
    return None if rule == "ignore" else rule


def _weights(names: Sequence[str], importance: Mapping[str, float]) -> dict[str, float]:
    """Each column's share of the importance."""
    given = {name: max(0.0, importance.get(name, 0.0)) for name in names}
    total = sum(given.values())
    return {name: each / total if total else 1 / len(names) for name, each in given.items()}


def _rank(column: ColumnDrift) -> tuple[bool, bool, float, str]:
    weighted = column.effect / max(column.limit, 1e-9) * (column.importance or 0.0)
    return column.note is None, not column.drifted, -weighted, column.name


def _prediction(judge: _Judge, reference: DriftProfile, current: DriftProfile) -> ColumnDrift | None:
    policy = judge.policy
    expected = reference.column(policy.prediction_column)
    if expected is None or policy.prediction_threshold is None:
        return None
    if not expected.noise:
        expected = replace(expected, noise=_usual_noise(reference))
    rule = ColumnPolicy(threshold=policy.prediction_threshold)
    return judge.column(expected, current.column(policy.prediction_column), rule, None)


def _usual_noise(reference: DriftProfile) -> dict[str, float]:
    """The median of what the features' time chunks show: answers come in the clusters that questions do."""
    by_method: dict[str, list[float]] = {}
    for column in reference.columns:
        for method, each in column.noise.items():
            by_method.setdefault(method, []).append(each)
    return {method: median(each) for method, each in by_method.items()}


def _quality(
    judge: _Judge, reference: DriftProfile, current: DriftProfile, rules: Mapping[str, ColumnPolicy]
) -> list[str]:
    """What is wrong with the values themselves, in sentences."""
    found = []
    for expected in reference.columns:
        column = current.column(expected.name)
        if expected.name not in rules or column is None or not column.n:
            continue
        missing = judge.measured("missing_rate", expected, column, judge.policy.missing)
        if missing.drifted:
            found.append(
                f"{expected.name} is missing in {column.missing_rate:.1%} of the rows "
                f"instead of {expected.missing_rate:.1%}"
            )
        if expected.kind == "categorical" and column.kind == "categorical":
            fresh = judge.measured("new_category_share", expected, column, judge.policy.new_categories)
            if fresh.drifted:
                names = ", ".join(name for name, _ in column.fresh[:3])
                found.append(f"{expected.name} has new values in {fresh.effect:.1%} of the rows: {names}")
    return found


def _stuck(profile: DriftProfile, names: Iterable[str]) -> bool:
    """Whether all rows are alike in several columns, at least as far as their cells tell."""
    kept = [each for name in names if (each := profile.column(name)) is not None and each.valued > 1]
    return len(kept) > 1 and all(max((each.other, *each.counts)) == each.valued for each in kept)


def _signals(verdict: Drift, finding: Finding) -> dict[str, bool | None]:
    enough = finding.rows >= max(1, finding.min_rows)
    prediction, domain = finding.prediction, finding.domain
    return {
        "drift": {"drift": True, "stable": False}.get(verdict),
        "prediction": prediction.drifted if enough and prediction and not prediction.note else None,
        "domain": domain.drifted if enough and domain else None,
        "schema": bool(finding.schema) if finding.rows else None,
        "quality": bool(finding.quality) if enough else None,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Judges columns that are judged together.

    :param comparisons: how many they are.
    :param chunk_rows: rows of the chunks that the reference has learnt its noise from.
    """

    policy: DriftPolicy
    comparisons: int
    chunk_rows: int

    def column(
        self,
        reference: ColumnProfile,
        current: ColumnProfile | None,
        rule: ColumnPolicy,
        importance: float | None,
    ) -> ColumnDrift:
        """One column's verdict; ``current`` is ``None`` if the window has lost the column."""
        methods = self._methods(reference, rule)
        broken = _broken(reference, current)
        if broken is not None or current is None:
            return _unmeasured(reference, current, methods[0], broken or "has vanished", importance)
        found = [
            self.measured(method, reference, current, self._threshold(rule, method, methods[0]), importance)
            for method in methods
        ]
        return next((each for each in found if each.drifted), found[0])

    def measured(
        self,
        method: Method,
        reference: ColumnProfile,
        current: ColumnProfile,
        threshold: float,
        importance: float | None = None,
    ) -> ColumnDrift:
        """The effect by one method, beside its noise and the tolerance."""
        effect = measure(method, reference, current)
        chance = noise(method, reference, current, comparisons=self.comparisons, chunk_rows=self.chunk_rows)
        return ColumnDrift(
            name=reference.name,
            kind=reference.kind,
            method=method,
            effect=effect,
            threshold=threshold,
            noise=chance,
            drifted=effect - chance > threshold,
            missing_rate=current.missing_rate,
            reference_missing_rate=reference.missing_rate,
            importance=importance,
        )

    def _methods(self, reference: ColumnProfile, rule: ColumnPolicy) -> list[Method]:
        if rule.method == "auto":
            return list(dict.fromkeys((_AUTO[reference.kind], "missing_rate")))
        if rule.method in METHODS[reference.kind]:
            return [rule.method]
        raise ConfigError(
            f"{rule.method} means nothing for a {reference.kind} column",
            where=f"drift.columns.{reference.name}.method",
            found=rule.method,
            allowed=", ".join(("auto", *METHODS[reference.kind])),
        )

    def _threshold(self, rule: ColumnPolicy, method: Method, first: Method) -> float:
        """The rule's own threshold is about its method, not about the missing rate that ``auto`` adds."""
        if rule.threshold is not None and method == first:
            return rule.threshold
        return self.policy.missing if method == "missing_rate" else THRESHOLDS[method]


def _broken(reference: ColumnProfile, current: ColumnProfile | None) -> str | None:
    """Why a column cannot be measured."""
    if current is None:
        return "has vanished"
    if current.kind != reference.kind and current.valued:
        return f"has changed from {reference.kind} to {current.kind}"
    if not current.valued and reference.valued:
        return "has no values"
    if not reference.valued and current.valued:
        return "has no values in the reference"
    return None


def _unmeasured(
    reference: ColumnProfile,
    current: ColumnProfile | None,
    method: Method,
    note: str,
    importance: float | None,
) -> ColumnDrift:
    return ColumnDrift(
        name=reference.name,
        kind=reference.kind,
        method=method,
        effect=0.0,
        threshold=THRESHOLDS[method],
        noise=0.0,
        drifted=False,
        missing_rate=current.missing_rate if current else 1.0,
        reference_missing_rate=reference.missing_rate,
        importance=importance,
        note=note,
        schema=current is None or (current.kind != reference.kind and bool(current.valued)),
    )
