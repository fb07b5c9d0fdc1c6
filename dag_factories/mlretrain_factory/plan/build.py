"""Spec to plan: one pure function."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.describe import describe
from mlretrain_factory.plan.model import DagKind, DagPlan, FormField, Plan, TaskPlan, output
from mlretrain_factory.spec.deployment import StageSpec

ACT_RETRIES = 2
"""Further tries of tasks that ask a registry, a store or a server."""

_RETRAIN_FORM = {
    "reason": FormField(
        type=("string",), title="Reason", description="Why; shown in every place.", default=""
    ),
    "params": FormField(
        type=("object",), title="Parameters", description="Override single `train.params`.", default={}
    ),
    "dry_run": FormField(
        type=("boolean",), title="Dry run", description="Judge and record, promote nothing.", default=False
    ),
}
_ROLLBACK_FORM = {
    "version": FormField(
        type=("string", "null"),
        title="Version",
        description="Back to this version; empty: the last champion.",
    ),
    "reason": FormField(
        type=("string",), title="Reason", description="Why; shown in every place.", required=True
    ),
}


def build_plan(source: PipelineSource) -> Plan:
    """Everything that Airflow shall do for this pipeline."""
    dags = [_dag(source, "retrain", _retrain_tasks(source))]
    if source.spec.monitor is not None:
        dags.append(_dag(source, "monitor", _monitor_tasks(source)))
    dags.append(_dag(source, "rollback", _rollback_tasks(source)))
    return Plan(pipeline=source.spec.pipeline, dags=tuple(dags))


def _dag(source: PipelineSource, kind: DagKind, tasks: list[TaskPlan]) -> DagPlan:
    spec, stack = source.spec, source.stack
    sections = {"retrain": spec.schedule, "monitor": spec.monitor.schedule if spec.monitor else None}
    tasks.append(
        TaskPlan(
            task_id="record",
            operator="RecordRunOperator",
            args={"kind": kind},
            upstream=_ends(tasks),
            teardown=True,
        )
    )
    return DagPlan(
        dag_id=f"{spec.pipeline}.{kind}",
        kind=kind,
        description=spec.description,
        doc_md=describe(spec, kind, source.path.name),
        owner=spec.owner,
        tags=tuple(sorted({*spec.tags, "mlretrain", kind})),
        defaults={
            "pipeline": spec.pipeline,
            "artifacts_uri": stack.artifacts_uri,
            "mlflow_conn_id": stack.registry.conn_id,
            **({"storage_conn_id": stack.storage.conn_id} if stack.storage else {}),
            **({"backend": stack.backend} if kind != "rollback" else {}),
            "retries": ACT_RETRIES,
        },
        tasks=tuple(tasks),
        schedule=rules.schedule(sections.get(kind)),
        form={"retrain": _RETRAIN_FORM, "rollback": _ROLLBACK_FORM}.get(kind, {}),
        notify=rules.notifications(spec.notify),
    )


def _ends(tasks: list[TaskPlan]) -> tuple[str, ...]:
    waited_for = {upstream for task in tasks for upstream in task.upstream}
    return tuple(task.task_id for task in tasks if task.task_id not in waited_for)


def _retrain_tasks(source: PipelineSource) -> list[TaskPlan]:
    spec = source.spec
    data = TaskPlan(
        task_id="resolve_data", operator="ResolveDataOperator", args=rules.data_window(spec.data.training)
    )
    tasks = [data, *_validation(source)]
    dataset = tasks[-1].task_id
    tasks += [
        _train(source, dataset),
        TaskPlan(
            task_id="evaluate",
            operator="EvaluateModelOperator",
            args={
                "training": output("train"),
                "target": spec.data.target,
                "metrics": list(spec.evaluate.metrics),
                "slices": list(spec.evaluate.slices),
                **_optional("confidence", rules.confidence(spec)),
            },
            upstream=("train",),
        ),
        TaskPlan(
            task_id="register",
            operator="RegisterModelOperator",
            args={"training": output("train"), "evaluation": output("evaluate")},
            upstream=("evaluate",),
        ),
        TaskPlan(
            task_id="promotion_gate",
            operator="PromotionGateOperator",
            args={
                "evaluation": output("evaluate"),
                "gates": rules.gates(spec),
                "mode": spec.promote.mode,
            },
            upstream=("register",),
        ),
    ]
    return [*tasks, *_rollout(source)]


def _validation(source: PipelineSource) -> list[TaskPlan]:
    section = source.spec.validation
    if section is None:
        return []
    return [
        TaskPlan(
            task_id="validate_data",
            operator="ValidateDataOperator",
            args={
                "dataset": output("resolve_data"),
                "expectations": [rules.given(each) for each in section.expectations],
                **_optional("suite", source.suite),
                "on_failure": section.on_failure,
            },
            upstream=("resolve_data",),
        ),
        TaskPlan(
            task_id="data_gate",
            operator="DataGateOperator",
            args={"validation": output("validate_data"), "on_failure": section.on_failure},
            upstream=("validate_data",),
        ),
    ]


def _train(source: PipelineSource, dataset: str) -> TaskPlan:
    data, train = source.spec.data, source.spec.train
    return TaskPlan(
        task_id="train",
        operator="TrainModelOperator",
        args={
            "dataset": output(dataset),
            "target": data.target,
            **_optional("entrypoint", train.entrypoint),
            **_optional("command", train.command and list(train.command)),
            "hyperparameters": dict(train.params),
            "features": rules.given(data.features),
            "holdout": rules.given(data.holdout),
            **_optional("time_column", data.training.time_column),
            "prediction_method": train.prediction_method,
            **_profile(source),
        },
        upstream=(dataset,),
        retries=train.retries,
        timeout_s=train.timeout.total_seconds() if train.timeout else None,
    )


def _profile(source: PipelineSource) -> dict[str, Any]:
    monitor = source.spec.monitor
    # Chunks of the monitored window's length show how much such windows differ without any drift.
    return {"profile": {"chunk_s": monitor.data.window.total_seconds()}} if monitor else {}


def _rollout(source: PipelineSource) -> list[TaskPlan]:
    deploy = source.spec.deploy
    tasks: list[TaskPlan] = []
    for i, stage in enumerate(deploy.stages, start=1):
        before = tasks[-1].task_id if tasks else "promotion_gate"
        tasks += _stage(source, stage, f"rollout.stage_{i}", before)
    promote = TaskPlan(
        task_id="promote",
        operator="PromoteModelOperator",
        args={"version": output("register"), **_serving(source)},
        upstream=(tasks[-1].task_id if tasks else "promotion_gate",),
    )
    if not tasks:
        return [promote]
    roll_back = TaskPlan(
        task_id="roll_back",
        operator="RollBackModelOperator",
        args={"to": "champion", **_serving(source)},
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
        **_serving(source),
    }
    return [
        TaskPlan(
            task_id=f"{group}.shift",
            operator="DeployModelOperator",
            args={"version": output("register"), "weight": stage.traffic, **_serving(source)},
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


def _serving(source: PipelineSource) -> dict[str, str]:
    serving = source.stack.serving
    is_served = serving is not None and source.spec.deploy.strategy != "none"
    return {"serving_conn_id": serving.conn_id} if serving and is_served else {}


def _monitor_tasks(source: PipelineSource) -> list[TaskPlan]:
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
                **_optional("columns", {"exclude": exclude} if exclude else None),
            },
        ),
        TaskPlan(
            task_id="detect_drift",
            operator="DetectDriftOperator",
            args={"profile": output("profile_window"), "policy": rules.drift_policy(monitor.drift)},
            upstream=("profile_window",),
        ),
    ]
    if spec.retrain is not None:
        tasks += [
            TaskPlan(
                task_id="decide_retrain",
                operator="RetrainPolicyOperator",
                args={"drift": output("detect_drift"), "policy": rules.retrain_policy(spec.retrain)},
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


def _rollback_tasks(source: PipelineSource) -> list[TaskPlan]:
    return [
        TaskPlan(
            task_id="roll_back",
            operator="RollBackModelOperator",
            args={
                "to": "{{ params.version or 'previous' }}",
                "reason": "{{ params.reason }}",
                **_serving(source),
            },
        )
    ]


def _optional(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}
