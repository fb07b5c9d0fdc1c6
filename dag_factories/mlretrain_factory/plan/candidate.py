"""Tasks that make a candidate and judge it."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.model import TaskPlan, output


def candidate_tasks(source: PipelineSource) -> list[TaskPlan]:
    """From the data to the promotion gate."""
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
                **rules.optional("confidence", rules.confidence(spec)),
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
    return tasks


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
                **rules.optional("suite", source.suite),
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
            **rules.optional("entrypoint", train.entrypoint),
            **rules.optional("command", train.command and list(train.command)),
            "hyperparameters": dict(train.params),
            "features": rules.given(data.features),
            "holdout": rules.given(data.holdout),
            **rules.optional("time_column", data.training.time_column),
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
