"""Spec to plan: one pure function."""

from __future__ import annotations

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.candidate import candidate_tasks
from mlretrain_factory.plan.describe import describe
from mlretrain_factory.plan.jobs import shared_by_jobs
from mlretrain_factory.plan.model import DagKind, DagPlan, FormField, Plan, TaskPlan
from mlretrain_factory.plan.rollout import rollout_tasks
from mlretrain_factory.plan.scoring import scoring_schedule, scoring_tasks
from mlretrain_factory.plan.serving import serving
from mlretrain_factory.plan.watch import watch_tasks

ACT_RETRIES = 2
"""Further tries of tasks that ask a registry, a store or a server."""

# Airflow's form insists on an answer wherever null is not allowed, and thinks an empty text is none.
_OPTIONAL_TEXT = ("string", "null")
_RETRAIN_FORM = {
    "reason": FormField(
        type=_OPTIONAL_TEXT, title="Reason", description="Why; kept with the model version and the ledger."
    ),
    "dry_run": FormField(
        type=("boolean", "null"),
        title="Dry run",
        description="Train, judge and record, but roll out and promote nothing.",
        default=False,
    ),
    "params": FormField(
        type=("object", "null"),
        title="Parameters",
        description="For this run only, over train.params of the file.",
        default={},
    ),
}
_ROLLBACK_FORM = {
    "version": FormField(
        type=_OPTIONAL_TEXT,
        title="Version",
        description="The version to go back to, such as 3; empty: the champion before this one.",
    ),
    "reason": FormField(
        type=("string",), title="Reason", description="Why; kept with the ledger.", required=True
    ),
}


def build_plan(source: PipelineSource) -> Plan:
    """Everything that Airflow shall do for this pipeline."""
    candidate = candidate_tasks(source)
    dags = [_dag(source, "retrain", [*candidate, *rollout_tasks(source, candidate[-1].task_id)])]
    if source.spec.monitor is not None:
        dags.append(_dag(source, "monitor", watch_tasks(source)))
    if source.spec.score is not None:
        dags.append(_dag(source, "score", scoring_tasks(source)))
    dags.append(_dag(source, "rollback", _rollback_tasks(source)))
    return Plan(pipeline=source.spec.pipeline, dags=tuple(dags))


def _dag(source: PipelineSource, kind: DagKind, tasks: list[TaskPlan]) -> DagPlan:
    spec, stack = source.spec, source.stack
    sections = {"retrain": spec.schedule, "monitor": spec.monitor.schedule if spec.monitor else None}
    tasks.append(
        TaskPlan(
            task_id="record",
            operator="RecordRunOperator",
            args={"kind": kind, **(serving(source) if kind in ("retrain", "rollback") else {})},
            upstream=_ends(tasks),
            teardown=True,
        )
    )
    return DagPlan(
        dag_id=f"{spec.pipeline}.{kind}",
        kind=kind,
        description=spec.description,
        doc_md=describe(source, kind),
        owner=spec.owner,
        tags=spec.dag_tags(kind),
        defaults={
            "pipeline": spec.pipeline,
            "artifacts_uri": stack.artifacts_uri,
            "mlflow_conn_id": stack.registry.conn_id,
            **({"storage_conn_id": stack.storage.conn_id} if stack.storage else {}),
            **(shared_by_jobs(source) if kind != "rollback" else {}),
            "retries": ACT_RETRIES,
        },
        tasks=tuple(tasks),
        schedule=scoring_schedule(source) if kind == "score" else rules.schedule(sections.get(kind)),
        form={"retrain": _RETRAIN_FORM, "rollback": _ROLLBACK_FORM}.get(kind, {}),
        notify=rules.notifications(spec.notify),
    )


def _ends(tasks: list[TaskPlan]) -> tuple[str, ...]:
    waited_for = {upstream for task in tasks for upstream in task.upstream}
    return tuple(task.task_id for task in tasks if task.task_id not in waited_for)


def _rollback_tasks(source: PipelineSource) -> list[TaskPlan]:
    return [
        TaskPlan(
            task_id="roll_back",
            operator="RollBackModelOperator",
            args={
                "to": "{{ params.version or 'previous' }}",
                "reason": "{{ params.reason }}",
                **serving(source),
            },
        )
    ]
