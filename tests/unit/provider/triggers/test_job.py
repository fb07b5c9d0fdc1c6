"""Waiting for jobs in the triggerer: what wakes the task, what does not, and who may cancel."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.serde import deserialize, serialize

from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain_provider.triggers import SHORTEST_POLL_S
from mlretrain_provider.triggers import job as module
from mlretrain_provider.triggers.job import JobTrigger
from tests.fakes.backend import RUNNING, FakeBackend
from tests.fakes.memory_store import MemoryStore

JOBS = ("j-1", "j-2")
FAILED = JobStatus(state="failed", exit_code=137)


class Clock:
    """Sleeping takes no time; each sleep may change the world."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.then: list[Any] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.then:
            self.then.pop(0)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(
        module, "asyncio", SimpleNamespace(sleep=made.sleep, to_thread=asyncio.to_thread), raising=True
    )
    return made


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    made = FakeBackend(endings=[RUNNING, RUNNING], remote=True)
    for name in JOBS:
        made.submit(JobSpec(name=name, request_uri="file:///r"))
    store = MemoryStore()
    monkeypatch.setattr(module, "open_backend", lambda name, options: made)
    monkeypatch.setattr(module, "open_store", lambda uri, env: store)
    return made


def trigger(**changed: Any) -> JobTrigger:
    jobs = [{"name": name, "handle": name, "log_path": f"{name}/1.log.json"} for name in JOBS]
    return JobTrigger(
        **{"backend": "fake", "backend_options": {"a": 1}, "jobs": jobs, "artifacts_uri": "s3://b", **changed}
    )


def event(of: JobTrigger) -> Any:
    async def first() -> Any:
        return await anext(aiter(of.run()))

    return asyncio.run(first()).payload


def test_it_is_built_again_from_what_it_says_of_itself() -> None:
    first = trigger(storage_conn_id="aws", poll_s=60)
    path, kwargs = first.serialize()
    sent: Any = serialize(kwargs)
    received: Any = deserialize(sent)
    again = JobTrigger(**received)
    assert path == "mlretrain_provider.triggers.job.JobTrigger"
    assert again.serialize() == first.serialize()


def test_it_sleeps_before_it_looks_and_never_less_than_airflow_can_bear(
    backend: FakeBackend, clock: Clock
) -> None:
    backend.statuses["j-1"] = FAILED
    assert event(trigger(poll_s=0.1)) == {"ended": ["j-1"]}
    assert clock.slept == [SHORTEST_POLL_S]


def test_any_job_that_ends_wakes_the_task(backend: FakeBackend, clock: Clock) -> None:
    clock.then = [lambda: None, lambda: None, lambda: backend.statuses.update({"j-2": FAILED})]
    assert event(trigger(poll_s=30)) == {"ended": ["j-2"]}
    assert clock.slept == [30.0] * 3


def test_a_backend_or_a_store_that_is_away_is_asked_again(
    backend: FakeBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.statuses["j-1"] = FAILED
    asked: list[str] = []

    def sometimes_away(name: str, options: Any) -> FakeBackend:
        asked.append(name)
        if len(asked) < 3:
            raise TransientError("away")
        return backend

    monkeypatch.setattr(module, "open_backend", sometimes_away)
    assert event(trigger()) == {"ended": ["j-1"]}
    assert len(clock.slept) == 3


def test_settings_that_cannot_work_fail_the_task_with_their_remedy(
    backend: FakeBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, options: Any) -> FakeBackend:
        raise ConfigError("403", remedy="Grant it.")

    monkeypatch.setattr(module, "open_backend", refuse)
    found = event(trigger())["error"]
    assert (found["type"], found["remedy"]) == ("ConfigError", "Grant it.")


@pytest.mark.parametrize(
    ("state", "cancelled"),
    [("failed", ["j-1", "j-2"]), ("scheduled", ["j-1", "j-2"]), (None, ["j-1", "j-2"]), ("deferred", [])],
)
def test_a_kill_cancels_the_jobs_unless_the_task_still_waits_elsewhere(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, state: str | None, cancelled: list[str]
) -> None:
    killed: Any = trigger()
    killed._task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)
    states = {"r": {"t": state}} if state else {}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: states)
    asyncio.run(killed.on_kill())
    assert backend.cancelled == cancelled


@pytest.mark.parametrize(("follower", "cancelled"), [(1, []), (2, ["j-1", "j-2"])])
def test_a_task_that_was_cleared_and_waits_again_has_its_jobs_cancelled(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, follower: int, cancelled: list[str]
) -> None:
    killed: Any = trigger(jobs=[{"name": n, "handle": n, "log_path": f"{n}/1.log.json"} for n in JOBS])
    killed._task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"r": {"t": "deferred"}})
    killed._store().write("j-2/job.json", json.dumps({"follower": follower}).encode())
    asyncio.run(killed.on_kill())
    assert backend.cancelled == cancelled


def test_a_kill_cancels_the_jobs_if_airflow_does_not_answer(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(**_: Any) -> Any:
        raise RuntimeError("no answer")

    killed: Any = trigger()
    killed._task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", silent)
    asyncio.run(killed.on_kill())
    assert backend.cancelled == ["j-1", "j-2"]


def test_a_trigger_that_is_moved_cancels_nothing(backend: FakeBackend, clock: Clock) -> None:
    async def moved() -> None:
        made = trigger()
        running = asyncio.ensure_future(anext(aiter(made.run())))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await made.cleanup()

    asyncio.run(moved())
    assert backend.cancelled == []
