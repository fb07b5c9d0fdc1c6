"""DeploymentHealthSensor in each of its modes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.serde import deserialize

from mlretrain.errors import InvalidInput, TransientError
from mlretrain.gates.predictions import PredictionLog, PredictionShift
from mlretrain.ledger import Ledger
from mlretrain.ports import Traffic, VersionStats
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import open_store
from mlretrain_provider.health import Health
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.model_server import ModelServerHook
from mlretrain_provider.lookout import Lookout
from mlretrain_provider.sensors import deployment
from mlretrain_provider.sensors.deployment import DeploymentHealthSensor
from mlretrain_provider.triggers import deployment as trigger_module
from mlretrain_provider.triggers.deployment import DeploymentHealthTrigger
from tests.fakes.airflow_harness import DagRunHarness, Outcome
from tests.fakes.registry import FakeRegistry
from tests.fakes.target import FakeTarget

pytestmark = pytest.mark.airflow

SHIFTED = datetime(2026, 3, 9, 6, tzinfo=UTC)
SHIFT = {
    "model": "flights",
    "version": "2",
    "champion": "1",
    "weights": {"1": 90, "2": 10},
    "mirrored": {},
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
def rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rollout:
    """Run ``run-1``, which has shifted a tenth of version 1's traffic to version 2."""
    registry, target = FakeRegistry(), FakeTarget()
    for number in ("1", "2"):
        registry.register("flights", "models:/x", f"mlflow-{number}", {})
    registry.set_alias("flights", "champion", "1")
    monkeypatch.setattr(ModelServerHook, "target", lambda self: target)
    monkeypatch.setattr(MLflowHook, "registry", lambda self: registry)
    monkeypatch.setattr(deployment_arguments, "root", f"file://{tmp_path}")
    made = Rollout(
        pipeline="flights",
        run_id="run-1",
        window_end=SHIFTED,
        ledger=Ledger(open_store(f"file://{tmp_path}"), "flights"),
        registry=registry,
        target=target,
        now=lambda: SHIFTED,
    )
    made.shift("2", Traffic(weights={"1": 90, "2": 10}), champion="1", outcome="10")
    return made


@pytest.fixture
def target(rollout: Rollout) -> FakeTarget:
    assert isinstance(rollout.target, FakeTarget)
    return rollout.target


class deployment_arguments:  # noqa: N801
    """What every operator of the pipeline is given."""

    root = ""

    @classmethod
    def of(cls, **settings: Any) -> dict[str, Any]:
        common = {"pipeline": "flights", "artifacts_uri": cls.root, "serving": {"target": "local"}}
        return {**common, "shift": SHIFT, "guards": GUARDS, "bake_s": 600, **settings}


def run(**settings: Any) -> tuple[DagRunHarness, Outcome]:
    given = deployment_arguments.of(**{"deferrable": False, **settings})
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


@pytest.mark.parametrize("mode", MODES)
def test_a_breach_is_over_before_it_is_told(
    clock: type[Clock], target: FakeTarget, rollout: Rollout, mode: str
) -> None:
    target.stats = {"1": GOOD, "2": BAD}

    _, outcome = run(**MODES[mode])

    assert outcome.result["verdict"] == "roll_back"
    assert target.current("flights").weights == {"1": 100}
    assert rollout.ledger.standing().traffic.weights == {"1": 100}
    withdrawn = rollout.ledger.of_run("run-1", "withdrawn")[0]
    assert withdrawn.reason == outcome.result["reason"]


def test_what_is_somebody_elses_by_now_is_left_alone(
    clock: type[Clock], target: FakeTarget, rollout: Rollout
) -> None:
    target.stats = {"2": BAD}
    other = replace(rollout, run_id="run-2")
    other.move_back("2", reason="by hand")

    _, outcome = run()

    assert outcome.result["verdict"] == "roll_back"
    assert target.current("flights").weights == {"2": 100}


