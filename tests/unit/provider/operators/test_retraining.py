"""From recorded windows to a decision, to at most one retraining, and to what people are told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from mlretrain.decisions import DecisionLog, DecisionRecord
from mlretrain.policy.retrain import WindowRecord
from mlretrain.windows import WindowLog
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.retraining import RetrainPolicyOperator, TriggerRetrainOperator
from tests.fakes.airflow_harness import RUN_AFTER, DagRunHarness

RUN_ID = "drift__20260309T060000Z"
POLICY = {"when": {"any": ["drift", "performance"]}, "violated": 1, "of": 3, "cooldown_s": 7 * 86400.0}


class Measure(BaseOperator):
    """Returns what it is given; without anything it is skipped."""

    def __init__(self, *, result: dict[str, Any] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.result = result

    def execute(self, context: Any) -> Any:
        if self.result is None:
            raise AirflowSkipException("there is nothing to measure")
        return self.result


@pytest.fixture
def champion(world: Any) -> str:
    return str(world.promote())


def monitor(
    world: Any,
    *,
    drift: dict[str, Any] | None = None,
    policy: Any = None,
    run_id: str = "run-1",
    day: int = 0,
) -> DagRunHarness:
    dag: DAG = world.dag("churn.monitor")
    with dag:
        measured = Measure(task_id="detect_drift", result={} if drift is None else drift)
        performance = Measure(task_id="measure_performance", result=None)
        decision = RetrainPolicyOperator(
            task_id="decide_retrain",
            drift=measured.output,
            performance=performance.output,
            policy=policy or POLICY,
        )
        trigger = TriggerRetrainOperator(
            task_id="trigger_retrain", decision=decision.output, trigger_dag_id="churn.retrain"
        )
        trigger >> RecordRunOperator(task_id="record", kind="monitor")
    run = DagRunHarness(dag, run_id=run_id, run_after=RUN_AFTER + timedelta(days=day))
    run.run("detect_drift")
    run.run("measure_performance")
    return run


def window(
    world: Any,
    champion: str,
    *,
    day: int = 0,
    measure: str = "",
    summary: str = "x has moved",
    **signals: Any,
) -> None:
    end = RUN_AFTER + timedelta(days=day)
    record = WindowRecord(
        pipeline="churn",
        window_start=end - timedelta(days=1),
        window_end=end,
        rows=1000,
        champion=champion,
        signals=signals,
        summary=summary,
        measure=measure,
    )
    WindowLog(world.store, "churn").record(record)


def kept(world: Any, day: int = 0) -> DecisionRecord:
    record = DecisionLog(world.store, "churn").at(RUN_AFTER + timedelta(days=day))
    assert record is not None
    return record


def events(world: Any, run: DagRunHarness) -> dict[str, Any]:
    """What people are told of the run."""
    told = run.run("record").result
    return {"event": told["event"], "reason": told["reason"], "version": told["version"]}


def test_a_violated_window_starts_one_retraining_and_is_told_as_drift(world: Any, champion: str) -> None:
    window(world, champion, drift=False)
    window(world, champion, measure="performance", summary="roc_auc is 0.61", performance=True)
    run = monitor(world)
    result = run.run("decide_retrain").result
    assert result == {
        "verdict": "retrain",
        "level": "retrain",
        "reason": (
            "retrain: drift or performance in 1 of the last 1 windows (x has moved; roc_auc is 0.61); "
            "no earlier retrain; champion v1"
        ),
        "run_id": RUN_ID,
        "window_end": "2026-03-09T06:00:00+00:00",
        "cause": "drift",
        "champion": champion,
        "decision_uri": f"{world.artifacts_uri}/churn/decisions/20260309T060000Z.json",
    }
    assert run.run("trigger_retrain").state == "success"
    assert list(run.supervisor.dag_runs) == [("churn.retrain", RUN_ID)]
    (request,) = world.ledger.events("retrain_requested")
    assert (request.evidence["cause"], request.evidence["champion"]) == ("drift", champion)
    assert events(world, run) == {"event": "drift", "reason": result["reason"], "version": champion}


def test_a_decision_is_kept_with_its_evidence(world: Any, champion: str) -> None:
    window(world, champion, drift=True)
    result = monitor(world).run("decide_retrain").result
    record = json.loads(world.store.read(result["decision_uri"].removeprefix(f"{world.artifacts_uri}/")))
    assert record["decision"]["reason"] == result["reason"]
    assert record["champion"] == champion
    assert [each["signals"] for each in record["decision"]["windows"]] == [{"drift": True}]
    assert {each["name"] for each in record["decision"]["checks"]} >= {
        "windows",
        "cooldown",
        "failed retrains",
    }
    assert record["policy"]["when"]["any"] == ["drift", "performance"]


def test_the_decision_is_told_where_mlflow_shows_what_was_measured(world: Any, champion: str) -> None:
    window(world, champion, drift=True)
    mlflow_run_id = world.tracker.open_run("churn", "monitor", "monitor", {})
    drift = {"mlflow_run_id": mlflow_run_id, "summary": "x has moved"}
    result = monitor(world, drift=drift).run("decide_retrain").result
    assert world.tracker.runs[mlflow_run_id].description == f"{result['reason']}\n\nx has moved"


def test_a_window_in_the_cooldown_is_told_as_a_warning(world: Any, champion: str) -> None:
    for day in (0, 1):
        window(world, champion, day=day, drift=True)
        run = monitor(world, day=day)
        outcome = run.run("decide_retrain")
    assert (outcome.result["verdict"], outcome.result["level"]) == ("keep", "warn")
    assert outcome.skipped == ["trigger_retrain"]
    told = events(world, run)
    assert told["event"] == "warned"
    assert ", but drift__20260309T060000Z has not ended; " in told["reason"]


def test_a_fine_window_is_stable(world: Any, champion: str) -> None:
    window(world, champion, drift=False)
    run = monitor(world)
    assert run.run("decide_retrain").result["level"] == "none"
    assert events(world, run)["event"] == "stable"


def test_a_schema_that_changed_pages_and_retrains_nothing(world: Any, champion: str) -> None:
    window(world, champion, drift=True, schema=True, summary="tailnum has vanished")
    run = monitor(world)
    outcome = run.run("decide_retrain")
    assert (outcome.result["verdict"], outcome.skipped) == ("keep", ["trigger_retrain"])
    told = events(world, run)
    assert told["event"] == "paged"
    assert "bring the data back" in told["reason"]
    assert world.ledger.events("retrain_requested") == ()


def test_windows_of_which_nothing_is_recorded_are_unknown_and_then_page(world: Any, champion: str) -> None:
    told = []
    for day in range(3):
        run = monitor(world, day=day)
        assert run.run("decide_retrain").result["verdict"] == "keep"
        told.append(events(world, run))
    assert [each["event"] for each in told] == ["unknown", "unknown", "paged"]
    assert "the window could not be judged (nothing was measured)" in told[0]["reason"]
    assert "3 windows in a row could not be judged (nothing was measured)" in told[2]["reason"]
    assert [each.rows for each in WindowLog(world.store, "churn").all()] == [0, 0, 0]


def test_what_is_measured_later_takes_the_place_of_nothing(world: Any, champion: str) -> None:
    monitor(world).run("decide_retrain")
    window(world, champion, drift=False)
    assert monitor(world).run("decide_retrain").result["level"] == "none"
    assert kept(world).decision.state == "fine"
    assert len(WindowLog(world.store, "churn").all()) == 1


def test_a_promotion_between_measuring_and_deciding_makes_no_window_unknown(
    world: Any, champion: str
) -> None:
    window(world, "0", drift=True)
    result = monitor(world).run("decide_retrain").result
    assert "could not be judged (it was not measured against this champion); " in result["reason"]
    assert [each.champion for each in WindowLog(world.store, "churn").all()] == ["0"]


def test_a_decision_is_taken_also_where_what_measures_was_skipped(world: Any) -> None:
    operator = monitor(world).dag.get_task("decide_retrain")
    assert operator.trigger_rule == TriggerRule.NONE_FAILED


def test_without_a_champion_nothing_is_decided_on(world: Any) -> None:
    run = monitor(world)
    result = run.run("decide_retrain").result
    assert (result["verdict"], result["champion"]) == ("keep", None)
    assert events(world, run) == {
        "event": "skipped",
        "reason": "there was nothing to measure",
        "version": None,
    }


def test_a_request_stands_with_its_evidence_under_the_champion_that_came_of_it(
    world: Any, champion: str
) -> None:
    window(world, champion, drift=True)
    first = monitor(world).run("decide_retrain").result
    before = kept(world)
    learnt = world.promote("mlflow-run-1")
    window(world, learnt, drift=False)
    again = monitor(world, run_id="again").run("decide_retrain").result
    assert again == {**first, "champion": learnt}
    assert kept(world) == before
    assert len(world.ledger.events("retrain_requested")) == 1


@pytest.mark.parametrize("written", ["the request", "the request and the decision"])
def test_a_worker_that_dies_while_it_decides_leaves_one_request_and_its_retry_the_rest(
    world: Any, champion: str, written: str
) -> None:
    window(world, champion, drift=True)
    run = monitor(world)
    first = run.run("decide_retrain").result
    path = first["decision_uri"].removeprefix(f"{world.artifacts_uri}/")
    decision = world.store.read(path)
    if written == "the request":
        (world.root / "artifacts" / path).unlink()
    retried = monitor(world)
    assert retried.run("decide_retrain").result == first
    assert world.store.read(path) == decision
    assert retried.run("trigger_retrain").state == "success"
    assert len(world.ledger.events("retrain_requested")) == 1


def test_deciding_again_with_another_policy_replaces_what_was_decided(world: Any, champion: str) -> None:
    window(world, champion, drift=True)
    strict = {**POLICY, "violated": 2}
    assert monitor(world, policy=strict).run("decide_retrain").result["level"] == "warn"
    assert kept(world).decision.verdict == "keep"
    assert monitor(world).run("decide_retrain").result["level"] == "retrain"
    assert kept(world).decision.verdict == "retrain"


def test_retrains_that_help_nothing_page_and_start_no_more(world: Any, champion: str) -> None:
    levels = []
    for day in range(0, 35, 7):
        window(world, champion, day=day, drift=True)
        levels.append(monitor(world, day=day).run("decide_retrain").result["level"])
    assert levels == ["retrain", "retrain", "page", "page", "page"]
    assert len(world.ledger.events("retrain_requested")) == 2
    assert "2 retrains in a row were to cure it (drift__20260309T060000Z without end" in (
        kept(world, 28).decision.reason
    )


@pytest.mark.parametrize(
    ("signals", "event"),
    [
        ({"drift": True}, "drift"),
        ({"drift": False, "performance": True}, "warned"),
        ({"drift": False, "performance": None}, "stable"),
        ({"drift": None}, "unknown"),
    ],
)
def test_where_nothing_decides_the_window_itself_is_told_of(
    world: Any, champion: str, signals: dict[str, Any], event: str
) -> None:
    window(world, "9", drift=False)
    window(world, champion, **signals)
    dag: DAG = world.dag("churn.monitor")
    with dag:
        RecordRunOperator(task_id="record", kind="monitor")
    assert events(world, DagRunHarness(dag)) == {
        "event": event,
        "reason": "x has moved",
        "version": champion,
    }


def test_a_task_that_failed_goes_before_any_decision(world: Any, champion: str) -> None:
    window(world, champion, drift=True)
    run = monitor(world)
    run.run("decide_retrain")
    run.supervisor.states["trigger_retrain"] = "failed"
    assert events(world, run)["event"] == "failed"


def test_a_wrong_policy_fails_with_what_is_allowed(world: Any, champion: str) -> None:
    outcome = monitor(world, policy={"when": {"any": ["drifft"]}}).run("decide_retrain")
    assert outcome.state == "failed"
    assert "no such signal (found drifft; allowed: drift, prediction," in str(outcome.error)
