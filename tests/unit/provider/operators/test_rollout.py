"""From candidate to champion, and back: every act repeatable, every crash mended, ended runs left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from mlretrain.errors import InvalidInput, TransientError
from mlretrain.gates.promotion import Evaluation, Scores
from mlretrain.ports import Traffic, VersionStats
from mlretrain.wire import to_wire
from mlretrain_provider.operators.deployment import (
    CanaryGateOperator,
    DeployModelOperator,
    RollBackModelOperator,
)
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.registry import (
    PromoteModelOperator,
    PromotionGateOperator,
    RegisterModelOperator,
)
from tests.fakes.airflow_harness import DagRunHarness
from tests.fakes.tracker import FakeRun

SERVING = {"target": "local", "conn_id": "mlretrain_model_server_default"}
ROLLOUT = ("register", "promotion_gate", "shift_10", "decide_10", "promote", "roll_back", "record")


class NothingOperator(BaseOperator):
    def execute(self, context: Any) -> None:
        return None


def evaluated(world: Any, auc: float = 0.8, champion: str | None = None) -> dict[str, Any]:
    scores = Scores(holdout_sha256="a" * 64, metrics={"roc_auc": auc})
    evaluation = Evaluation(
        holdout_sha256="a" * 64,
        rows=1000,
        candidate=scores,
        champion=Scores(holdout_sha256="a" * 64, metrics={"roc_auc": 0.75}) if champion else None,
        champion_version=champion,
    )
    return {
        "evaluation_uri": world.put("evaluation.json", to_wire(evaluation)),
        "metrics": {"roc_auc": auc},
        "champion_version": champion,
        "prediction_profile_uri": "file:///predictions.json",
        "calibration_uri": "file:///calibration.json",
        "importance_uri": None,
    }


def retrain_dag(world: Any, evaluation: dict[str, Any], **gate: Any) -> DAG:
    training = {
        "model_uri": "models:/m-1",
        "mlflow_run_id": "mlflow-run-1",
        "profile_uri": "file:///profile.json",
        "holdout_sha256": "a" * 64,
        "dataset_fingerprint": "f" * 64,
        "key": "abc",
    }
    dag: DAG = world.dag()
    with dag:
        register = RegisterModelOperator(task_id="register", training=training, evaluation=evaluation)
        judged = PromotionGateOperator(
            task_id="promotion_gate",
            evaluation=evaluation,
            gates=[{"metric": "roc_auc", "min": 0.7}],
            **gate,
        )
        approve = NothingOperator(task_id="approve")
        shift = DeployModelOperator(task_id="shift_10", version=register.output, serving=SERVING, weight=10)
        decide = CanaryGateOperator(
            task_id="decide_10",
            serving=SERVING,
            shift=shift.output,
            guards=[{"metric": "error_rate", "max": 0.01}],
            min_requests=10,
        )
        promote = PromoteModelOperator(task_id="promote", version=register.output, serving=SERVING)
        roll_back = RollBackModelOperator(task_id="roll_back", serving=SERVING, trigger_rule="one_failed")
        record = RecordRunOperator(task_id="record", serving=SERVING)
        register >> judged >> approve >> shift >> decide >> promote >> record
        [shift, decide, promote] >> roll_back >> record
    return dag


def serve(world: Any, version: str, **stats: Any) -> None:
    world.target.stats[version] = VersionStats(**stats)


def pass_the_stage(world: Any, run: DagRunHarness, version: str = "2") -> None:
    """All that is before the promotion."""
    for task in ("register", "promotion_gate", "shift_10"):
        run.run(task)
    serve(world, version, requests=100)
    assert run.run("decide_10").state == "success"


def state_of(world: Any) -> dict[str, Any]:
    """All that a repetition must not change."""
    return {
        "champion": world.alias("champion"),
        "challenger": world.alias("challenger"),
        "traffic": world.target.current("churn").served,
        "versions": len(world.registry.sources),
        "ledger": [(event.kind, event.outcome, event.at) for event in world.ledger.events()],
    }


def promoted_run(world: Any) -> DagRunHarness:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        assert run.run(task).state == "success", task
    serve(world, "2", requests=100)
    for task in ("decide_10", "promote", "record"):
        assert run.run(task).state == "success", task
    return run


def test_a_candidate_becomes_the_champion(world: Any) -> None:
    run = promoted_run(world)
    assert world.alias("champion") == "2"
    assert world.alias("challenger") is None
    assert world.target.current("churn").served == {"2": 100}
    assert world.kinds() == [
        "registered",
        "gated",
        "shifted",
        "observed",
        "shifted",
        "promoted",
        "retired",
        "concluded",
    ]
    assert run.supervisor.xcoms["promote", "return_value"]["previous"] == "1"
    assert run.supervisor.xcoms["record", "return_value"]["event"] == "promoted"


def test_the_candidate_carries_its_evidence_and_is_the_challenger(world: Any) -> None:
    run = DagRunHarness(retrain_dag(world, evaluated(world)), conf={"reason": "drift in 2 of 3 windows"})
    result = run.run("register").result
    assert result == {
        "name": "churn",
        "version": "1",
        "model_uri": "models:/churn/1",
        "mlflow_run_id": "mlflow-run-1",
    }
    tags = world.registry.version("churn", "@challenger").tags
    assert tags["mlretrain.profile_uri"] == "file:///profile.json"
    assert tags["mlretrain.prediction_profile_uri"] == "file:///predictions.json"
    assert tags["mlretrain.calibration_uri"] == "file:///calibration.json"
    assert "mlretrain.importance_uri" not in tags
    assert tags["mlretrain.reason"] == "drift in 2 of 3 windows"
    assert tags["mlretrain.metric.roc_auc"] == "0.8"
    assert tags["mlretrain.window_end"] == "2026-03-09T06:00:00+00:00"


def test_clearing_any_task_of_a_promoted_run_changes_nothing(world: Any) -> None:
    run = promoted_run(world)
    before = state_of(world)
    for task in ROLLOUT:
        outcome = run.run(task, try_number=2)
        assert outcome.state == "success", task
        assert state_of(world) == before, task


def test_clearing_an_old_run_leaves_the_newer_champion_alone(world: Any) -> None:
    run = promoted_run(world)
    world.promote("mlflow-run-9")
    before = state_of(world)
    for task in ROLLOUT:
        run.run(task, try_number=2)
    assert state_of(world) == before


def test_the_first_model_takes_all_traffic_and_waits_for_none(world: Any) -> None:
    run = DagRunHarness(retrain_dag(world, evaluated(world)))
    run.run("register")
    run.run("promotion_gate")
    shift = run.run("shift_10").result
    assert (shift["champion"], shift["weights"]) == (None, {"1": 100})
    assert run.run("decide_10").result["verdict"] == "advance"
    assert run.run("promote").result == {"name": "churn", "version": "1", "previous": None}


def test_a_rejection_succeeds_and_skips_all_but_the_record(world: Any) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, auc=0.6, champion=champion)))
    run.run("register")
    outcome = run.run("promotion_gate")
    assert outcome.state == "success"
    assert (outcome.result["verdict"], outcome.result["outcome"]) == ("reject", "reject")
    assert outcome.skipped == ["approve", "decide_10", "promote", "roll_back", "shift_10"]
    record = run.run("record").result
    assert record["event"] == "rejected"
    assert "0.6" in record["reason"]
    assert world.alias("champion") == champion
    assert world.alias("challenger") is None
    before = state_of(world)
    for task in ROLLOUT:
        run.run(task, try_number=2)
        assert state_of(world) == before, task


@pytest.mark.parametrize(("mode", "conf"), [("dry_run", {}), ("enforce", {"dry_run": True})])
def test_a_dry_run_judges_and_promotes_nothing(world: Any, mode: str, conf: dict[str, Any]) -> None:
    run = DagRunHarness(retrain_dag(world, evaluated(world), mode=mode), conf=conf)
    run.run("register")
    outcome = run.run("promotion_gate")
    assert (outcome.result["verdict"], outcome.result["outcome"]) == ("promote", "dry_run")
    assert "promote" in outcome.skipped
    assert run.run("record").result["outcome"] == "dry_run"
    assert world.alias("champion") is None


def test_a_changed_threshold_is_judged_again_while_the_run_is_open(world: Any) -> None:
    evaluation = evaluated(world, auc=0.6)
    dag = retrain_dag(world, evaluation)
    run = DagRunHarness(dag)
    assert run.run("promotion_gate").result["verdict"] == "reject"
    gate: Any = dag.get_task("promotion_gate")
    gate.gates = [{"metric": "roc_auc", "min": 0.5}]
    assert run.run("promotion_gate").result["verdict"] == "promote"


def test_the_evidence_is_a_table_in_the_log(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    DagRunHarness(retrain_dag(world, evaluated(world, auc=0.6))).run("promotion_gate")
    lines = capsys.readouterr().out.splitlines()
    assert any("roc_auc" in line and "0.6" in line and "NO" in line for line in lines)


@pytest.mark.parametrize("crash", ["apply", "set_alias", "tag"])
def test_a_crash_anywhere_in_the_promotion_is_mended_by_running_it_again(
    world: Any, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    pass_the_stage(world, run)
    operator = type(world.target if crash == "apply" else world.registry)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise TransientError("away")

    with monkeypatch.context() as broken_world:
        broken_world.setattr(operator, crash, broken)
        assert run.run("promote", retries_left=True).state == "up_for_retry"
    assert run.run("promote", try_number=2).result["previous"] == champion
    assert world.alias("champion") == "2"
    assert world.target.current("churn").served == {"2": 100}


def test_a_candidate_judged_beside_another_champion_is_refused(world: Any) -> None:
    first = world.promote("mlflow-run-0")
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=first)))
    pass_the_stage(world, run)
    newer = world.promote("mlflow-run-9")
    outcome = run.run("promote", retries_left=True)
    assert outcome.state == "failed"
    assert "the champion has changed" in str(outcome.error)
    assert world.alias("champion") == newer


def test_a_breached_guard_fails_and_the_champion_takes_the_traffic_back(world: Any) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        run.run(task)
    assert world.target.current("churn").served == {"1": 90, "2": 10}
    serve(world, "2", requests=100, errors=50)
    outcome = run.run("decide_10", retries_left=True)
    assert outcome.state == "failed"
    assert "error_rate" in str(outcome.error)
    assert run.run("roll_back").result["version"] == champion
    assert world.target.current("churn").served == {"1": 100}
    record = run.run("record").result
    assert record["event"] == "rolled_back"
    assert "error_rate is 0.5, required ≤ 0.01" in record["reason"]
    before = state_of(world)
    for task in ROLLOUT:
        assert run.run(task, try_number=2).state == "success", task
        assert state_of(world) == before, task


def test_too_few_requests_hold_and_may_be_retried(world: Any) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        run.run(task)
    serve(world, "2", requests=3)
    assert run.run("decide_10", retries_left=True).state == "up_for_retry"


def test_the_same_shift_again_keeps_its_instant(world: Any) -> None:
    world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion="1")))
    run.run("register")
    run.run("promotion_gate")
    assert run.run("shift_10").result == run.run("shift_10", try_number=2).result


def test_a_failed_run_goes_on_where_it_stopped(world: Any) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    run.run("register")
    run.supervisor.states["promotion_gate"] = "failed"
    assert run.run("record").result["outcome"] == "failed"
    for task in ("promotion_gate", "shift_10"):
        run.run(task, try_number=2)
    serve(world, "2", requests=100)
    for task in ("decide_10", "promote", "record"):
        assert run.run(task, try_number=2).state == "success", task
    assert world.alias("champion") == "2"
    assert world.ledger.outcome("run-1") == "promoted"


def test_a_rollout_that_nobody_ended_is_ended_with_its_run(world: Any) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        run.run(task)
    run.supervisor.states["decide_10"] = "failed"
    record = run.run("record").result
    assert (record["outcome"], record["reason"]) == ("rolled_back", "the run ended in mid-rollout")
    assert world.target.current("churn").served == {champion: 100}


def test_a_promotion_that_the_ledger_knows_is_finished_by_the_record(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    pass_the_stage(world, run)
    with monkeypatch.context() as broken_world:
        broken_world.setattr(type(world.registry), "set_alias", lambda *a, **k: 1 / 0)
        assert run.run("promote").state == "failed"
    assert world.alias("champion") == champion
    run.run("roll_back")
    assert run.run("record").result["outcome"] == "promoted"
    assert world.alias("champion") == "2"
    assert world.target.current("churn").served == {"2": 100}


def test_a_promotion_that_cannot_be_served_is_rolled_back(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    pass_the_stage(world, run)
    with monkeypatch.context() as broken_world:
        broken_world.setattr(type(world.target), "apply", refuse)
        assert run.run("promote", retries_left=True).state == "failed"
    assert run.run("roll_back").result == {
        "name": "churn",
        "version": champion,
        "previous": "2",
        "reason": "the version cannot be loaded",
    }
    assert world.alias("champion") == champion
    assert world.target.current("churn").served == {champion: 100}
    assert run.run("record").result["outcome"] == "rolled_back"


def refuse(*args: Any, **kwargs: Any) -> None:
    raise InvalidInput("the version cannot be loaded")


def test_the_first_model_stays_served_when_its_rollout_fails(world: Any) -> None:
    run = DagRunHarness(retrain_dag(world, evaluated(world)))
    for task in ("register", "promotion_gate", "shift_10"):
        run.run(task)
    serve(world, "1", requests=100, errors=50)
    assert run.run("decide_10").state == "failed"
    assert run.run("roll_back").result["version"] is None
    assert world.target.current("churn").served == {"1": 100}
    assert world.alias("champion") is None
    assert run.run("record").result["outcome"] == "rolled_back"


def test_a_run_that_failed_before_its_rollout_has_nothing_to_roll_back(world: Any) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    run.run("register")
    run.supervisor.states["promotion_gate"] = "failed"
    assert run.run("roll_back").state == "skipped"
    assert run.run("record").result["outcome"] == "failed"
    for task in ("promotion_gate", "shift_10"):
        assert run.run(task, try_number=2).state == "success", task


def test_a_champion_from_before_the_ledger_is_entered_there(world: Any) -> None:
    champion = world.registry.register("churn", "models:/old", "old", {}).version
    world.registry.set_alias("churn", "champion", champion)
    world.target.apply("churn", Traffic(weights={champion: 100}))
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        assert run.run(task).state == "success"
    entered, *_ = world.ledger.events("promoted")
    assert (entered.version, entered.reason) == (
        champion,
        "it was the champion before the ledger knew of any",
    )
    assert world.target.current("churn").served == {champion: 90, "2": 10}


def test_a_rollout_that_another_run_has_taken_over_moves_nothing_more(world: Any) -> None:
    world.promote()
    world.promote("mlflow-run-5")
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion="2")))
    pass_the_stage(world, run, "3")
    back = DagRunHarness(rollback_dag(world, to="v1", reason="complaints"), run_id="manual__1")
    assert back.run("roll_back").result["version"] == "1"
    outcome = run.run("promote", retries_left=True)
    assert outcome.state == "failed"
    assert "the champion has changed" in str(outcome.error)
    assert run.run("roll_back").result["version"] == "1"
    run.run("record")
    assert (world.alias("champion"), world.target.current("churn").served) == ("1", {"1": 100})


def rollback_dag(world: Any, **arguments: Any) -> DAG:
    dag: DAG = world.dag("churn.rollback")
    with dag:
        back = RollBackModelOperator(task_id="roll_back", serving=SERVING, **arguments)
        back >> RecordRunOperator(task_id="record", kind="rollback")
    return dag


def test_rolling_back_by_hand_goes_to_the_champion_before(world: Any) -> None:
    promoted_run(world)
    run = DagRunHarness(rollback_dag(world, to="", reason="complaints"), run_id="manual__1")
    assert run.run("roll_back").result == {
        "name": "churn",
        "version": "1",
        "previous": "2",
        "reason": "complaints",
    }
    assert world.alias("champion") == "1"
    assert world.target.current("churn").served == {"1": 100}
    assert run.run("record").result["event"] == "rolled_back"
    before = state_of(world)
    run.run("roll_back", try_number=2)
    assert state_of(world) == before


def test_a_rollback_that_stopped_half_way_does_not_go_back_twice(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted_run(world)
    run = DagRunHarness(rollback_dag(world, to="previous", reason="complaints"), run_id="manual__1")
    with monkeypatch.context() as broken_world:
        broken_world.setattr(type(world.registry), "set_alias", lambda *a, **k: 1 / 0)
        assert run.run("roll_back").state == "failed"
    assert run.run("roll_back", try_number=2).result["version"] == "1"
    assert world.alias("champion") == "1"


def test_a_rollback_to_what_cannot_be_served_changes_nothing(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted_run(world)
    run = DagRunHarness(rollback_dag(world, to="1", reason="complaints"), run_id="manual__1")
    served = type(world.target).apply

    def only_the_second(target: Any, model: str, traffic: Traffic) -> None:
        refuse() if "1" in traffic.served else served(target, model, traffic)

    monkeypatch.setattr(type(world.target), "apply", only_the_second)
    assert run.run("roll_back", retries_left=True).state == "failed"
    run.run("record")
    assert (world.alias("champion"), world.target.current("churn").served) == ("2", {"2": 100})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "99", "reason": "complaints"}, "no such version"),
        ({"to": "previous", "reason": " "}, "needs a reason"),
        ({"to": "previous", "reason": "complaints"}, "no champion before"),
    ],
)
def test_a_rollback_that_cannot_be_is_refused(world: Any, arguments: dict[str, Any], message: str) -> None:
    world.promote()
    outcome = DagRunHarness(rollback_dag(world, **arguments)).run("roll_back", retries_left=True)
    assert outcome.state == "failed"
    assert message in str(outcome.error)
    assert world.alias("champion") == "1"


@pytest.mark.parametrize("weight", ["a lot", 101, -1])
def test_a_share_that_is_none_is_refused(world: Any, weight: Any) -> None:
    dag: DAG = world.dag()
    with dag:
        DeployModelOperator(task_id="shift", version="1", serving=SERVING, weight=weight)
    outcome = DagRunHarness(dag).run("shift", retries_left=True)
    assert outcome.state == "failed"
    assert "0 to 100" in str(outcome.error)


def test_the_verdict_is_kept_with_its_checks(world: Any) -> None:
    outcome = DagRunHarness(retrain_dag(world, evaluated(world))).run("promotion_gate")
    path = outcome.result["checks_uri"].removeprefix(world.artifacts_uri + "/")
    kept = json.loads(world.store.read(path))
    assert kept["verdict"] == "promote"
    assert [check["name"] for check in kept["checks"]] == ["holdout", "roc_auc"]


@pytest.mark.parametrize("left_out", ["promotion_gate", "decide_10"])
def test_what_was_marked_as_success_by_hand_does_not_count(world: Any, left_out: str) -> None:
    champion = world.promote()
    run = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        if task != left_out:
            run.run(task)
    serve(world, "2", requests=100)
    if left_out != "decide_10":
        run.run("decide_10")
    outcome = run.run("promote", retries_left=True)
    assert outcome.state == "failed"
    assert f"task {left_out} demands" in str(outcome.error)
    assert world.alias("champion") == champion


def test_a_version_that_failed_its_smoke_test_is_rejected(world: Any) -> None:
    dag = retrain_dag(world, evaluated(world))
    gate: Any = dag.get_task("promotion_gate")
    gate.smoke_test = {"passed": False, "reason": "the model does not load: No module named 'xgboost'"}
    result = DagRunHarness(dag).run("promotion_gate").result
    assert result["verdict"] == "reject"
    assert "smoke test is failed, required passed" in result["reason"]
    assert "No module named" in result["evidence_md"]


def test_the_end_of_a_run_leaves_a_card_and_the_evidence_for_its_note(world: Any) -> None:
    world.tracker.runs["mlflow-run-1"] = FakeRun(experiment="churn", name="train", tags={})
    run = promoted_run(world)
    result = run.supervisor.xcoms["record", "return_value"]
    assert "| roc_auc | 0.8 |" in result["evidence_md"]
    card = world.store.read("churn/cards/v2.md").decode()
    assert "# churn, version 2" in card
    assert "mlretrain rollback churn --to v1" in card
    assert world.registry.descriptions["churn", "2"].startswith("# churn, version 2")
