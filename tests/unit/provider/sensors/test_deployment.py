"""DeploymentHealthSensor in each of its modes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.errors import InvalidInput, TransientError
from mlretrain.ports import VersionStats
from mlretrain_provider import health
from mlretrain_provider.hooks.model_server import ModelServerHook
from mlretrain_provider.sensors import deployment
from mlretrain_provider.sensors.deployment import DeploymentHealthSensor
from mlretrain_provider.triggers import deployment as trigger_module
from mlretrain_provider.triggers.deployment import DeploymentHealthTrigger
from tests.fakes.airflow_harness import DagRunHarness, Outcome
from tests.fakes.target import FakeTarget

pytestmark = pytest.mark.airflow

SHIFTED = datetime(2026, 3, 9, 6, tzinfo=UTC)
SHIFT = {
    "model": "flights",
    "version": "2",
    "champion": "1",
    "weights": {"1": 90, "2": 10},
    "since": SHIFTED.isoformat(),
}
GOOD = VersionStats(requests=200, errors=0, latency_p50_ms=5, latency_p95_ms=10, latency_p99_ms=20)
BAD = VersionStats(requests=200, errors=50, latency_p50_ms=5, latency_p95_ms=10, latency_p99_ms=20)
FEW = VersionStats(requests=3, errors=0, latency_p50_ms=5, latency_p95_ms=10, latency_p99_ms=20)
GUARDS = [{"metric": "error_rate", "max": 0.01}]


class Clock(datetime):
    """The time of the test; ``after`` seconds since the shift."""

    after: float = 0.0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return SHIFTED + timedelta(seconds=cls.after)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "after", 0.0)
    for module in (deployment, trigger_module):
        monkeypatch.setattr(module, "datetime", Clock)
    return Clock


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> FakeTarget:
    fake = FakeTarget()
    fake.apply("flights", {"1": 90, "2": 10})
    monkeypatch.setattr(ModelServerHook, "target", lambda self: fake)

    async def opened(conn_id: str) -> ModelServerHook:
        return ModelServerHook(conn_id)

    monkeypatch.setattr(ModelServerHook, "opened", opened)
    return fake


def run(shift: dict[str, Any] = SHIFT, **settings: Any) -> tuple[DagRunHarness, Outcome]:
    given = {"shift": shift, "guards": GUARDS, "bake_s": 600, "deferrable": False, **settings}
    with DAG("flights.retrain") as dag:
        DeploymentHealthSensor(task_id="observe", **given)
    harness = DagRunHarness(dag)
    return harness, harness.run("observe")


MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("stats", "after", "verdict"),
    [(GOOD, 600, "advance"), (BAD, 30, "roll_back"), (FEW, 4200, "hold")],
    ids=["baked", "breach", "patience-ended"],
)
def test_what_is_final_ends_the_wait(
    clock: type[Clock], target: FakeTarget, mode: str, stats: VersionStats, after: float, verdict: str
) -> None:
    clock.after = after
    target.stats = {"2": stats}

    _, outcome = run(**MODES[mode])

    assert outcome.state == "success"
    assert outcome.result["verdict"] == verdict
    assert outcome.result["reason"]
    assert outcome.result["stats"]["requests"] == stats.requests


@pytest.mark.parametrize(
    ("stats", "after"), [(GOOD, 599), (FEW, 599), (FEW, 4199)], ids=["baking", "few", "patient"]
)
def test_what_is_not_final_is_looked_at_again(
    clock: type[Clock], target: FakeTarget, stats: VersionStats, after: float
) -> None:
    clock.after = after
    target.stats = {"2": stats}

    _, rescheduled = run(mode="reschedule")
    _, deferred = run(deferrable=True)

    assert rescheduled.state == "up_for_reschedule"
    assert deferred.state == "deferred"


def test_poking_goes_on_until_the_end(
    clock: type[Clock], target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.stats = {"2": GOOD}
    monkeypatch.setattr("time.sleep", lambda seconds: setattr(clock, "after", clock.after + 100))

    _, outcome = run(mode="poke")

    assert (outcome.state, outcome.result["verdict"]) == ("success", "advance")
    assert clock.after == 600


def test_a_short_bake_is_not_worth_a_deferral(clock: type[Clock], target: FakeTarget) -> None:
    target.stats = {"2": GOOD}

    _, outcome = run(mode="reschedule", deferrable=True, bake_s=30)

    assert outcome.state == "up_for_reschedule"


def test_after_a_deferral_the_event_is_the_result(clock: type[Clock], target: FakeTarget) -> None:
    harness, deferred = run(deferrable=True)
    event = {"verdict": "advance", "reason": "fine", "stats": {}}

    assert harness.resume(deferred, "observe", event).result == event


def test_an_error_in_the_trigger_is_the_tasks(clock: type[Clock], target: FakeTarget) -> None:
    harness, deferred = run(deferrable=True)

    outcome = harness.resume(deferred, "observe", {"error": InvalidInput("no such model").to_wire()})

    assert outcome.state == "failed"
    assert "no such model" in str(outcome.error)


def test_a_run_that_has_ended_is_not_waited_for(clock: type[Clock], target: FakeTarget) -> None:
    _, outcome = run(shift={**SHIFT, "weights": {}})

    assert outcome.result["verdict"] == "advance"


def test_something_else_than_a_shift_is_refused(clock: type[Clock], target: FakeTarget) -> None:
    _, outcome = run(shift={"version": "2"})

    assert outcome.state == "failed"
    assert "DeployModelOperator" in str(outcome.error)


def test_settings_may_be_templates(clock: type[Clock], target: FakeTarget) -> None:
    clock.after = 50
    target.stats = {"2": FEW}

    _, outcome = run(bake_s="{{ 5 * 10 }}", min_requests="{{ 1 + 1 }}", mode="reschedule")

    assert outcome.result["verdict"] == "advance"


def trigger() -> DeploymentHealthTrigger:
    return DeploymentHealthTrigger(
        shift=SHIFT,
        guards=GUARDS,
        bake_s=600,
        patience_s=4200,
        min_requests=100,
        serving_conn_id="server",
        poll_interval=1,
    )


@pytest.fixture
def pauses(clock: type[Clock], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seen: list[float] = []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)
        clock.after += 300

    monkeypatch.setattr("asyncio.sleep", sleep)
    return seen


async def first(each: DeploymentHealthTrigger) -> Any:
    return (await anext(aiter(each.run()))).payload


def test_the_trigger_sleeps_first_and_polls_slowly(target: FakeTarget, pauses: list[float]) -> None:
    target.stats = {"2": GOOD}

    assert asyncio.run(first(trigger()))["verdict"] == "advance"
    assert pauses == [10.0, 10.0]


def test_the_trigger_survives_a_silent_server(
    target: FakeTarget, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    target.stats = {"2": BAD}
    answers: list[Callable[..., Any]] = [health.look]

    def look(*args: Any) -> Any:
        if len(pauses) < 3:
            raise TransientError("nobody there")
        return answers[0](*args)

    monkeypatch.setattr(trigger_module, "look", look)

    assert asyncio.run(first(trigger()))["verdict"] == "roll_back"
    assert len(pauses) == 3


def test_the_trigger_reports_what_no_retry_mends(
    target: FakeTarget, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*args: Any) -> Any:
        raise InvalidInput("no such model")

    monkeypatch.setattr(trigger_module, "look", look)

    assert asyncio.run(first(trigger()))["error"]["message"] == "no such model"


def test_the_trigger_travels(clock: type[Clock]) -> None:
    path, kwargs = trigger().serialize()

    assert path == "mlretrain_provider.triggers.deployment.DeploymentHealthTrigger"
    assert DeploymentHealthTrigger(**kwargs).serialize() == (path, kwargs)
