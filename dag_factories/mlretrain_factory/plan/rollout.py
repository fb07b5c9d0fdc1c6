"""Tasks that bring a candidate to the traffic, and take it back."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.model import TaskPlan, output
from mlretrain_factory.plan.serving import serving
from mlretrain_factory.spec.deployment import StageSpec


def rollout_tasks(source: PipelineSource, after: str) -> list[TaskPlan]:
    """Stages, promotion, and roll-back if a stage fails; ``after`` the task that lets the candidate go on."""
    deploy = source.spec.deploy
    tasks: list[TaskPlan] = []
    if deploy.strategy == "blue_green":
        tasks.append(_deploy(source, "rollout.prepare", after, {"mode": "standby"}))
    for i, stage in enumerate(deploy.stages, start=1):
        before = tasks[-1].task_id if tasks else after
        tasks += _stage(source, stage, f"rollout.stage_{i}", before)
    promote = TaskPlan(
        task_id="promote",
        operator="PromoteModelOperator",
        args={"version": output("register"), **serving(source), **rules.policies(source)},
        upstream=(tasks[-1].task_id if tasks else after,),
    )
    if not tasks:
        return [promote]
    roll_back = TaskPlan(
        task_id="roll_back",
        operator="RollBackModelOperator",
        args={"to": "champion", **serving(source)},
        upstream=tuple(task.task_id for task in tasks),
        trigger_rule="one_failed",
    )
    return [*tasks, promote, roll_back]


def _stage(source: PipelineSource, stage: StageSpec, group: str, before: str) -> list[TaskPlan]:
    deploy = source.spec.deploy
    watch = {
        "shift": output(f"{group}.shift"),
        "guards": [guard.condition for guard in deploy.guards],
        "min_requests": deploy.min_requests,
        **rules.optional("predictions", rules.predictions(source.spec)),
        **serving(source),
    }
    modes: dict[str, dict[str, Any]] = {"shadow": {"mode": "mirror"}, "blue_green": {"keep": True}}
    order = {"weight": stage.traffic, **modes.get(deploy.strategy, {})}
    return [
        _deploy(source, f"{group}.shift", before, order),
        TaskPlan(
            task_id=f"{group}.observe",
            operator="DeploymentHealthSensor",
            args={**watch, "bake_s": stage.bake.total_seconds()},
            upstream=(f"{group}.shift",),
        ),
        TaskPlan(
            task_id=f"{group}.decide",
            operator="CanaryGateOperator",
            args={**watch, "observation": output(f"{group}.observe")},
            upstream=(f"{group}.observe",),
        ),
    ]


def _deploy(source: PipelineSource, task_id: str, before: str, order: dict[str, Any]) -> TaskPlan:
    return TaskPlan(
        task_id=task_id,
        operator="DeployModelOperator",
        args={
            "version": output("register"),
            "strategy": source.spec.deploy.strategy,
            **order,
            **serving(source),
            **rules.policies(source),
        },
        upstream=(before,),
    )
