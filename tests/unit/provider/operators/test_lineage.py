"""What OpenLineage is told of each task: what one made and the next one read has the same name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from mlretrain_provider.assets import champion_asset
from mlretrain_provider.lineage import data, trace_of
from mlretrain_provider.operators.data import ResolveDataOperator, ValidateDataOperator
from mlretrain_provider.operators.deployment import DeployModelOperator, RollBackModelOperator
from mlretrain_provider.operators.pipeline import PipelineOperator
from mlretrain_provider.operators.registry import (
    PromoteModelOperator,
    PromotionGateOperator,
    RegisterModelOperator,
)
from mlretrain_provider.operators.training import EvaluateModelOperator, TrainModelOperator

SNAPSHOT = {
    "dataset_uri": "s3://ml/churn/dataset.json",
    "fingerprint": "f" * 64,
    "rows": 10,
    "files": 2,
    "bytes": 99,
    "start": None,
    "end": "2026-03-09T00:00:00Z",
}
TRAINED = {
    "model_uri": "models:/m-1",
    "mlflow_run_id": "r1",
    "model_sha256": "d" * 64,
    "dataset_fingerprint": "f" * 64,
    "holdout_uri": "s3://ml/churn/holdout.parquet",
    "holdout_sha256": "b" * 64,
}
EVALUATED = {
    "evaluation_uri": "s3://ml/churn/evaluation.json",
    "metrics": {"roc_auc": 0.8},
    "champion_version": "6",
}
REGISTERED = {"version": "7", "mlflow_run_id": "r1"}
SHIFTED = {
    "version": "7",
    "weights": {"6": 90, "7": 10},
    "mirrored": {},
    "strategy": "canary",
    "since": "2026-03-09T06:00:00Z",
}
SERVING = {"target": "local"}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "mlflow://user:secret@mlflow.example.com:5000")
    dag = DAG("churn.retrain", default_args={"pipeline": "churn", "artifacts_uri": "s3://ml"})

    def build(kind: type[BaseOperator], returned: Any, **arguments: Any) -> Any:
        task: Any = kind(task_id=f"t{len(dag.tasks)}", dag=dag, **arguments)
        task.returned = returned
        return task

    return build


def tasks(make: Callable[..., Any]) -> dict[str, Any]:
    uri = "s3://lake/churn/*.parquet"
    validated = {"dataset_uri": SNAPSHOT["dataset_uri"], "result_uri": "s3://ml/churn/result.json"}
    gated = {"checks_uri": "s3://ml/churn/verdict.json", "verdict": "promote", "reason": "all hold"}
    recipe = {"dataset": SNAPSHOT, "target": "churned", "entrypoint": "a:b"}
    candidate = {"training": TRAINED, "evaluation": EVALUATED}
    measure = {"training": TRAINED, "target": "churned", "metrics": ["roc_auc"]}
    return {
        "resolve": make(ResolveDataOperator, SNAPSHOT, uri=uri),
        "validate": make(ValidateDataOperator, validated, dataset=SNAPSHOT),
        "train": make(TrainModelOperator, TRAINED, **recipe),
        "evaluate": make(EvaluateModelOperator, EVALUATED, **measure),
        "register": make(RegisterModelOperator, REGISTERED, **candidate),
        "gate": make(PromotionGateOperator, gated, evaluation=EVALUATED),
        "shift": make(DeployModelOperator, SHIFTED, version="7", serving=SERVING),
        "promote": make(PromoteModelOperator, {"version": "7"}, version="7", serving=SERVING),
        "roll_back": make(RollBackModelOperator, {"version": "6", "previous": "7"}),
    }


def places(task: Any) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    lineage = task.get_openlineage_facets_on_complete(None)
    named = [[(each.namespace, each.name) for each in side] for side in (lineage.inputs, lineage.outputs)]
    return set(named[0]), set(named[1])


@pytest.mark.parametrize(
    ("made_by", "read_by"),
    [
        ("resolve", "validate"),
        ("resolve", "train"),
        ("train", "evaluate"),
        ("train", "register"),
        ("evaluate", "register"),
        ("evaluate", "gate"),
        ("register", "shift"),
        ("register", "promote"),
    ],
)
def test_what_one_makes_the_next_one_reads(make: Callable[..., Any], made_by: str, read_by: str) -> None:
    known = tasks(make)

    assert places(known[made_by])[1] & places(known[read_by])[0]


def test_every_place_has_its_name(make: Callable[..., Any]) -> None:
    known = tasks(make)

    assert places(known["resolve"]) == (
        {("s3://lake", "churn/*.parquet")},
        {("s3://ml", "churn/dataset.json")},
    )
    mlflow = "mlflow://mlflow.example.com:5000"
    assert places(known["train"])[1] == {(mlflow, "runs/r1"), ("s3://ml", "churn/holdout.parquet")}
    assert places(known["register"])[1] == {(mlflow, "models/churn/7")}
    assert places(known["shift"])[0] == {(mlflow, "models/churn/6"), (mlflow, "models/churn/7")}
    assert places(known["promote"])[1] == {
        ("x-mlretrain://churn", "champion"),
        ("x-mlretrain://churn", "deployment"),
    }
    assert places(known["roll_back"]) == (
        {(mlflow, "models/churn/6")},
        {("x-mlretrain://churn", "champion")},
    )


def test_the_facets_are_json_with_versions_and_traffic(make: Callable[..., Any]) -> None:
    serde = pytest.importorskip("openlineage.client.serde")
    known = tasks(make)

    def facets(task: str) -> dict[str, Any]:
        (made,) = known[task].get_openlineage_facets_on_complete(None).outputs
        return dict(json.loads(serde.Serde.to_json(made))["facets"])

    assert facets("resolve")["version"]["datasetVersion"] == "f" * 64
    assert facets("resolve")["mlretrain"]["rows"] == 10
    assert facets("register")["datasetType"]["datasetType"] == "MODEL"
    assert facets("register")["version"]["datasetVersion"] == "7"
    assert facets("register")["mlretrain"]["model_sha256"] == "d" * 64
    assert facets("shift")["mlretrain"]["weights"] == {"6": 90, "7": 10}
    assert facets("shift")["mlretrain"]["strategy"] == "canary"


@pytest.mark.parametrize("returned", [None, "text", {"version": None}])
def test_a_task_without_a_result_tells_nothing(make: Callable[..., Any], returned: Any) -> None:
    task = make(RollBackModelOperator, returned)

    assert task.get_openlineage_facets_on_complete(None) is None


def test_other_operators_tell_nothing_but_those_made_of_ours_do(make: Callable[..., Any]) -> None:
    class Own(PipelineOperator):
        """Somebody's own."""

    class Special(ResolveDataOperator):
        """Somebody's variety of ours."""

    assert trace_of(make(Own, {}), {}) is None
    assert trace_of(make(Special, None, uri="s3://lake/x"), SNAPSHOT) is not None


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("file:///data/a.csv", "file", "/data/a.csv"),
        ("/data/a.csv", "file", "/data/a.csv"),
        ("s3://bucket/a/b", "s3://bucket", "a/b"),
    ],
)
def test_files_are_named_as_airflow_names_them(uri: str, namespace: str, name: str) -> None:
    assert (data(uri).namespace, data(uri).name) == (namespace, name)


def test_an_inlet_of_the_champion_has_the_champions_name() -> None:
    utils = pytest.importorskip("airflow.providers.openlineage.utils.utils")

    found = utils.translate_airflow_asset(champion_asset("churn"), None)

    assert (found.namespace, found.name) == ("x-mlretrain://churn", "champion")
