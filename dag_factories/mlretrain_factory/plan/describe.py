"""What a DAG does, for the people who see it in Airflow."""

from __future__ import annotations

from mlretrain_factory.plan.describe_watch import describe_watch
from mlretrain_factory.plan.model import DagKind
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.promotion import GateSpec
from mlretrain_factory.spec.quantity import format_duration
from mlretrain_factory.spec.tuning import TuningSpec, direction_of

_BAD_DATA = {
    "fail": "Data that fails validation fails the run.",
    "warn": "Data that fails validation is reported, and trained on.",
    "skip": "Data that fails validation ends the run without a training.",
    "quarantine": "Rows that fail validation are set aside.",
}


def describe(spec: PipelineSpec, kind: DagKind, file: str) -> str:
    """The DAG's documentation, in Markdown."""
    lines = {"retrain": _retrain, "monitor": describe_watch, "rollback": _rollback}[kind](spec)
    title = [spec.description, ""] if spec.description else []
    return "\n".join(
        [*title, *(f"- {line}" for line in lines), "", f"Written in `{file}`; owner: {spec.owner}."]
    )


def describe_gate(gate: GateSpec) -> str:
    """A gate in words."""
    parts = []
    if gate.min is not None:
        parts.append(f"at least {gate.min:g}")
    if gate.max is not None:
        parts.append(f"at most {gate.max:g}")
    if gate.min_improvement is not None:
        sure = f" ({gate.confidence:.0%} sure)" if gate.confidence else ""
        parts.append(f"better than the champion's by at least {gate.min_improvement:g}{sure}")
    if gate.max_drop is not None:
        parts.append(f"in no slice worse than the champion's by more than {gate.max_drop:g}")
    return f"`{gate.metric}` {', '.join(parts)}"


def _retrain(spec: PipelineSpec) -> list[str]:
    training = spec.data.training
    window = f", the last {format_duration(training.window)}" if training.window else ""
    checks = spec.validation
    deploy = spec.deploy
    stages = ", ".join(f"{stage.traffic} % for {format_duration(stage.bake)}" for stage in deploy.stages)
    rollout = {
        "none": "Promotion moves the alias `champion`; nothing is served.",
        "direct": "Promotion gives it all traffic at once.",
        "canary": f"Rolled out to {stages}, then to all; rolled back when a guard is exceeded.",
    }[deploy.strategy]
    return [
        f"Trains on `{training.uri}`{window}; predicts `{spec.data.target}`.",
        *([_BAD_DATA[checks.on_failure]] if checks else []),
        *([_describe_search(spec.train.tune, spec.evaluate.metrics[0])] if spec.train.tune else []),
        f"Promoted when {'; '.join(describe_gate(gate) for gate in spec.promote.gates)}.",
        rollout,
        "Triggered by hand, it trains on the data up to the form's Logical Date.",
    ]


def _describe_search(tune: TuningSpec, first_metric: str) -> str:
    metric = tune.metric or first_metric
    best = "highest" if (tune.direction or direction_of(metric)) == "maximize" else "lowest"
    names = ", ".join(f"`{name}`" for name in sorted(tune.space))
    at_a_time = f", {tune.parallelism} at a time," if tune.parallelism > 1 else ""
    return f"Searches {names} in {tune.trials} trials{at_a_time} for the {best} `{metric}`."


def _rollback(spec: PipelineSpec) -> list[str]:
    return ["Takes the model back to an earlier version: trigger it, say to which and why."]
