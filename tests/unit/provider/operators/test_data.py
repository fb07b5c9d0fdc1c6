"""Data in: the snapshot that the run first saw, and a gate that stops what is not fit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain_provider.operators.data import DataGateOperator, ResolveDataOperator, ValidateDataOperator
from mlretrain_provider.operators.record import RecordRunOperator
from tests.fakes.airflow_harness import DagRunHarness

CSV = "at,x\n2026-03-01T00:00:00,1\n2026-03-05T00:00:00,2\n2026-03-08T00:00:00,3\n"


def resolve_dag(world: Any, folder: Path, **arguments: Any) -> DAG:
    dag: DAG = world.dag()
    with dag:
        ResolveDataOperator(task_id="resolve_data", uri=f"file://{folder}", **arguments)
    return dag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text(CSV)
    return tmp_path / "data"


def test_the_window_ends_where_the_run_says(world: Any, folder: Path) -> None:
    dag = resolve_dag(world, folder, time_column="at", window="5d")
    result = DagRunHarness(dag, conf={"window_end": "2026-03-08T00:00:00+00:00"}).run("resolve_data").result
    assert (result["rows"], result["files"]) == (1, 1)
    assert result["start"] == "2026-03-03T00:00:00+00:00"
    assert result["end"] == "2026-03-08T00:00:00+00:00"
    assert result["bytes"] == len(CSV)
    assert "/churn/runs/run-1/resolve_data-" in result["dataset_uri"]


def test_the_window_ends_with_the_data_interval_and_else_when_the_run_is_due(
    world: Any, folder: Path
) -> None:
    dag = resolve_dag(world, folder, time_column="at", window=5 * 86400)
    interval = (datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 6, tzinfo=UTC))
    assert DagRunHarness(dag, data_interval=interval).run("resolve_data").result["rows"] == 2
    assert DagRunHarness(dag, run_id="other").run("resolve_data").result["end"] == "2026-03-09T06:00:00+00:00"


def test_a_cleared_task_returns_what_the_run_first_saw(world: Any, folder: Path) -> None:
    run = DagRunHarness(resolve_dag(world, folder))
    first = run.run("resolve_data").result
    (folder / "b.csv").write_text(CSV)
    assert run.run("resolve_data", try_number=2).result == first


def test_two_dags_of_a_pipeline_may_share_a_run_id(world: Any, folder: Path) -> None:
    long = DagRunHarness(resolve_dag(world, folder, time_column="at", window="90d"), run_id="scheduled__1")
    short = DagRunHarness(resolve_dag(world, folder, time_column="at", window="2d"), run_id="scheduled__1")
    assert [each.run("resolve_data").result["rows"] for each in (long, short)] == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": "5d"}, "a window needs a time column"),
        ({"window": "5 moons", "time_column": "at"}, "not a length of time"),
        ({"window": "1s", "time_column": "at"}, "window"),
    ],
)
def test_what_cannot_be_resolved_is_said_and_not_retried(
    world: Any, folder: Path, arguments: dict[str, Any], message: str
) -> None:
    outcome = DagRunHarness(resolve_dag(world, folder, **arguments)).run("resolve_data", retries_left=True)
    assert outcome.state == "failed"
    assert message in str(outcome.error)


def test_a_suite_file_is_found_beside_the_dag_and_travels_in_the_request(world: Any, tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text('{"name": "s", "expectations": []}')
    world.backend.work["validate"] = lambda request: request.config
    dag: DAG = world.dag()
    with dag:
        dag.fileloc = str(tmp_path / "dag.py")
        ValidateDataOperator(
            task_id="validate",
            dataset={"dataset_uri": "file:///d.json"},
            expectations=[{"type": "expect_table_row_count_to_be_between", "min_value": 1}],
            suite="suite.json",
        )
        ValidateDataOperator(task_id="missing", dataset="file:///d.json", suite="none.json")
    run = DagRunHarness(dag)
    assert run.run("validate").result == {
        "dataset_uri": "file:///d.json",
        "expectations": [{"type": "expect_table_row_count_to_be_between", "min_value": 1}],
        "suite": {"name": "s", "expectations": []},
        "on_failure": "fail",
    }
    assert str(tmp_path / "none.json") in str(run.run("missing").error)


FAILED = {
    "passed": False,
    "failures": [{"message": f"column x{i} has nulls"} for i in range(7)],
    "rows": 10,
    "docs_uri": "file:///docs/index.html",
    "dataset_uri": "file:///d.json",
    "quarantined_rows": 0,
}


def gate_dag(world: Any, validation: dict[str, Any], on_failure: str) -> DAG:
    dag: DAG = world.dag()
    with dag:
        gate = DataGateOperator(task_id="data_gate", validation=validation, on_failure=on_failure)
        gate >> DataGateOperator(task_id="train", validation={}) >> RecordRunOperator(task_id="record")
    return dag


def test_good_data_passes(world: Any) -> None:
    passed = {**FAILED, "passed": True, "failures": []}
    outcome = DagRunHarness(gate_dag(world, passed, "fail")).run("data_gate")
    assert outcome.result == {
        "verdict": "pass",
        "reason": "All expectations hold on 10 rows.",
        "dataset_uri": "file:///d.json",
    }


def test_bad_data_fails_for_good_and_names_the_docs(world: Any) -> None:
    outcome = DagRunHarness(gate_dag(world, FAILED, "fail")).run("data_gate", retries_left=True)
    assert outcome.state == "failed"
    assert "column x0 has nulls" in str(outcome.error)
    assert "and 2 more" in str(outcome.error)
    assert str(outcome.error).endswith("See the Data Docs: file:///docs/index.html")


@pytest.mark.parametrize("on_failure", ["warn", "quarantine"])
def test_bad_data_may_pass_with_a_warning(world: Any, on_failure: str) -> None:
    outcome = DagRunHarness(gate_dag(world, FAILED, on_failure)).run("data_gate")
    assert (outcome.state, outcome.result["verdict"]) == ("success", "pass")
    assert outcome.skipped == []


def test_bad_data_may_skip_the_run_but_not_its_record(world: Any) -> None:
    run = DagRunHarness(gate_dag(world, FAILED, "skip"))
    outcome = run.run("data_gate")
    assert (outcome.state, outcome.result["verdict"], outcome.skipped) == ("success", "skip", ["train"])
    first = run.run("record").result
    assert first["outcome"] == "skipped"
    run.supervisor.states["train"] = "failed"
    assert run.run("record", try_number=2).result == first
    assert world.kinds() == ["concluded"]
