"""Tasks that watch the champion and ask for a retraining."""

from __future__ import annotations

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.jobs import job
from mlretrain_factory.plan.model import TaskPlan, output
from mlretrain_factory.spec.monitoring import MonitoringSpec
from mlretrain_factory.spec.performance import PerformanceSpec
from mlretrain_factory.spec.retraining import RetrainingSpec


def watch_tasks(source: PipelineSource) -> list[TaskPlan]:
    """From the window to the decision; none if the pipeline is not monitored."""
    spec, monitor = source.spec, source.spec.monitor
    if monitor is None:
        return []
    tasks = _drift(source, monitor)
    if monitor.performance is not None:
        tasks.append(_performance(source, monitor, monitor.performance))
    if spec.retrain is not None:
        tasks += _decision(source, monitor, spec.retrain)
    return tasks


def _drift(source: PipelineSource, monitor: MonitoringSpec) -> list[TaskPlan]:
    exclude = sorted({*source.spec.data.features.exclude, *monitor.drift.ignored})
    in_files = monitor.data.table is None
    of_files = {**rules.row_measures(monitor.drift), **job(source, monitor.resources)}
    return [
        TaskPlan(
            task_id="profile_window",
            operator="ProfileDataOperator" if in_files else "ProfileTableOperator",
            args={
                **rules.data_window(monitor.data),
                **rules.optional("columns", {"exclude": exclude} if exclude else None),
                "reference": rules.reference(monitor.drift),
                **rules.kept(monitor.drift),
                **(of_files if in_files else {}),
            },
        ),
        TaskPlan(
            task_id="detect_drift",
            operator="DetectDriftOperator",
            args={"profile": output("profile_window"), "policy": rules.drift_policy(monitor)},
            upstream=("profile_window",),
        ),
    ]


def _performance(source: PipelineSource, monitor: MonitoringSpec, performance: PerformanceSpec) -> TaskPlan:
    labels = performance.labels
    return TaskPlan(
        task_id="measure_performance",
        operator="MeasurePerformanceOperator",
        args={
            "predictions": rules.data_window(monitor.data),
            "labels": rules.given(labels, exclude={"join_on", "delay", "column"}),
            "join_on": list(labels.join_on),
            "delay_s": labels.delay.total_seconds(),
            "target": labels.column or source.spec.data.target,
            **rules.given(performance, exclude={"labels"}),
            **job(source, monitor.resources),
        },
    )


def _decision(source: PipelineSource, monitor: MonitoringSpec, retrain: RetrainingSpec) -> list[TaskPlan]:
    measured = {"drift": "detect_drift"}
    if monitor.performance is not None:
        measured["performance"] = "measure_performance"
    return [
        TaskPlan(
            task_id="decide_retrain",
            operator="RetrainPolicyOperator",
            args={
                **{name: output(task) for name, task in measured.items()},
                "policy": rules.retrain_policy(retrain, monitor),
            },
            upstream=tuple(measured.values()),
            # A window without data skips what measures it, and is decided on as one that is unknown.
            trigger_rule="none_failed",
        ),
        TaskPlan(
            task_id="trigger_retrain",
            operator="TriggerRetrainOperator",
            args={
                "decision": output("decide_retrain"),
                "trigger_dag_id": f"{source.spec.pipeline}.retrain",
            },
            upstream=("decide_retrain",),
        ),
    ]
