"""What a DAG does, for the people who see it in Airflow."""

from __future__ import annotations

from collections.abc import Callable

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan.describe_promotion import describe_promotion
from mlretrain_factory.plan.describe_scoring import describe_scoring
from mlretrain_factory.plan.describe_watch import describe_watch
from mlretrain_factory.plan.model import DagKind
from mlretrain_factory.spec.quantity import format_duration
from mlretrain_factory.spec.tuning import TuningSpec, direction_of

_BAD_DATA = {
    "fail": "Data that fails validation fails the run.",
    "warn": "Data that fails validation is reported, and trained on.",
    "skip": "Data that fails validation ends the run without a training.",
    "quarantine": "Rows that fail validation are set aside.",
}


def describe(source: PipelineSource, kind: DagKind) -> str:
    """The DAG's documentation, in Markdown."""
    spec = source.spec
    tellers: dict[DagKind, Callable[[], list[str]]] = {
        "retrain": lambda: _retrain(source),
        "monitor": lambda: describe_watch(spec),
        "rollback": _rollback,
        "score": lambda: describe_scoring(source),
    }
    title = [spec.description, ""] if spec.description else []
    written = f"Written in `{source.path.name}`; owner: {spec.owner}."
    return "\n".join([*title, *(f"- {line}" for line in tellers[kind]()), "", written])


def _retrain(source: PipelineSource) -> list[str]:
    spec = source.spec
    training, checks = spec.data.training, spec.validation
    window = f", the last {format_duration(training.window)}" if training.window else ""
    return [
        f"Trains on `{training.uri}`{window}; predicts `{spec.data.target}`.",
        *([_BAD_DATA[checks.on_failure]] if checks else []),
        *([_describe_search(spec.train.tune, spec.evaluate.metrics[0])] if spec.train.tune else []),
        *describe_promotion(source),
        "Triggered by hand, it trains on the data up to the form's Logical Date.",
    ]


def _describe_search(tune: TuningSpec, first_metric: str) -> str:
    metric = tune.metric or first_metric
    best = "highest" if (tune.direction or direction_of(metric)) == "maximize" else "lowest"
    names = ", ".join(f"`{name}`" for name in sorted(tune.space))
    at_a_time = f", {tune.parallelism} at a time," if tune.parallelism > 1 else ""
    return f"Searches {names} in {tune.trials} trials{at_a_time} for the {best} `{metric}`."


def _rollback() -> list[str]:
    return ["Takes the model back to an earlier version: trigger it, say to which and why."]
