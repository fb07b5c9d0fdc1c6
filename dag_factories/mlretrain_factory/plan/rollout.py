"""Tasks that bring a candidate to the traffic, and take it back."""

from __future__ import annotations

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.model import TaskPlan, output
from mlretrain_factory.spec.deployment import StageSpec


def rollout_tasks(source: PipelineSource) -> list[TaskPlan]:
    """Stages, promotion, and roll-back if a stage fails."""
    deploy = source.spec.deploy
    tasks: list[TaskPlan] = []
    for i, stage in enumerate(deploy.stages, start=1):
        before = tasks[-1].task_id if tasks else "promotion_gate"
        tasks += _stage(source, stage, f"rollout.stage_{i}", before)
    promote = TaskPlan(
        task_id="promote",
        operator="PromoteModelOperator",
        args={"version": output("register"), **rules.serving(source)},
        upstream=(tasks[-1].task_id if tasks else "promotion_gate",),
    )
    if not tasks:
        return [promote]
    roll_back = TaskPlan(
        task_id="roll_back",
        operator="RollBackModelOperator",
        args={"to": "champion", **rules.serving(source)},
        upstream=tuple(task.task_id for task in tasks),
        trigger_rule="one_failed",
    )
    return [*tasks, promote, roll_back]


def _stage(source: PipelineSource, stage: StageSpec, group: str, before: str) -> list[TaskPlan]:
    deploy = source.spec.deploy
    watch = {
        "shift": output(f"{group}.shift"),
        "guards": [rules.given(guard) for guard in deploy.guards],
        "min_requests": deploy.min_requests,
        **rules.serving(source),
    }
    return [
        TaskPlan(
            task_id=f"{group}.shift",
            operator="DeployModelOperator",
            args={"version": output("register"), "weight": stage.traffic, **rules.serving(source)},
            upstream=(before,),
        ),
        TaskPlan(
            task_id=f"{group}.observe",
            operator="DeploymentHealthSensor",
            args={**watch, "bake_s": stage.bake.total_seconds()},
            upstream=(f"{group}.shift",),
        ),
        TaskPlan(
            task_id=f"{group}.decide",
            operator="CanaryGateOperator",
            args=watch,
            upstream=(f"{group}.observe",),
        ),
    ]