def test_a_breach_that_cannot_be_undone_at_once_is_undone_at_the_next_look(
    clock: type[Clock], target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.stats = {"2": BAD}

    def away(self: Any, *args: Any) -> Any:
        raise TransientError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(FakeTarget, "apply", away)
        _, failed = run()
    _, outcome = run()

    assert "the server is away" in str(failed.error)
    assert outcome.result["verdict"] == "roll_back"
    assert target.current("flights").weights == {"1": 100}


def test_the_champion_is_looked_at_in_the_same_time(clock: type[Clock], target: FakeTarget) -> None:
    clock.after = 600
    target.stats = {"1": BAD, "2": replace(BAD, errors=52)}

    _, outcome = run(guards=[{"metric": "error_rate", "versus": "champion", "max_increase": 0.02}])

    assert outcome.result["verdict"] == "advance"
    assert outcome.result["champion"]["errors"] == 50


@pytest.mark.parametrize(("mirrored", "served"), [({}, False), ({"2": 20}, True)])
def test_predictions_are_read_since_the_shift(
    clock: type[Clock],
    target: FakeTarget,
    monkeypatch: pytest.MonkeyPatch,
    mirrored: dict[str, int],
    served: bool,
) -> None:
    clock.after = 600
    target.stats = {"1": GOOD, "2": GOOD}
    asked: list[Any] = []

    def shift(self: PredictionLog, *args: Any, **kwargs: Any) -> PredictionShift:
        asked.append((self.uri, *args, kwargs))
        return PredictionShift(effect=0.4, certain=0.3, rows=200, champion_rows=200)

    monkeypatch.setattr(PredictionLog, "shift", shift)
    monkeypatch.setattr(FakeTarget, "flush", lambda self, model: asked.append(model), raising=False)

    _, outcome = run(
        shift={**SHIFT, "mirrored": mirrored},
        guards=[{"metric": "prediction_shift", "max": 0.1}],
        predictions={"uri": "s3://bucket/predictions", "time_column": "at"},
    )

    assert outcome.result["verdict"] == "roll_back"
    assert outcome.result["shift"]["effect"] == 0.4
    assert asked == ["flights", ("s3://bucket/predictions", "2", "1", SHIFTED, {"mirrored": served})]


def test_predictions_that_nobody_logs_never_advance(clock: type[Clock], target: FakeTarget) -> None:
    clock.after = 4200
    target.stats = {"1": GOOD, "2": GOOD}

    _, outcome = run(guards=[{"metric": "prediction_shift", "max": 0.1}])

    assert outcome.result["verdict"] == "hold"
    assert "prediction_shift is not measured" in outcome.result["reason"]


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
    _, outcome = run(shift={**SHIFT, "weights": {}, "mirrored": {}})

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
    """As it arrives in the triggerer."""
    _, outcome = run(deferrable=True)
    kwargs: Any = deserialize(json.loads(json.dumps(outcome.message.trigger_kwargs)))
    return DeploymentHealthTrigger(**{**kwargs, "poll_interval": 1})


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


@pytest.mark.usefixtures("target")
def test_the_trigger_survives_a_silent_server(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def look(self: Lookout, now: datetime) -> Health:
        if len(pauses) < 3:
            raise TransientError("nobody there")
        return Health(verdict="advance", reason="fine", done=True)

    started = trigger()
    monkeypatch.setattr(Lookout, "look", look)

    assert asyncio.run(first(started))["verdict"] == "advance"
    assert len(pauses) == 3


@pytest.mark.usefixtures("target", "pauses")
def test_the_trigger_reports_what_no_retry_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(self: Lookout, now: datetime) -> Health:
        raise InvalidInput("no such model")

    started = trigger()
    monkeypatch.setattr(Lookout, "look", look)

    assert asyncio.run(first(started))["error"]["message"] == "no such model"


def test_the_trigger_takes_the_traffic_back_before_it_fires(
    target: FakeTarget, pauses: list[float], rollout: Rollout
) -> None:
    target.stats = {"2": FEW}
    started = trigger()
    target.stats = {"2": BAD}

    assert asyncio.run(first(started))["verdict"] == "roll_back"
    assert target.current("flights").weights == {"1": 100}
    assert rollout.ledger.of_run("run-1", "withdrawn")


@pytest.mark.usefixtures("target")
def test_the_trigger_travels(clock: type[Clock]) -> None:
    path, kwargs = trigger().serialize()

    assert path == "mlretrain_provider.triggers.deployment.DeploymentHealthTrigger"
    assert DeploymentHealthTrigger(**kwargs).serialize() == (path, kwargs)
