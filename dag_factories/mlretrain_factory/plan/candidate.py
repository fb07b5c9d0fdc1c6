"""Tasks that make a candidate and judge it."""

from __future__ import annotations

from typing import Any

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.jobs import evaluation_job, job, training_job
from mlretrain_factory.plan.model import TaskPlan, output
from mlretrain_factory.spec.tuning import direction_of


def candidate_tasks(source: PipelineSource) -> list[TaskPlan]:
    """From the data to the last task that may stop the candidate."""
    spec = source.spec
    data = TaskPlan(
        task_id="resolve_data", operator="ResolveDataOperator", args=rules.data_window(spec.data.training)
    )
    tasks = [data, *_validation(source)]
    dataset = tasks[-1].task_id
    search = _search(source, dataset)
    tasks += [
        *search,
        _train(source, dataset, tuned=bool(search)),
        TaskPlan(
            task_id="evaluate",
            operator="EvaluateModelOperator",
            args={
                "training": output("train"),
                "target": spec.data.target,
                "metrics": list(spec.evaluate.metrics),
                "slices": list(spec.evaluate.slices),
                "importance": spec.evaluate.importance,
                **rules.asked_of_evaluation(spec),
                **evaluation_job(source, spec.evaluate.resources),
            },
            upstream=("train",),
        ),
        TaskPlan(
            task_id="register",
            operator="RegisterModelOperator",
            args={"training": output("train"), "evaluation": output("evaluate")},
            upstream=("evaluate",),
        ),
    ]
    return [*tasks, *_judgement(source)]


def _judgement(source: PipelineSource) -> list[TaskPlan]:
    """Does it load and answer, do the gates hold, does a person agree?"""
    promote, policies = source.spec.promote, rules.policies(source)
    tests = [] if promote.smoke_test == "none" else [_smoke_test(source)]
    gate = TaskPlan(
        task_id="promotion_gate",
        operator="PromotionGateOperator",
        args={
            "evaluation": output("evaluate"),
            "gates": rules.gates(source.spec),
            "mode": promote.mode,
            **({"smoke_test": output("smoke_test")} if tests else {}),
            **policies,
        },
        upstream=("smoke_test" if tests else "register",),
    )
    if promote.approval.required == "never":
        return [*tests, gate]
    return [*tests, gate, _approval(source)]


def _smoke_test(source: PipelineSource) -> TaskPlan:
    return TaskPlan(
        task_id="smoke_test",
        operator="SmokeTestOperator",
        args={
            "training": output("train"),
            "version": output("register"),
            "mode": source.spec.promote.smoke_test,
            **evaluation_job(source, source.spec.evaluate.resources),
        },
        upstream=("register",),
    )


def _approval(source: PipelineSource) -> TaskPlan:
    approval = source.spec.promote.approval
    return TaskPlan(
        task_id="approve",
        operator="ApprovePromotionOperator",
        args={
            "gate": output("promotion_gate"),
            "required": approval.required,
            "assignees": list(approval.assignees),
            "timeout_s": approval.timeout.total_seconds(),
            "on_timeout": approval.on_timeout,
            "reason": approval.reason,
            **rules.policies(source),
        },
        upstream=("promotion_gate",),
    )


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
                **job(source, section.resources),
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


def _search(source: PipelineSource, dataset: str) -> list[TaskPlan]:
    spec, tune = source.spec, source.spec.train.tune
    if tune is None:
        return []
    metric = tune.metric or spec.evaluate.metrics[0]
    search = {
        "space": {name: rules.written(each) for name, each in tune.space.items()},
        "sampler": tune.sampler,
        "trials": tune.trials,
        "parallelism": tune.parallelism,
        "metric": metric,
        "direction": tune.direction or direction_of(metric),
        "validation_fraction": tune.validation_fraction,
        **rules.optional("study_conn_id", tune.storage and tune.storage.conn_id),
        **rules.optional("timeout_s", tune.timeout and tune.timeout.total_seconds()),
    }
    return [
        TaskPlan(
            task_id="tune",
            operator="TuneModelOperator",
            args={**_training(source, dataset), **search},
            upstream=(dataset,),
            retries=spec.train.retries,
        )
    ]


def _train(source: PipelineSource, dataset: str, *, tuned: bool) -> TaskPlan:
    train = source.spec.train
    return TaskPlan(
        task_id="train",
        operator="TrainModelOperator",
        args={
            **_training(source, dataset),
            **({"tuning": output("tune")} if tuned else {}),
            **_reference(source),
        },
        upstream=("tune" if tuned else dataset,),
        retries=train.retries,
        timeout_s=train.timeout.total_seconds() if train.timeout else None,
    )


def _training(source: PipelineSource, dataset: str) -> dict[str, Any]:
    """What a training learns, from what, by what; trials and the final fit alike."""
    data, train = source.spec.data, source.spec.train
    return {
        "dataset": output(dataset),
        "target": data.target,
        **rules.optional("entrypoint", train.entrypoint),
        **rules.optional("command", train.command and list(train.command)),
        "hyperparameters": dict(train.params),
        "features": rules.given(data.features),
        "holdout": rules.given(data.holdout),
        **rules.optional("time_column", data.training.time_column),
        "prediction_method": train.prediction_method,
        **training_job(source, train.resources),
    }


def _reference(source: PipelineSource) -> dict[str, Any]:
    """What is kept of the training data, for windows to be compared with."""
    monitor = source.spec.monitor
    if monitor is None:
        return {}
    # Chunks of the monitored window's length show how much such windows differ without any drift.
    profile = {"chunk_s": monitor.data.window.total_seconds(), **rules.kept(monitor.drift)}
    return {"profile": profile, **rules.optional("sample", rules.sample(monitor.drift))}
