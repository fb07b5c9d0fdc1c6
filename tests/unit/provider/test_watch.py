"""A job in its task's log: each line once whoever copies it, what holds it up once, and that it is alive."""

from __future__ import annotations

from typing import Any

import pytest

from mlretrain.errors import TransientError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain_provider.watch import HEARTBEAT_S, JobWatch
from tests.fakes.backend import RUNNING, FakeBackend
from tests.fakes.memory_store import MemoryStore

PATH = "churn/runs/r/train-0/1.log.json"


class Scene:
    """A job, its task's log, and the watches of one task's processes."""

    def __init__(self) -> None:
        self.backend = FakeBackend(endings=[RUNNING])
        self.backend.submit(JobSpec(name="j-1", request_uri="file:///r"))
        self.store = MemoryStore()
        self.now = 0.0
        self.said: list[str] = []

    def watch(self) -> JobWatch:
        return JobWatch(
            backend=self.backend,
            name="j-1",
            handle="j-1",
            log=self,
            store=self.store,
            log_path=PATH,
            clock=lambda: self.now,
        )

    def info(self, event: str, *args: Any) -> None:
        self.said.append(event % args)

    warning = info

    def status(self, **status: Any) -> None:
        self.backend.statuses["j-1"] = JobStatus(**status)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_each_line_is_copied_once_over_restarts(scene: Scene) -> None:
    scene.backend.log = "a\nb\nc\n"
    first = scene.watch()
    first.look()
    first.pause()
    scene.backend.log += "d\ne\n"
    scene.watch().look()
    assert scene.said == ["a", "b", "c", "d", "e"]


def test_a_worker_that_dies_repeats_a_second_of_lines_at_most(scene: Scene) -> None:
    dying = scene.watch()
    for second in range(4):
        scene.now = float(second)
        scene.backend.log += f"{second}\n"
        dying.look()
    scene.now += 0.5
    scene.backend.log += "last\n"
    dying.look()
    scene.watch().look()
    assert scene.said == ["0", "1", "2", "3", "last", "last"]


def test_the_end_of_the_log_is_known_to_whoever_comes_next(scene: Scene) -> None:
    scene.backend.log = "a\n"
    scene.watch().look()
    assert not scene.watch().complete
    scene.status(state="succeeded", exit_code=0)
    scene.watch().look()
    assert scene.watch().complete


def test_a_job_without_a_word_is_complete_too(scene: Scene) -> None:
    scene.status(state="failed", exit_code=1)
    scene.watch().look()
    assert scene.watch().complete


def test_a_store_that_is_away_costs_repeated_lines_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise TransientError("the store is away")

    scene.backend.log = "a\n"
    with monkeypatch.context() as outage:
        for name in ("read", "write"):
            outage.setattr(scene.store, name, away)
        watch = scene.watch()
        watch.look()
        watch.pause()
        assert not watch.complete
    scene.watch().look()
    assert scene.said == ["a", "The log's position is not saved: the store is away", "a"]


def test_what_holds_a_job_up_is_said_once(scene: Scene) -> None:
    watch = scene.watch()
    for reason in ("Unschedulable: no node", "Unschedulable: no node", "ImagePullBackOff: x"):
        scene.status(state="pending", reason=reason)
        watch.look()
    assert scene.said == [
        "Job j-1 does not run yet: Unschedulable: no node",
        "Job j-1 does not run yet: ImagePullBackOff: x",
    ]


def test_a_job_that_is_silent_is_said_to_be_alive(scene: Scene) -> None:
    watch = scene.watch()
    for minute in range(11):
        scene.now = 60.0 * minute
        if minute == 2:
            scene.backend.log = "a\n"
        watch.look()
    assert HEARTBEAT_S == 300.0
    assert scene.said == ["a", "Job j-1 is running, 7 minutes on."]
