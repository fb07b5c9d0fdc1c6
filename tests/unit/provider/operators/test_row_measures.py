"""Measures on rows: asked for with the champion's sample, judged by the policy, shown beside the columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.drift.domain import DomainShift
from mlretrain.drift.evidently import REQUIREMENTS, ColumnScore, EvidentlyResult
from mlretrain.drift.grid import Grid
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.runtime.contract import parse_request
from mlretrain.runtime.store import read_uri
from mlretrain.wire import to_wire
from mlretrain_provider.operators.monitoring import DetectDriftOperator
from mlretrain_provider.operators.profiling import ProfileDataOperator
from mlretrain_provider.operators.registry import RegisterModelOperator
from tests.fakes.airflow_harness import DagRunHarness

SHIFT = DomainShift(auc=0.7, low=0.68, high=0.72, noise=0.01, rows=500, columns=("x", "y"))


def _same(world: Any) -> dict[str, Any]:
    """The champion's profile is that of the window too."""
    column = ColumnProfile(
        name="x",
        kind="numeric",
        n=3000,
        grid=Grid(center=0.0, scale=1.0),
        cells=(0, 1, 2),
        counts=(1000, 1000, 1000),
        mean=0.0,
        sd=1.0,
    )
    uri = world.put("profile.json", to_wire(DriftProfile(rows=3000, columns=(column,))))
    world.promote(**{"mlretrain.profile_uri": uri, "mlretrain.sample_uri": "file:///kept/sample.parquet"})
    return {"profile_uri": uri, "rows": 3000, "start": None, "end": None}


def _asked(world: Any, tmp_path: Path, **arguments: Any) -> Any:
    """The job that profiles a window: what it is, and its configuration."""
    (tmp_path / "rows.csv").write_text("x\n1\n")
    dag: DAG = world.dag("churn.monitor")
    with dag:
        ProfileDataOperator(task_id="profile", uri=f"file://{tmp_path}/rows.csv", **arguments)
    world.backend.work["profile"] = lambda request: {"profile_uri": "file:///p.json", "rows": 1}
    outcome = DagRunHarness(dag).run("profile")
    assert outcome.state == "success", outcome.error
    job = world.backend.jobs[0]
    return job, parse_request(read_uri(job.request_uri), job.request_uri).config


def _detected(world: Any, **found: Any) -> tuple[Any, Any]:
    """The task's result and its report, of a window whose profile says nothing new."""
    profile = {**_same(world), **found}
    dag: DAG = world.dag("churn.monitor")
    with dag:
        DetectDriftOperator(task_id="detect_drift", profile=profile, policy={"domain_threshold": 0.65})
    outcome = DagRunHarness(dag).run("detect_drift")
    assert outcome.state == "success", outcome.error
    path = outcome.result["report_uri"].removeprefix(f"{world.artifacts_uri}/").replace(".html", ".json")
    return outcome.result, json.loads(world.store.read(path))


def test_the_window_is_measured_beside_the_champions_sample(world: Any, tmp_path: Path) -> None:
    _same(world)
    job, config = _asked(world, tmp_path, domain={"rows": 2000})
    assert config["rows"] == {
        "sample_uri": "file:///kept/sample.parquet",
        "rows": 2000,
        "domain": True,
        "evidently": False,
        "preset": None,
    }
    assert job.requirements == ()


def test_a_registered_version_knows_its_sample(world: Any) -> None:
    dag: DAG = world.dag()
    with dag:
        kept = {"model_uri": "models:/m-1", "mlflow_run_id": "run1", "sample_uri": "file:///s.parquet"}
        RegisterModelOperator(task_id="register", training=kept)
    version = DagRunHarness(dag).run("register").result["version"]
    assert world.registry.version("churn", version).tags["mlretrain.sample_uri"] == "file:///s.parquet"


def test_nothing_needs_rows_unless_it_is_wanted(world: Any, tmp_path: Path) -> None:
    _same(world)
    assert "rows" not in _asked(world, tmp_path)[1]


@pytest.mark.parametrize(
    ("given", "installed"), [(None, REQUIREMENTS), (["evidently==0.7.20"], ("evidently==0.7.20",))]
)
def test_evidently_has_an_environment_of_its_own(
    world: Any, tmp_path: Path, given: list[str] | None, installed: tuple[str, ...]
) -> None:
    _same(world)
    job, config = _asked(world, tmp_path, engine="evidently", preset="team:tuned", requirements=given)
    assert job.requirements == installed
    assert (config["rows"]["evidently"], config["rows"]["preset"]) == (True, "team:tuned")


def test_an_unknown_engine_is_a_mistake(world: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n")
    dag: DAG = world.dag("churn.monitor")
    with dag:
        ProfileDataOperator(task_id="profile", uri=f"file://{tmp_path}/rows.csv", engine="alibi")
    outcome = DagRunHarness(dag).run("profile")
    assert "an unknown engine (found alibi; allowed: mlretrain, evidently)" in str(outcome.error)


def test_a_joint_shift_makes_the_window_drift_by_the_policys_threshold(world: Any) -> None:
    result, report = _detected(world, domain_uri=world.put("domain.json", to_wire(SHIFT)))
    assert result["verdict"] == "drift"
    assert result["signals"]["domain"] is True
    assert "joint shift AUC 0.70 (at least 0.68) > 0.66, told by x, y" in result["summary"]
    assert report["domain"]["threshold"] == 0.65


def test_a_joint_shift_that_was_not_measured_is_told_and_changes_nothing(world: Any) -> None:
    missing = DomainShift(rows=500, note="the champion has kept no sample of its training rows: retrain it")
    result, _ = _detected(world, domain_uri=world.put("domain.json", to_wire(missing)))
    assert (result["verdict"], result["signals"]["domain"]) == ("stable", None)
    assert "has kept no sample" in result["summary"]


def test_evidentlys_scores_and_page_are_shown(world: Any) -> None:
    score = ColumnScore(name="x", method="K-S p_value", score=0.001, threshold=0.05, drifted=True)
    said = EvidentlyResult(preset="team:tuned", rows=500, reference_rows=500, columns=(score,))
    world.store.write("evidently.html", b"<html>its own")
    result, report = _detected(
        world,
        evidently_uri=world.put("evidently.json", to_wire(said)),
        evidently_page_uri=f"{world.artifacts_uri}/evidently.html",
    )
    assert (result["verdict"], report["engine"]) == ("drift", "evidently")
    assert report["columns"][0]["method"] == "K-S p_value"
    beside = result["evidently_page_uri"]
    assert beside == result["report_uri"].replace("report", "evidently")
    assert read_uri(beside) == b"<html>its own"


def test_a_broken_measure_leaves_the_window_unknown(world: Any) -> None:
    world.store.write("domain.json", b"{")
    result, _ = _detected(world, domain_uri=f"{world.artifacts_uri}/domain.json")
    assert result["verdict"] == "unknown"
    assert "domain.json" in result["summary"]
