"""Tasks that watch the champion and ask for a retraining."""

from __future__ import annotations

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.jobs import job
from mlretrain_factory.plan.model import TaskPlan, output


def watch_tasks(source: PipelineSource) -> list[TaskPlan]:
    """From the window to the decision; none if the pipeline is not monitored."""
    spec, monitor = source.spec, source.spec.monitor
    if monitor is None:
        return []
    unseen = [name for name, column in monitor.drift.columns.items() if column.ignore]
    exclude = sorted({*spec.data.features.exclude, *unseen})
    tasks = [
        TaskPlan(
            task_id="profile_window",
            operator="ProfileDataOperator",
            args={
                **rules.data_window(monitor.data),
                **rules.optional("columns", {"exclude": exclude} if exclude else None),
                **job(source, monitor.resources),
            },
        ),
        TaskPlan(
            task_id="detect_drift",
            operator="DetectDriftOperator",
            args={"profile": output("profile_window"), "policy": rules.drift_policy(monitor)},
            upstream=("profile_window",),
        ),
    ]
    if spec.retrain is not None:
        tasks += [
            TaskPlan(
                task_id="decide_retrain",
                operator="RetrainPolicyOperator",
                args={"drift": output("detect_drift"), "policy": rules.retrain_policy(spec.retrain, monitor)},
                upstream=("detect_drift",),
            ),
            TaskPlan(
                task_id="trigger_retrain",
                operator="TriggerRetrainOperator",
                args={"decision": output("decide_retrain"), "trigger_dag_id": f"{spec.pipeline}.retrain"},
                upstream=("decide_retrain",),
            ),
        ]
    return tasks
