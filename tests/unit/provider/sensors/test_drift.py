"""DriftSensor over the windows that a monitor wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG

from mlretrain.policy.retrain import WindowRecord
from mlretrain.runtime.store import file_uri, open_store
from mlretrain.windows import WindowLog
from mlretrain_provider.sensors.drift import DriftSensor
from tests.fakes.airflow_harness import RUN_AFTER, DagRunHarness, Outcome

pytestmark = pytest.mark.airflow


def record(root: Path, end: datetime, *, drift: bool | None) -> None:
    window = WindowRecord(
        pipeline="flights",
        window_start=end - timedelta(days=7),
        window_end=end,
        rows=5000,
        champion="3",
        signals={"drift": drift},
        summary="dep_delay drifted",
        report_uri="file:///report.html",
    )
    WindowLog(open_store(file_uri(root)), "flights").record(window)


def run(root: Path, *, since: str | None = None, mode: str = "reschedule") -> Outcome:
    with DAG("waits") as dag:
        DriftSensor(task_id="wait", pipeline="flights", artifacts_uri=file_uri(root), since=since, mode=mode)
    return DagRunHarness(dag).run("wait")


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_drift_ends_the_wait(tmp_path: Path, mode: str) -> None:
    record(tmp_path, RUN_AFTER, drift=True)
    record(tmp_path, RUN_AFTER + timedelta(days=1), drift=True)
    record(tmp_path, RUN_AFTER + timedelta(days=2), drift=False)

    outcome = run(tmp_path, mode=mode)

    assert outcome.state == "success"
    assert outcome.result == {
        "window_end": (RUN_AFTER + timedelta(days=1)).isoformat(),
        "rows": 5000,
        "champion": "3",
        "summary": "dep_delay drifted",
        "report_uri": "file:///report.html",
    }


@pytest.mark.parametrize("drift", [False, None])
def test_no_drift_does_not(tmp_path: Path, drift: bool | None) -> None:
    record(tmp_path, RUN_AFTER, drift=drift)

    assert run(tmp_path).state == "up_for_reschedule"


def test_nor_does_drift_of_old(tmp_path: Path) -> None:
    record(tmp_path, RUN_AFTER - timedelta(days=1), drift=True)

    assert run(tmp_path).state == "up_for_reschedule"
    assert run(tmp_path, since=datetime(2026, 1, 1, tzinfo=UTC).isoformat()).state == "success"


def test_poking_sees_a_later_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: record(tmp_path, RUN_AFTER, drift=True))

    assert run(tmp_path, mode="poke").state == "success"


def test_a_wrong_instant_fails_for_good(tmp_path: Path) -> None:
    outcome = run(tmp_path, since="yesterday")

    assert outcome.state == "failed"
    assert "not an ISO 8601 time" in str(outcome.error)
