"""What is watched, what follows from it and who hears of it, for the people who see it in Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from mlretrain_factory.plan.wording import listed, named
from mlretrain_factory.spec.blackout import WEEKDAYS, BlackoutSpec
from mlretrain_factory.spec.drift import DriftSpec
from mlretrain_factory.spec.monitoring import MonitoringSpec, QualitySpec
from mlretrain_factory.spec.notification import Event
from mlretrain_factory.spec.performance import PerformanceSpec
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.quantity import format_duration
from mlretrain_factory.spec.retraining import RetrainingSpec, WhenSpec

_WEEKDAY_NAMES = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def describe_watch(spec: PipelineSpec) -> list[str]:
    """What the monitor measures and decides, a sentence or two each."""
    if spec.monitor is None:
        return []
    lines = [_comparison(spec.monitor), _drift(spec.monitor.drift), _quality(spec.monitor.quality)]
    if spec.monitor.performance is not None:
        lines.append(_performance(spec.monitor.performance))
    if spec.retrain is None:
        return [*lines, "Only reports: there is no `retrain` section."]
    return [*lines, *_policy(spec.retrain, {event for each in spec.notify for event in each.on})]


def _comparison(monitor: MonitoringSpec) -> str:
    age = monitor.drift.reference_age
    reference = {
        "champion": "the champion's training data",
        "previous_window": "the window before",
    }.get(str(monitor.drift.reference), f"the window of the same length {_span(age)} before")
    engine = ", by Evidently's presets" if monitor.drift.engine == "evidently" else ""
    where = f"the last {_span(monitor.data.window)} of `{monitor.data.source}`"
    return f"Compares {where} with {reference}{engine}."


def _drift(drift: DriftSpec) -> str:
    reasons = [f"{drift.share:.0%} of the columns do, weighted by importance"]
    if drift.prediction is not None:
        reasons.append(f"the answers do, by more than {drift.prediction.threshold:g}")
    if drift.domain is not None:
        reasons.append(
            f"a classifier tells its rows from the reference's with an AUC above {drift.domain.threshold:g}"
        )
    few = f"with fewer than {drift.defaults.min_rows} rows nothing is said"
    return f"A window drifts when {', or when '.join(reasons)}; {few}."


def _quality(quality: QualitySpec) -> str:
    missing = f"a column misses {quality.missing:.0%} more of its values"
    return f"Its quality is violated when {missing}, or {quality.new_categories:.0%} of them are new."


def _performance(performance: PerformanceSpec) -> str:
    from mlretrain.performance.estimate import ESTIMABLE

    limits = [f"below {performance.min:g}"] if performance.min is not None else []
    if performance.max_drop is not None:
        limits.append(f"worse by more than {performance.max_drop:g} than in the champion's own evaluation")
    labels = performance.labels
    estimated = performance.estimate == "auto" and performance.metric in ESTIMABLE
    until = "it is estimated" if estimated else "it is unknown"
    return (
        f"Measures `{performance.metric}` on the labels in `{labels.uri}`, which come {_span(labels.delay)} "
        f"late: violated when it is {listed(limits, 'or')}; "
        f"with labels of less than {performance.min_coverage:.0%} of the answers {until}."
    )


def _policy(retrain: RetrainingSpec, told: set[Event]) -> Iterator[str]:
    windows, escalate = retrain.windows, retrain.escalate
    violated = f"{_signals(retrain.when)} {'is' if _is_one(retrain.when) else 'are'} violated"
    warned = "a window" if escalate.warn == 1 else f"{escalate.warn} of the last {windows.of} windows"
    yield f"Warns when {violated} in {warned}{_unheard('warned', told)}."
    latest = ", the latest among them" if windows.latest else ""
    yield (
        f"Retrains when {violated} in {windows.violated} of the last {windows.of} windows{latest}; "
        f"at the earliest with the {_ordinal(max(windows.violated, retrain.warm_up + 1))} window "
        "that a champion is measured in."
    )
    limits = [f"{_span(retrain.cooldown)} after the last one"]
    limits += [f"with {retrain.min_new_rows} new rows"] if retrain.min_new_rows else []
    limits += [f"at most {retrain.budget.max} in {_span(retrain.budget.per)}"] if retrain.budget else []
    days = [_blackout(each) for each in retrain.blackout]
    never = f"; never {listed(days, 'or')}" if days else ""
    yield f"Retrains again at the earliest {', '.join(limits)}{never}."
    causes = [
        f"after {_in_a_row(escalate.page.failed_retrains, 'retraining')} that did not cure",
        f"after {_in_a_row(escalate.page.unknown, 'window')} of which nothing could be said",
        *([f"when {named(escalate.page.signals, 'or')} is violated"] if escalate.page.signals else []),
    ]
    yield f"Pages a person, and retrains nothing, {listed(causes, 'or')}{_unheard('paged', told)}."


def _signals(when: WhenSpec) -> str:
    return named(when.signals, "or" if when.kind == "any" else "and")


def _is_one(when: WhenSpec) -> bool:
    return when.kind == "any" or len(when.signals) == 1


def _unheard(event: Event, told: set[Event]) -> str:
    return "" if event in told else f" (no `notify` tells of `{event}`)"


def _blackout(blackout: BlackoutSpec) -> str:
    why = f" ({blackout.why})" if blackout.why else ""
    every = " of every year" if blackout.every else ""
    first, last = blackout.first, blackout.last
    span = f"on {first}" if first == last else f"from {first} to {last}"
    parts = [f"{span}{every}"] if first else []
    if blackout.weekdays:
        names = [_WEEKDAY_NAMES[WEEKDAYS.index(day)] for day in blackout.weekdays]
        parts.insert(0, f"on {listed(names, 'and')}")
    return f"{' '.join(parts)}{why}"


def _in_a_row(count: int, what: str) -> str:
    return f"a {what}" if count == 1 else f"{count} {what}s in a row"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


def _span(length: timedelta | None) -> str:
    return format_duration(length) if length else ""
