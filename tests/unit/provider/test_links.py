"""The buttons on a task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseXCom

from mlretrain.registry.mlflow import WORKFLOW, MlflowRegistry, MlflowTracker
from mlretrain.registry.rest import MlflowRest
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.links import (
    DataDocsLink,
    DecisionLink,
    DriftReportLink,
    FactLink,
    MLflowRunLink,
    ModelVersionLink,
    PerformanceReportLink,
    TrialsLink,
)
from mlretrain_provider.plugins.artifacts import root_key

pytestmark = pytest.mark.airflow

OPERATOR: Any = SimpleNamespace(pipeline="flights", artifacts_uri="s3://ml/a", mlflow_conn_id="ml")
KEY: Any = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
MODELS = "http://mlflow/#/models"
PAGES = f"/mlretrain/artifacts/{root_key('s3://ml/a')}"


@pytest.fixture(autouse=True)
def mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = MlflowRest(uri="http://mlflow")
    monkeypatch.setattr(MLflowHook, "registry", lambda self: MlflowRegistry(rest=rest))
    monkeypatch.setattr(MLflowHook, "tracker", lambda self: MlflowTracker(rest=rest))
    monkeypatch.setattr(MlflowTracker, "web_url", lambda self, run_id: f"http://mlflow/runs/{run_id}")


def link(monkeypatch: pytest.MonkeyPatch, kind: type[FactLink], **xcoms: Any) -> str:
    monkeypatch.setattr(BaseXCom, "get_one", lambda *, key, **of: xcoms.get(key))
    return kind().get_link(OPERATOR, ti_key=KEY)


@pytest.mark.parametrize(
    ("kind", "facts", "url"),
    [
        (MLflowRunLink, {"mlflow_run_id": "abc"}, "http://mlflow/runs/abc"),
        (ModelVersionLink, {"version": "7"}, f"{MODELS}/flights/versions/7{WORKFLOW}"),
        (ModelVersionLink, {"version": "7", "name": "a b"}, f"{MODELS}/a%20b/versions/7{WORKFLOW}"),
        (DataDocsLink, {"docs_uri": "s3://ml/a/p/index.html"}, f"{PAGES}/p/index.html"),
        (DriftReportLink, {"report_uri": "s3://ml/a/p/drift.html"}, f"{PAGES}/p/drift.html"),
        (PerformanceReportLink, {"report_uri": "s3://ml/a/p/x.json"}, f"{PAGES}/p/x.json"),
        (DecisionLink, {"decision_uri": "s3://ml/a/p/decisions/x.json"}, f"{PAGES}/p/decisions/x.json"),
        (TrialsLink, {"trials_uri": "s3://ml/a/p/trials.html"}, f"{PAGES}/p/trials.html"),
        (DriftReportLink, {"report_uri": "s3://other/drift.html"}, ""),
        (MLflowRunLink, {}, ""),
    ],
)
def test_a_link_is_made_of_what_the_task_returned(
    monkeypatch: pytest.MonkeyPatch, kind: type[FactLink], facts: dict[str, str], url: str
) -> None:
    assert link(monkeypatch, kind, return_value=facts) == url


def test_a_task_that_failed_has_what_it_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert link(monkeypatch, MLflowRunLink, mlretrain_links={"mlflow_run_id": "early"}).endswith("early")


def test_what_was_returned_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = {"mlflow_run_id": "early"}, {"mlflow_run_id": "late"}

    assert link(monkeypatch, MLflowRunLink, mlretrain_links=early, return_value=late).endswith("late")


@pytest.mark.parametrize("result", [None, "text", 7])
def test_other_results_have_no_link(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    assert link(monkeypatch, MLflowRunLink, return_value=result) == ""


def test_names_are_what_people_read() -> None:
    names: dict[type[Any], str] = {
        MLflowRunLink: "MLflow run",
        ModelVersionLink: "Model version",
        DataDocsLink: "Data Docs",
        DriftReportLink: "Drift report",
        PerformanceReportLink: "Performance report",
        DecisionLink: "Decision",
        TrialsLink: "Trials",
    }
    assert {kind: kind().name for kind in names} == names
    assert len({kind().xcom_key for kind in names}) == len(names)
