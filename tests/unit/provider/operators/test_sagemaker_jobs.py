"""Operator, trigger, backend, store and step, with nothing replaced but the cloud itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from airflow.sdk import DAG
from airflow.sdk.serde import deserialize

from mlretrain.errors import ConfigError
from mlretrain.runtime.store import open_store, read_uri
from mlretrain_provider.operators.profiling import ProfileDataOperator
from mlretrain_provider.triggers import job as trigger_module
from mlretrain_provider.triggers.job import JobTrigger
from tests.fakes.airflow_harness import DagRunHarness
from tests.fixtures_sagemaker import FakeSagemaker, fake_sagemaker

pytest.importorskip("airflow.providers.amazon")
pytest.importorskip("moto")

ROWS = "x,colour\n" + "".join(f"{number},red\n" for number in range(50))


@pytest.fixture
def cloud() -> Iterator[FakeSagemaker]:
    with fake_sagemaker() as fake, patch.dict(os.environ):
        open_store(fake.artifacts_uri, fake.env).write("a.csv", ROWS.encode())
        yield fake


@pytest.fixture
def dag(cloud: FakeSagemaker, monkeypatch: pytest.MonkeyPatch) -> DAG:
    monkeypatch.setattr(trigger_module, "SHORTEST_POLL_S", 0.05)
    arguments = {
        "pipeline": "churn",
        "artifacts_uri": cloud.artifacts_uri,
        "storage_conn_id": cloud.conn_id,
        "backend": "sagemaker",
        "backend_options": cloud.options,
        "uri": f"{cloud.artifacts_uri}/a.csv",
        "reference": None,
    }
    dag = DAG("churn.monitor", default_args=arguments)
    with dag:
        ProfileDataOperator(task_id="profile")
        ProfileDataOperator(task_id="wrong", columns={"include": ["z"]})
    return dag


def trigger_of(deferred: Any) -> JobTrigger:
    """The trigger as a triggerer makes it."""
    assert deferred.message.classpath.endswith("JobTrigger")
    arguments: Any = deserialize(deferred.message.trigger_kwargs)
    return JobTrigger(**{**arguments, "poll_s": 0.05})


def restarted(run: DagRunHarness) -> DagRunHarness:
    """The same run in workers that remember nothing."""
    for task in run.dag.tasks:
        operator: Any = task
        operator._jobs, operator._watches = {}, {}
    return run


async def event_of(trigger: JobTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


def job_of(cloud: FakeSagemaker) -> str:
    [handle] = cloud.jobs
    return handle


def test_a_task_gives_its_slot_away_and_comes_back_with_the_jobs_result(
    cloud: FakeSagemaker, dag: DAG
) -> None:
    cloud.capacity.clear()
    run = DagRunHarness(dag)
    deferred = run.run("profile")
    assert deferred.state == "deferred"
    cloud.capacity.set()
    event = asyncio.run(event_of(trigger_of(deferred)))
    assert event == {"ended": [job_of(cloud)]}
    done = restarted(run).resume(deferred, "profile", event)
    assert done.state == "success"
    assert json.loads(read_uri(done.result["profile_uri"], cloud.env))["rows"] == 50
    assert [call for call in cloud.calls if call.startswith("create")] == [f"create {job_of(cloud)}"]


def test_nobody_reads_the_storages_keys_where_the_job_is_described(cloud: FakeSagemaker, dag: DAG) -> None:
    DagRunHarness(dag).run("profile")
    described = str(cloud.jobs[job_of(cloud)].describe())
    assert "test-secret" not in described
    assert cloud.endpoint in described


def test_killing_a_deferred_task_stops_the_job(cloud: FakeSagemaker, dag: DAG) -> None:
    cloud.capacity.clear()
    trigger = trigger_of(DagRunHarness(dag).run("profile"))
    asyncio.run(trigger.on_kill())
    assert asyncio.run(event_of(trigger)) == {"ended": [job_of(cloud)]}
    assert cloud.jobs[job_of(cloud)].status == "Stopped"


def test_a_retry_after_throttling_finds_the_first_job(cloud: FakeSagemaker, dag: DAG) -> None:
    cloud.capacity.clear()
    run = DagRunHarness(dag)
    with patch("time.sleep"):
        cloud.refuse("ThrottlingException", times=6)
        assert run.run("profile", retries_left=True).state == "up_for_retry"
        assert cloud.jobs == {}
        assert restarted(run).run("profile", try_number=2).state == "deferred"
        assert restarted(run).run("profile", try_number=3).state == "deferred"
    assert len(cloud.jobs) == 1


def test_a_mistake_fails_the_task_for_good_with_the_steps_own_error(cloud: FakeSagemaker, dag: DAG) -> None:
    cloud.capacity.clear()
    run = DagRunHarness(dag)
    deferred = run.run("wrong", retries_left=True)
    cloud.capacity.set()
    event = asyncio.run(event_of(trigger_of(deferred)))
    failed = restarted(run).resume(deferred, "wrong", event)
    assert failed.state == "failed"
    assert isinstance(failed.error, ConfigError)
    assert "columns that are not in the data (found z" in str(failed.error)
    assert "AlgorithmError" not in str(failed.error)
    described = cloud.jobs[job_of(cloud)].describe()
    assert described["FailureReason"] == "AlgorithmError: , exit code: 13"
    assert described["ExitMessage"].startswith("ConfigError: columns.include: columns that are not")
