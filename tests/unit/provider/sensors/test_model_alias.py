"""ModelAliasSensor in each of its modes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.errors import ConfigError
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.sensors.model_alias import ModelAliasSensor
from mlretrain_provider.triggers.model_alias import ModelAliasTrigger
from tests.fakes.airflow_harness import DagRunHarness, Outcome
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.airflow

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
WAITING = {"reschedule": "up_for_reschedule", "deferrable": "deferred"}
SECOND = {"name": "flights", "version": "2", "model_uri": "models:/flights/2"}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry()
    for run_id in ("a", "b"):
        fake.register("flights", f"models:/m-{run_id}", run_id, {})
    monkeypatch.setattr(MLflowHook, "registry", lambda self: fake)

    async def opened(conn_id: str) -> MLflowHook:
        return MLflowHook(conn_id)

    monkeypatch.setattr(MLflowHook, "opened", opened)
    return fake


def run(**settings: Any) -> tuple[DagRunHarness, Outcome]:
    given = {"model": "flights", "deferrable": False, **settings}
    with DAG("waits") as dag:
        ModelAliasSensor(task_id="wait", **given)
    harness = DagRunHarness(dag, conf={"known": 1})
    return harness, harness.run("wait")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("newer_than", [None, 1, "1", "{{ dag_run.conf['known'] }}"])
def test_a_new_champion_ends_the_wait(registry: FakeRegistry, mode: str, newer_than: Any) -> None:
    registry.set_alias("flights", "champion", "2")

    _, outcome = run(newer_than=newer_than, **MODES[mode])

    assert (outcome.state, outcome.result) == ("success", SECOND)


@pytest.mark.parametrize("mode", WAITING)
@pytest.mark.parametrize("champion", [None, "1"])
def test_the_known_one_does_not(registry: FakeRegistry, mode: str, champion: str | None) -> None:
    registry.set_alias("flights", "champion", champion)

    _, outcome = run(newer_than=1, **MODES[mode])

    assert outcome.state == WAITING[mode]


def test_poking_sees_a_later_champion(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: registry.set_alias("flights", "champion", "2"))

    assert run(mode="poke")[1].result == SECOND


def test_after_a_deferral_the_event_is_the_result(registry: FakeRegistry) -> None:
    harness, deferred = run(deferrable=True)

    assert harness.resume(deferred, "wait", SECOND).result == SECOND
    refused = harness.resume(deferred, "wait", {"error": ConfigError("no way in").to_wire()})
    assert "no way in" in str(refused.error)


def test_the_trigger_sleeps_first(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        registry.set_alias("flights", "champion", str(len(pauses)))

    monkeypatch.setattr("asyncio.sleep", sleep)
    trigger = ModelAliasTrigger(
        model="flights", alias="champion", newer_than=1, mlflow_conn_id="ml", poll_interval=2
    )

    async def first() -> Any:
        return (await anext(aiter(trigger.run()))).payload

    assert asyncio.run(first()) == SECOND
    assert pauses == [10.0, 10.0]


def test_the_trigger_travels() -> None:
    trigger = ModelAliasTrigger(model="m", alias="champion", newer_than=None, mlflow_conn_id="ml")
    path, kwargs = trigger.serialize()

    assert path == "mlretrain_provider.triggers.model_alias.ModelAliasTrigger"
    assert ModelAliasTrigger(**kwargs).serialize() == (path, kwargs)
