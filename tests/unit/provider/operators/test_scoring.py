"""Scoring: who scores is decided once, by the champion or by the order; and what is told of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.batch.orders import Orders, batch_folder
from mlretrain.batch.tally import Tally, tally_name, write_tallies
from mlretrain.errors import InvalidInput
from mlretrain.ports import Traffic
from mlretrain.runtime.contract import StepRequest, parse_request
from mlretrain.runtime.store import open_store, read_uri
from mlretrain_provider.lineage import trace_of
from mlretrain_provider.operators.record import RecordRunOperator, scored
from mlretrain_provider.operators.scoring import ScoreDataOperator
from mlretrain_provider.targets import Surroundings
from mlretrain_provider.targets.batch import BatchTarget
from tests.fakes.airflow_harness import DagRunHarness

from . import test_rollout
from .test_rollout import evaluated, retrain_dag

RESULT = {
    "output_uri": "s3://ml/scores",
    "success_uri": "s3://ml/scores/_SUCCESS",
    "rows": 1500,
    "partitions": 3,
    "generation": 4,
    "versions": {"1": {"weight": 90, "rows": 1350}, "2": {"weight": 10, "rows": 150}},
    "schema": [{"name": "prediction", "type": "double"}],
    "dataset_fingerprint": "f" * 64,
}


def dag_of(world: Any, serving: Any = None) -> DAG:
    world.backend.work["score"] = lambda request: RESULT
    dag: DAG = world.dag("churn.score")
    with dag:
        score = ScoreDataOperator(
            task_id="score",
            dataset="file:///d.json",
            output_uri="s3://ml/scores",
            key=["id"],
            columns=["country"],
            partition_by="at",
            serving=serving,
        )
        record = RecordRunOperator(task_id="record", kind="score")
        score >> record
        record.as_teardown()
    return dag


def request(world: Any, number: int = 0) -> StepRequest:
    uri = world.backend.jobs[number].request_uri
    return parse_request(read_uri(uri), uri)


def order(world: Any, **traffic: Any) -> None:
    Orders(world.store, batch_folder("churn", "churn")).place("churn", Traffic(**traffic))


def test_the_champion_scores_everything(world: Any) -> None:
    world.promote(**{"mlretrain.model_sha256": "abc"})
    run = DagRunHarness(dag_of(world))
    run.run("score")

    asked = request(world)
    assert asked.config == {
        "dataset_uri": "file:///d.json",
        "model": "churn",
        "output_uri": "s3://ml/scores",
        "key": ["id"],
        "columns": ["country"],
        "partition_by": "at",
        "tallies_uri": f"{world.artifacts_uri}/churn/batch/churn/tallies",
    }
    assert asked.frozen["traffic"] == {"weights": {"1": 100}, "mirrored": {}, "generation": 0}
    assert asked.frozen["versions"]["1"]["model_uri"] == "models:/churn/1"
    assert asked.frozen["versions"]["1"]["tags"]["mlretrain.model_sha256"] == "abc"


def test_the_order_in_force_decides_and_stays_decided(world: Any) -> None:
    world.promote()
    world.promote("mlflow-run-1")
    order(world, weights={"1": 90, "2": 10}, generation=7)
    run = DagRunHarness(dag_of(world, {"target": "batch"}))
    run.run("score")
    order(world, weights={"2": 100}, generation=8)
    run.run("score", try_number=2)

    assert len(world.backend.jobs) == 1
    assert request(world).frozen["traffic"]["weights"] == {"1": 90, "2": 10}
    assert set(request(world).frozen["versions"]) == {"1", "2"}


def test_where_no_order_was_ever_given_the_champion_scores(world: Any) -> None:
    version = world.promote()
    DagRunHarness(dag_of(world, {"target": "batch"})).run("score")

    assert request(world).frozen["traffic"]["weights"] == {version: 100}


def test_where_nobody_serves_nothing_is_scored(world: Any) -> None:
    run = DagRunHarness(dag_of(world))
    run.run("score")
    told = run.run("record").result

    assert not world.backend.jobs
    assert told["outcome"] == "skipped"
    assert "there is no champion" in told["reason"]


def test_an_ordered_version_that_is_gone_is_an_error(world: Any) -> None:
    order(world, weights={"9": 100}, generation=1)

    assert isinstance(DagRunHarness(dag_of(world, {"target": "batch"})).run("score").error, InvalidInput)


def test_a_scoring_is_recorded_and_the_ledger_left_alone(world: Any) -> None:
    world.promote()
    links = len(list(world.ledger.links()))
    run = DagRunHarness(dag_of(world))
    run.run("score")
    told = run.run("record").result

    assert (told["outcome"], told["event"], told["version"]) == ("scored", "scored", "1")
    assert told["reason"] == "1500 rows in 3 partitions (version 1 1350, version 2 150): s3://ml/scores"
    assert len(list(world.ledger.links())) == links
    assert not dag_of(world).get_task("record").outlets


@pytest.mark.parametrize(
    ("states", "found", "outcome"),
    [({"score": "failed"}, None, "failed"), ({"resolve_data": "skipped"}, None, "skipped")],
)
def test_a_run_without_scores_says_why(states: dict[str, str], found: Any, outcome: str) -> None:
    assert scored(states, found)[0] == outcome


def test_the_scores_have_a_lineage(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": "http://ml:5000"})
    )
    trace = trace_of(dag_of(world).get_task("score"), RESULT)

    assert trace is not None
    assert [each.name for each in trace.inputs] == ["/d.json", "models/churn/1", "models/churn/2"]
    (scores,) = trace.outputs
    assert (scores.namespace, scores.name, scores.version) == ("s3://ml", "scores", "f" * 64)
    assert scores.columns == [{"name": "prediction", "type": "double"}]


@pytest.mark.parametrize(
    ("failing", "state", "after"), [(0, "success", {"1": 90, "2": 10}), (40, "failed", {"1": 100})]
)
def test_a_canary_in_batches_is_judged_by_the_rows_it_has_scored(
    world: Any, monkeypatch: pytest.MonkeyPatch, failing: int, state: str, after: dict[str, int]
) -> None:
    serving = {"target": "batch"}
    monkeypatch.setattr(test_rollout, "SERVING", serving)
    champion = world.promote()
    rollout = DagRunHarness(retrain_dag(world, evaluated(world, champion=champion)))
    for task in ("register", "promotion_gate", "shift_10"):
        assert rollout.run(task).state == "success", task

    def work(asked: StepRequest) -> dict[str, Any]:
        told = {version: Tally() for version in asked.frozen["traffic"]["weights"]}
        told["1"].answered(900, 0.9)
        told["2"].answered(100 - failing, 0.1)
        if failing:
            told["2"].failed(failing)
        begun = datetime.fromisoformat(asked.frozen["at"])
        store = open_store(str(asked.config["tallies_uri"]))
        write_tallies(store, tally_name(begun, asked.job), told)
        return RESULT

    dag = dag_of(world, serving)
    world.backend.work["score"] = work
    assert DagRunHarness(dag).run("score").state == "success"

    assert rollout.run("decide_10").state == state
    assert world_target(world).current("churn").served == after


def world_target(world: Any) -> BatchTarget:
    return BatchTarget(around=Surroundings(pipeline="churn", artifacts_uri=world.artifacts_uri))
