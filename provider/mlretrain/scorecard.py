"""What a model version scored, as tables: beside the champion, by slices, in calibration and in cost."""

from __future__ import annotations

from mlretrain.dossier import Dossier
from mlretrain.gates.evaluation import Interval, Scores, SliceScores
from mlretrain.markdown import literal, table
from mlretrain.metrics import COSTS, higher_is_better
from mlretrain.verdict import number

WORST = 5
"""Slices that are shown, and features."""


def scores(dossier: Dossier) -> str:
    """The metrics of the whole holdout, the champion's beside them; empty if it was not evaluated."""
    found = dossier.evaluation
    if found is None:
        return ""
    names = [each for each in found.candidate.metrics if each not in COSTS]
    champion = f"champion v{found.champion_version}" if found.champion_version else "champion"
    rows = [
        (
            name,
            number(found.candidate.metrics[name]) + _interval(found.intervals.get(name)),
            number(found.champion.metrics.get(name)) if found.champion else "none",
            _interval(found.differences.get(name), estimate=True).strip(),
            "more" if higher_is_better(name) else "less",
        )
        for name in names
    ]
    return table(("metric", f"v{dossier.version.version}", champion, "difference", "better is"), rows)


def costs(dossier: Dossier) -> str:
    """Latency of single predictions and size; empty if they were not measured."""
    found = dossier.evaluation
    known = [each for each in COSTS if found and each in found.candidate.metrics]
    if found is None or not known:
        return ""
    rows = [(each, _metric(found.candidate, each), _metric(found.champion, each)) for each in known]
    return table(("", f"v{dossier.version.version}", "champion"), rows)


def slices(dossier: Dossier) -> str:
    """The slices that it is worst at, by the metric that the gates ask about first."""
    found, metric = dossier.evaluation, _judged_metric(dossier)
    if found is None or metric is None:
        return ""
    scored = [
        (f"{column}={value}", mine, _slice(found.champion, column, value))
        for column, values in found.candidate.slices.items()
        for value, mine in values.items()
        if metric in mine.metrics
    ]
    sign = 1.0 if higher_is_better(metric) else -1.0
    worst = sorted(scored, key=lambda each: sign * each[1].metrics[metric])[:WORST]
    rows = [
        (literal(name), f"{mine.n:,}", number(mine.metrics[metric]), _metric(theirs, metric))
        for name, mine, theirs in worst
    ]
    head = (f"by {metric}, of {len(scored)}", "rows", f"v{dossier.version.version}", "champion")
    return table(head, rows) if rows else ""


def _judged_metric(dossier: Dossier) -> str | None:
    """The first metric that a gate asks about, of those that slices are scored by."""
    found, gated = dossier.evaluation, dossier.last("gated")
    if found is None:
        return None
    scored = [
        name
        for values in found.candidate.slices.values()
        for each in values.values()
        for name in each.metrics
    ]
    asked = [gate.get("metric") for gate in (gated.evidence.get("gates") or () if gated else ())]
    return next((each for each in (*asked, *scored) if each in scored), None)


def calibration(dossier: Dossier) -> str:
    """How often its probabilities come true."""
    found = dossier.calibration
    if found is None:
        return ""
    if found.error is None:
        return f"Not known: {literal(found.reason or 'there are no probabilities')}.\n"
    bins = table(
        ("mean prediction", *map(number, found.scores)), [("share of positives", *map(number, found.shares))]
    )
    return f"Expected calibration error {number(found.error)} on {found.rows:,} rows.\n\n{bins}"


def importance(dossier: Dossier) -> str:
    """The features that it relies on most."""
    found = dossier.importance
    if found is None or not found.values:
        return ""
    most = sorted(found.values.items(), key=lambda each: -each[1])[:WORST]
    how = "the model's own measure" if found.method == "native" else f"by shuffling columns, {found.metric}"
    return f"{', '.join(f'{literal(name)} {value:.0%}' for name, value in most)} ({how}).\n"


def _metric(scores: Scores | SliceScores | None, name: str) -> str:
    return number(scores.metrics.get(name)) if scores else "none"


def _slice(scores: Scores | None, column: str, value: str) -> SliceScores | None:
    return scores.slices.get(column, {}).get(value) if scores else None


def _interval(interval: Interval | None, *, estimate: bool = False) -> str:
    if interval is None:
        return ""
    middle = f"{number(interval.estimate)} " if estimate else " "
    return f"{middle}({number(interval.low)} to {number(interval.high)}, {interval.confidence:.0%})"
