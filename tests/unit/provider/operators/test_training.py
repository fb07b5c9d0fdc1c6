"""Training and evaluation: what the job is told, and what is decided before it starts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.data.dataset import DataFile, Dataset
from mlretrain.runtime.contract import parse_request
from mlretrain.runtime.store import read_uri
from mlretrain.wire import to_wire
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.training import EvaluateModelOperator, TrainModelOperator
from tests.fakes.airflow_harness import DagRunHarness


@pytest.fixture
def dag(world: Any) -> DAG:
    dataset = Dataset(
        uri="file:///data",
        format="csv",
        files=(DataFile(uri="file:///data/a.csv", size=1, etag="sha256:0"),),
        start=None,
        end=datetime(2026, 3, 9, tzinfo=UTC),
        rows=3,
        fingerprint="f" * 64,
    )
    uri = world.put("dataset.json", to_wire(dataset))
    world.backend.work["train"] = lambda request: {
        "model_uri": "models:/m-1",
        "mlflow_run_id": request.frozen["mlflow_run_id"],
        "holdout_uri": "file:///h",
        "holdout_sha256": "a",
        "features": ["x"],
        "time_column": "at",
    }
    world.backend.work["evaluate"] = lambda request: request.frozen
    dag: DAG = world.dag()
    with dag:
        train = TrainModelOperator(
            task_id="train",
            dataset={"dataset_uri": uri},
            target="y",
            entrypoint="code:train",
            hyperparameters={"depth": 3, "rate": 0.1},
            time_column="at",
            profile={"chunk_s": 60.0},
        )
        evaluate = EvaluateModelOperator(
            task_id="evaluate", training=train.output, target="y", metrics=["roc_auc"]
        )
        train >> evaluate >> RecordRunOperator(task_id="record")
    return dag


def request(world: Any, number: int = 0) -> Any:
    uri = world.backend.jobs[number].request_uri
    return parse_request(read_uri(uri), uri)


def test_the_mlflow_run_is_open_and_knows_its_data_before_the_job(world: Any, dag: DAG) -> None:
    result = DagRunHarness(dag, conf={"reason": "drift"}).run("train").result
    (run_id,) = world.tracker.runs
    assert result["mlflow_run_id"] == run_id
    assert result["dataset_fingerprint"] == "f" * 64
    assert request(world).frozen == {"mlflow_run_id": run_id, "dataset_fingerprint": "f" * 64}
    assert request(world).config["chunk_s"] == 60
    assert request(world).config["holdout"] == {"by": "time", "fraction": 0.2}


def test_training_again_opens_no_second_run(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    assert run.run("train").result == run.run("train", try_number=2).result
    assert len(world.tracker.runs) == len(world.backend.jobs) == 1


def test_the_form_overrides_single_parameters(world: Any, dag: DAG) -> None:
    DagRunHarness(dag, conf={"params": {"depth": 8}}).run("train")
    assert request(world).config["params"] == {"depth": 8, "rate": 0.1}


def test_what_a_search_found_goes_before_the_fixed_and_after_the_form(world: Any, dag: DAG) -> None:
    train: Any = dag.get_task("train")
    train.tuning = {"best_params": {"depth": 5, "rate": 0.3}, "mlflow_run_id": "search"}
    train.hyperparameters = {"depth": 3, "bins": 64}
    DagRunHarness(dag, conf={"params": {"rate": 0.9}}).run("train")
    assert request(world).config["params"] == {"depth": 5, "rate": 0.9, "bins": 64}
    assert world.tracker.runs["run1"].tags["mlretrain.tune_run_id"] == "search"


def test_the_forms_own_defaults_count_too(world: Any, dag: DAG) -> None:
    dag.params = {"params": {"depth": 9}, "reason": "a new season"}  # type: ignore[assignment]
    DagRunHarness(dag).run("train")
    assert request(world).config["params"]["depth"] == 9
    assert world.tracker.runs["run1"].tags["mlretrain.reason"] == "a new season"


def test_parameters_that_are_none_are_refused(world: Any, dag: DAG) -> None:
    outcome = DagRunHarness(dag, conf={"params": "depth=8"}).run("train", retries_left=True)
    assert outcome.state == "failed"
    assert "dag_run.conf.params" in str(outcome.error)


@pytest.mark.parametrize(
    ("conf", "evidence"),
    [
        ({}, {"cause": "manual", "dry_run": False}),
        ({"cause": "drift"}, {"cause": "drift", "dry_run": False}),
        ({"dry_run": True}, {"cause": "manual", "dry_run": True}),
    ],
)
def test_every_training_is_known_to_the_policy(world: Any, dag: DAG, conf: Any, evidence: Any) -> None:
    run = DagRunHarness(dag, conf=conf)
    run.run("train")
    run.run("train", try_number=2)
    (event,) = world.ledger.events("retrain_requested")
    assert event.evidence == evidence


def test_the_champion_is_the_one_of_the_first_request(world: Any, dag: DAG) -> None:
    world.promote()
    run = DagRunHarness(dag)
    run.run("train")
    first = run.run("evaluate").result
    assert first["champion"] == {"version": "1", "model_uri": "models:/churn/1"}
    world.promote("mlflow-run-9")
    assert run.run("evaluate", try_number=2).result == first


def test_without_a_champion_the_candidate_is_scored_alone(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    run.run("train")
    assert run.run("evaluate").result["champion"] is None


def test_a_failed_run_closes_its_mlflow_run(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    run.run("train")
    run.supervisor.states["evaluate"] = "failed"
    record = run.run("record").result
    assert (record["outcome"], record["reason"]) == ("failed", "evaluate failed")
    assert [each.status for each in world.tracker.runs.values()] == ["FAILED"]
    assert world.ledger.outcome("run-1") == "failed"


def test_a_run_that_failed_before_it_did_anything_is_recorded(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    run.supervisor.states.update(train="failed", evaluate="upstream_failed")
    assert run.run("record").result == {
        "outcome": "failed",
        "reason": "train failed",
        "event": "failed",
        "version": None,
        "previous": None,
        "evidence_md": "",
    }


def test_rows_are_scored_in_blocks_of_the_datas_own_time(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    run.run("train")
    run.run("evaluate")
    config = request(world, 1).config
    assert (config["time_column"], config["importance"]) == ("at", "auto")


def test_the_job_is_told_what_gates_ask_of_it(world: Any, dag: DAG) -> None:
    evaluate: Any = dag.get_task("evaluate")
    assert evaluate.latency_rows == 200
    evaluate.functions, evaluate.latency_rows = ["code.gates:check"], "100"
    run = DagRunHarness(dag)
    run.run("train")
    run.run("evaluate")
    config = request(world, 1).config
    assert (config["functions"], config["latency_rows"]) == (["code.gates:check"], 100)
