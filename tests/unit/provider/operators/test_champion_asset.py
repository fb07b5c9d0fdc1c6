"""Airflow hears of each change of champion once: from whichever task comes to tell it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG, Asset

from mlretrain.errors import TransientError
from mlretrain.ledger import Ledger
from mlretrain_provider.assets import asset_at, champion_alias, champion_asset
from mlretrain_provider.operators.deployment import DeployModelOperator, RollBackModelOperator
from mlretrain_provider.operators.pipeline import PipelineOperator
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.registry import PromoteModelOperator
from tests.fakes.airflow_harness import DagRunHarness

SERVING = {"target": "local", "conn_id": "mlretrain_model_server_default"}


def dag_of(world: Any, version: str, dag_id: str = "churn.retrain") -> DAG:
    dag: DAG = world.dag(dag_id)
    with dag:
        DeployModelOperator(task_id="shift", version=version, weight=10, serving=SERVING)
        PromoteModelOperator(task_id="promote", version=version)
        RollBackModelOperator(task_id="roll_back", serving=SERVING)
        RollBackModelOperator(task_id="move_back", to="previous", reason="complaints")
        RecordRunOperator(task_id="record", serving=SERVING)
    return dag


def candidate(world: Any, run_id: str = "mlflow-run-1") -> str:
    tags = {"mlretrain.model_sha256": "d" * 64}
    return str(world.registry.register("churn", f"models:/{run_id}", run_id, tags).version)


def heard(run: DagRunHarness) -> list[dict[str, Any]]:
    events = [event for alias, event in run.supervisor.asset_events if alias == "churn.champion"]
    assert {event.asset.uri for event in events} <= {"x-mlretrain://churn/champion"}
    return [dict(event.extra or {}) for event in events]


def again(dag: DAG, run: DagRunHarness, run_id: str) -> DagRunHarness:
    """Another run, in the same Airflow."""
    other = DagRunHarness(dag, run_id=run_id)
    other.supervisor.asset_events = run.supervisor.asset_events
    return other


def test_a_promotion_is_heard_once(world: Any) -> None:
    before, version = world.promote(), candidate(world)
    run = DagRunHarness(dag_of(world, version), conf={"reason": "drift"})

    for task in ("promote", "promote", "record", "promote", "record"):
        assert run.run(task).state == "success"

    assert heard(run) == [
        {"version": version, "previous": before, "digest": "d" * 64, "reason": "drift", "run": "run-1"}
    ]


def test_a_promotion_whose_task_dies_is_heard_all_the_same(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = candidate(world)
    run = DagRunHarness(dag_of(world, version))
    with monkeypatch.context() as broken:

        def fail(*args: Any) -> None:
            raise TransientError("no answer")

        broken.setattr(world.registry, "set_alias", fail)
        assert run.run("promote", retries_left=True).state == "up_for_retry"
    assert heard(run) == []

    assert run.run("record").state == "success"

    assert [event["version"] for event in heard(run)] == [version]


def test_a_rollback_to_an_earlier_champion_is_heard_once(world: Any) -> None:
    first, second = candidate(world, "mlflow-run-1"), candidate(world, "mlflow-run-2")
    run = DagRunHarness(dag_of(world, first))
    run.run("promote")
    dag = dag_of(world, second)
    run = again(dag, run, "run-2")
    run.run("promote")

    back = again(dag, run, "run-3")
    for _ in range(2):
        assert back.run("move_back").result["version"] == first

    assert [(each["run"], each["version"], each["previous"]) for each in heard(back)] == [
        ("run-1", first, None),
        ("run-2", second, first),
        ("run-3", first, second),
    ]
    again(dag, back, "run-2").run("promote")
    assert len(heard(back)) == 3


def test_a_rollout_that_ends_without_a_new_champion_is_not_heard(world: Any) -> None:
    world.promote()
    run = DagRunHarness(dag_of(world, candidate(world)))

    for task in ("shift", "roll_back", "record"):
        assert run.run(task).state == "success"

    assert heard(run) == []


def test_a_champion_from_before_the_ledger_is_not_heard(world: Any) -> None:
    version = world.promote()
    run = DagRunHarness(dag_of(world, version))

    assert run.run("promote").state == "success"

    assert heard(run) == []
    assert Ledger(world.store, "churn").standing().champion == version


def test_a_pipeline_that_a_template_names_has_no_asset(world: Any) -> None:
    version = candidate(world)
    with world.dag() as dag:
        PromoteModelOperator(task_id="promote", version=version, pipeline="{{ 'churn' }}")

    run = DagRunHarness(dag)

    assert run.run("promote").state == "success"
    assert heard(run) == []


def test_what_is_declared_is_an_alias_and_has_the_same_bytes(world: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    def serialised() -> str:
        return json.dumps(DagSerialization.to_dict(dag_of(world, "1")), sort_keys=True)

    task = dag_of(world, "1").get_task("promote")

    assert isinstance(task, PipelineOperator)
    assert (task.inlets, task.outlets) == ([champion_alias("churn")], [champion_alias("churn")])
    assert serialised() == serialised()


def test_a_monitor_declares_nothing(world: Any) -> None:
    with world.dag("churn.monitor"):
        record = RecordRunOperator(task_id="record", kind="monitor")

    assert (record.inlets, record.outlets) == ([], [])


def test_assets_by_uri() -> None:
    assert asset_at("x-mlretrain://churn/champion") == champion_asset("churn")
    assert asset_at("s3://bucket/orders") == Asset(name="s3://bucket/orders", uri="s3://bucket/orders")
