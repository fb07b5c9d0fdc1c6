"""What is resolved, frozen, remembered and charted about the champion's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.performance.policy import PerformanceReport
from mlretrain.ports import JobStatus
from mlretrain.runtime.contract import StepRequest, parse_request
from mlretrain.runtime.store import read_uri
from mlretrain.windows import WindowLog
from mlretrain.wire import to_wire
from mlretrain_provider.operators.performance import MeasurePerformanceOperator
from tests.fakes.airflow_harness import DagRunHarness

TASK = "measure_performance"


@pytest.fixture
def champion(world: Any) -> str:
    tags = {"mlretrain.evaluation_uri": "file:///e.json", "mlretrain.calibration_uri": "file:///c.json"}
    return str(world.promote(**tags))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Answers of three days, the last of which is too young, and labels of which one comes too late."""
    for name, text in {
        "log": "at,id,prediction\n2026-03-04T00:00,1,0.2\n2026-03-06T00:00,2,0.7\n2026-03-08T00:00,3,0.1\n",
        "labels": "known_at,id,late\n2026-03-06T00:00,1,0\n2026-03-08T00:00,2,1\n2026-03-10T00:00,3,1\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text(text)
    return tmp_path


def report(**fields: Any) -> PerformanceReport:
    given: dict[str, Any] = {
        "verdict": "violated",
        "basis": "labels",
        "metric": "roc_auc",
        "value": 0.61,
        "low": 0.6,
        "high": 0.62,
        "confidence": 0.95,
        "min": 0.65,
        "coverage": 1.0,
        "rows": 2,
        "labelled": 2,
        "summary": "roc_auc 0.61 [0.6, 0.62] on 100 % labelled of 2 predictions, required ≥ 0.65",
        "metrics": {"roc_auc": 0.61},
    }
    return PerformanceReport(**(given | fields))


def dag(world: Any, data: Path, found: PerformanceReport | None = None, **arguments: Any) -> DAG:
    def work(request: StepRequest) -> Mapping[str, Any]:
        return {"performance_uri": world.put("performance.json", to_wire(found or report()))}

    world.backend.work["performance"] = work
    given: dict[str, Any] = {
        "predictions": {"uri": f"file://{data}/log", "time_column": "at", "window": "7d"},
        "labels": {"uri": f"file://{data}/labels", "time_column": "known_at"},
        "join_on": "id",
        "target": "late",
        "metric": "roc_auc",
        "min": 0.65,
        "delay_s": 172_800.0,
    }
    made: DAG = world.dag("churn.monitor")
    with made:
        MeasurePerformanceOperator(task_id=TASK, **(given | arguments))
    return made


def request_of(world: Any) -> StepRequest:
    uri = world.backend.jobs[-1].request_uri
    return parse_request(read_uri(uri), uri)


def window_of(config: Mapping[str, Any], name: str) -> tuple[int, str | None, str]:
    dataset = json.loads(read_uri(config[name]))
    return dataset["rows"], dataset["start"], dataset["end"]


def test_a_window_is_measured_remembered_and_charted(world: Any, data: Path, champion: str) -> None:
    result = DagRunHarness(dag(world, data)).run(TASK).result
    assert result == {
        "verdict": "violated",
        "basis": "labels",
        "metric": "roc_auc",
        "value": 0.61,
        "low": 0.6,
        "high": 0.62,
        "coverage": 1.0,
        "rows": 2,
        "labelled": 2,
        "summary": report().summary,
        "champion": champion,
        "report_uri": result["report_uri"],
        "mlflow_run_id": "run1",
    }
    assert b"worse than allowed" in read_uri(result["report_uri"])
    (window,) = WindowLog(world.store, "churn").all()
    assert (window.signals, window.champion, window.measure) == (
        {"performance": True},
        champion,
        "performance",
    )
    assert f"{window.window_end:%d}" == "09"
    (charted,) = world.tracker.runs.values()
    assert charted.name == "monitor 2026-03-09T06:00"
    assert charted.tags["mlretrain.key"] == f"monitor-2026-03-09T06:00-v{champion}"
    assert charted.metrics == {
        "performance.coverage": 1.0,
        "performance.roc_auc": 0.61,
        "performance.roc_auc_low": 0.6,
        "performance.roc_auc_high": 0.62,
    }
    assert charted.files["performance.html"].startswith(b"<!doctype html>")
    assert charted.status == "FINISHED"


def test_old_answers_meet_the_labels_known_by_now(world: Any, data: Path, champion: str) -> None:
    DagRunHarness(dag(world, data, join_on=["id"], max_drop=0.05)).run(TASK)
    request = request_of(world)
    start, end = "2026-02-28T06:00:00+00:00", "2026-03-07T06:00:00+00:00"
    assert window_of(request.config, "dataset_uri") == (2, start, end)
    assert window_of(request.config, "labels_uri") == (2, None, "2026-03-09T06:00:00+00:00")
    asked = {name: request.config[name] for name in ("join_on", "target", "min", "max_drop", "estimate")}
    assert asked == {"join_on": ["id"], "target": "late", "min": 0.65, "max_drop": 0.05, "estimate": "auto"}
    assert request.frozen["champion"] == {
        "version": champion,
        "evaluation_uri": "file:///e.json",
        "calibration_uri": "file:///c.json",
    }


def test_measuring_again_leaves_one_window_and_one_chart(world: Any, data: Path, champion: str) -> None:
    run = DagRunHarness(dag(world, data))
    first = run.run(TASK).result
    world.promote()
    assert run.run(TASK, try_number=2).result == first
    assert (
        len(WindowLog(world.store, "churn").all()) == len(world.tracker.runs) == len(world.backend.jobs) == 1
    )


@pytest.mark.parametrize(
    ("found", "signal"), [({"verdict": "fine"}, False), ({"verdict": "unknown", "value": None}, None)]
)
def test_verdicts_become_signals(
    world: Any, data: Path, champion: str, found: dict[str, Any], signal: bool | None
) -> None:
    DagRunHarness(dag(world, data, report(**found))).run(TASK)
    assert WindowLog(world.store, "churn").all()[0].signals == {"performance": signal}


@pytest.mark.parametrize(
    ("predictions", "reason"),
    [({"window": "1h"}, "no rows in the window"), ({"uri": "file:///nowhere/*.csv"}, "nowhere")],
)
def test_a_window_without_answers_is_unknown_for_a_reason(
    world: Any, data: Path, champion: str, predictions: dict[str, str], reason: str
) -> None:
    given = {"uri": f"file://{data}/log", "time_column": "at", "window": "7d"} | predictions
    outcome = DagRunHarness(dag(world, data, predictions=given)).run(TASK)
    assert (outcome.state, outcome.result["verdict"], outcome.result["basis"]) == (
        "success",
        "unknown",
        "none",
    )
    assert reason in outcome.result["summary"]
    assert WindowLog(world.store, "churn").all()[0].signals == {"performance": None}
    assert world.backend.jobs == []


def test_labels_that_are_not_there_yet_fail_nothing(world: Any, data: Path, champion: str) -> None:
    labels = {"uri": f"file://{data}/later/*.csv"}
    assert DagRunHarness(dag(world, data, labels=labels)).run(TASK).state == "success"
    config = request_of(world).config
    assert config["labels_uri"] is None
    assert config["labels_trouble"].startswith("no labels: ")


def test_without_a_champion_there_is_nothing_to_measure(world: Any, data: Path) -> None:
    assert DagRunHarness(dag(world, data)).run(TASK).state == "skipped"
    assert WindowLog(world.store, "churn").all() == ()


def test_a_requirement_that_makes_no_sense_fails_at_once(world: Any, data: Path, champion: str) -> None:
    given = {"uri": "file:///nowhere", "time_column": "at", "window": "7d"}
    outcome = DagRunHarness(dag(world, data, min=None, predictions=given)).run(TASK, retries_left=True)
    assert outcome.state == "failed"
    assert "nothing that performance must hold" in str(outcome.error)


def test_a_job_that_could_not_read_is_tried_again(world: Any, data: Path, champion: str) -> None:
    world.backend.endings.append(JobStatus(state="failed", exit_code=20))
    outcome = DagRunHarness(dag(world, data)).run(TASK, retries_left=True)
    assert outcome.state == "up_for_retry"
    assert WindowLog(world.store, "churn").all() == ()
