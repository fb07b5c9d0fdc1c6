"""Broken data through the real step and the operators: unknown, with its reason, recorded and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG

from mlretrain.data import read
from mlretrain.data.read import connect
from mlretrain.drift.profile import build_profile
from mlretrain.drift.sample import Sample, draw, to_parquet
from mlretrain.errors import TransientError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime.contract import StepReport
from mlretrain.runtime.runner import run_step
from mlretrain.wire import to_wire
from mlretrain_provider.operators import step
from mlretrain_provider.operators.monitoring import DetectDriftOperator
from mlretrain_provider.operators.profiling import ProfileDataOperator
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.retraining import RetrainPolicyOperator, TriggerRetrainOperator
from tests.fakes.airflow_harness import DagRunHarness
from tests.fakes.backend import FakeBackend

ROWS = 1_500
POLICY = {"violated": 1, "of": 1, "cooldown_s": 86_400.0, "warm_up": 0}


@dataclass
class RealSteps(FakeBackend):
    """Jobs that run the kernel's own step, after ``before`` has done what the world does meanwhile."""

    before: Callable[[], None] = field(default=lambda: None)

    def _work(self, spec: JobSpec, ending: StepReport | None) -> JobStatus:
        self.before()
        code = run_step(spec.request_uri, env={}).exit_code
        return JobStatus(state="failed" if code else "succeeded", exit_code=code)


def _window(n: int = ROWS, **columns: Any) -> pd.DataFrame:
    """A window as the reference was; ``columns`` instead of its own."""
    random = np.random.default_rng(1)
    usual = {
        "at": pd.date_range("2026-03-03", periods=n, freq="3min"),
        "x": random.normal(size=n),
        "y": random.normal(size=n),
        "kind": random.choice(["a", "b"], n),
    }
    return pd.DataFrame({**usual, **columns})


@dataclass
class Monitor:
    """One monitoring run over the files of a folder."""

    world: Any
    folder: Path
    backend: RealSteps

    def write(self, frame: pd.DataFrame, name: str = "a.parquet") -> None:
        frame.to_parquet(self.folder / name, index=False)

    def dag(self) -> DAG:
        dag: DAG = self.world.dag("churn.monitor")
        with dag:
            profile = ProfileDataOperator(
                task_id="profile_window",
                uri=f"{self.folder.as_uri()}/*.parquet",
                time_column="at",
                window="7d",
                domain={"rows": 300},
            )
            drift = DetectDriftOperator(task_id="detect_drift", profile=profile.output)
            decision = RetrainPolicyOperator(task_id="decide_retrain", drift=drift.output, policy=POLICY)
            trigger = TriggerRetrainOperator(
                task_id="trigger_retrain", decision=decision.output, trigger_dag_id="churn.retrain"
            )
            drift >> decision >> trigger >> RecordRunOperator(task_id="record", kind="monitor")
        return dag

    def run(self) -> dict[str, Any]:
        """What was detected; everything about it has been recorded and told."""
        run = DagRunHarness(self.dag())
        for task in ("profile_window", "detect_drift"):
            outcome = run.run(task)
            assert outcome.state == "success", outcome.error
        detected = dict(outcome.result)
        decision = run.run("decide_retrain")
        assert decision.state == "success"
        assert not run.supervisor.dag_runs
        self.verdict = decision.result["verdict"]
        self.event = run.run("record").result["event"]
        return detected

    def unknown(self, event: str = "unknown") -> str:
        """The reason, after a check that it is recorded and told, and that nothing follows from it."""
        detected = self.run()
        assert detected["verdict"] == "unknown", detected["summary"]
        assert (self.verdict, self.event) == ("keep", event)
        (window,) = self.world.windows()
        assert window.signals["drift"] is None
        assert window.summary == detected["summary"]
        (charted,) = self.world.tracker.runs.values()
        assert detected["summary"] in charted.description
        return str(detected["summary"])


@pytest.fixture
def monitor(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Monitor:
    """A champion with a profile and a sample of its training rows, and an empty folder to watch."""
    from mlretrain.windows import WindowLog

    backend = RealSteps()
    monkeypatch.setattr(step, "open_backend", lambda name, options: backend)
    world.windows = lambda: WindowLog(world.store, "churn").all()
    columns = ["x", "y", "kind"]
    with connect() as con:
        relation = con.from_df(_window(3_000))
        profile = build_profile(relation, include=columns, time_column="at")
        sample = draw(relation, columns, rows=300, time_column="at")
    world.store.write("sample.parquet", to_parquet(Sample(table=sample)))
    world.promote(
        **{
            "mlretrain.profile_uri": world.put("reference.json", to_wire(profile)),
            "mlretrain.sample_uri": f"{world.artifacts_uri}/sample.parquet",
        }
    )
    (tmp_path / "watched").mkdir()
    return Monitor(world, tmp_path / "watched", backend)


def test_what_is_not_broken_is_stable(monitor: Monitor) -> None:
    monitor.write(_window())
    assert monitor.run()["verdict"] == "stable"
    assert (monitor.verdict, monitor.event) == ("keep", "stable")


def test_a_folder_without_files(monitor: Monitor) -> None:
    assert "no data files here" in monitor.unknown()


def test_a_window_without_rows(monitor: Monitor) -> None:
    monitor.write(_window(at=pd.date_range("2025-01-01", periods=ROWS, freq="s")))
    assert "no rows in the window" in monitor.unknown()


def test_a_file_without_rows(monitor: Monitor) -> None:
    monitor.write(_window().head(0))
    assert "no rows in the window" in monitor.unknown()


def test_one_row(monitor: Monitor) -> None:
    monitor.write(_window(1))
    assert monitor.unknown() == "unknown: 1 rows, at least 1000 are needed"


def test_no_values_at_all(monitor: Monitor) -> None:
    nothing = [None] * ROWS
    monitor.write(_window(x=np.full(ROWS, np.nan), y=pd.Series(nothing, dtype=float), kind=nothing))
    reason = monitor.unknown()
    assert "3 of 3 columns, 100% of the importance, cannot be measured" in reason
    assert "x has no values" in reason


def test_all_rows_alike(monitor: Monitor) -> None:
    monitor.write(_window(x=1.0, y=2.0, kind="a"))
    assert monitor.unknown() == "unknown: every row holds the same values"


def test_numbers_beyond_measure(monitor: Monitor) -> None:
    monitor.write(_window(x=[1e308, -1e308] * (ROWS // 2), y=np.full(ROWS, np.inf)))
    assert "x has no values" in monitor.unknown()


def test_some_numbers_beyond_measure_are_missing_ones(monitor: Monitor) -> None:
    frame = _window()
    frame.loc[:150, "x"] = 1e308
    monitor.write(frame)
    detected = monitor.run()
    assert detected["signals"]["quality"] is True
    assert "x is missing in 10.1% of the rows instead of 0.0%" in detected["summary"]


def test_columns_of_several_types(monitor: Monitor) -> None:
    monitor.write(_window())
    monitor.write(_window(x="one"), "b.parquet")
    reason = monitor.unknown()
    assert "column 'x' differs between files" in reason
    assert "b.parquet" in reason


def test_a_column_that_is_missing_in_one_file(monitor: Monitor) -> None:
    monitor.write(_window())
    monitor.write(_window().drop(columns="y"), "b.parquet")
    assert "column 'y' is missing" in monitor.unknown()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not Parquet at all"])
def test_a_file_that_is_no_parquet(monitor: Monitor, data: bytes) -> None:
    (monitor.folder / "a.parquet").write_bytes(data)
    assert "not a Parquet file, or a damaged one" in monitor.unknown()


def test_a_file_that_is_damaged_inside(monitor: Monitor) -> None:
    monitor.write(_window())
    path = monitor.folder / "a.parquet"
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)
    assert "the data cannot be read" in monitor.unknown()


def test_a_file_that_changes_before_it_is_read(monitor: Monitor) -> None:
    monitor.write(_window())
    monitor.backend.before = lambda: monitor.write(_window(x=0.0))
    assert "has changed since the dataset was resolved" in monitor.unknown()


def test_a_file_that_vanishes_before_it_is_read(monitor: Monitor) -> None:
    monitor.write(_window())
    monitor.backend.before = (monitor.folder / "a.parquet").unlink
    assert "the file is gone" in monitor.unknown()


@pytest.mark.parametrize("after", ["verify", "scan"])
def test_a_file_that_vanishes_while_it_is_read(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    monitor.write(_window())
    look = getattr(read, after)

    def look_and_lose(*given: Any) -> Any:
        found = look(*given)
        (monitor.folder / "a.parquet").unlink()
        return found

    monkeypatch.setattr(read, after, look_and_lose)
    assert "the data cannot be read" in monitor.unknown()


def test_a_file_that_is_cut_short_while_it_is_read(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor.write(_window())
    look = read.scan

    def look_and_cut(*given: Any) -> Any:
        found = look(*given)
        (monitor.folder / "a.parquet").write_bytes(b"PAR1")
        return found

    monkeypatch.setattr(read, "scan", look_and_cut)
    assert "the data cannot be read" in monitor.unknown()


def test_a_column_that_the_reference_knows_as_another_kind(monitor: Monitor) -> None:
    monitor.write(_window(x="one", y="two"))
    reason = monitor.unknown("paged")
    assert "x has changed from numeric to categorical" in reason
    assert monitor.world.windows()[0].signals["schema"] is True


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2, "rows": -1}', b"\xff\xfe"])
def test_a_reference_that_is_broken(monitor: Monitor, data: bytes) -> None:
    monitor.write(_window())
    monitor.world.store.write("reference.json", data)
    assert "reference.json" in monitor.unknown()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"\xff\xfe"])
def test_a_sample_that_is_broken_leaves_the_columns_judged(monitor: Monitor, data: bytes) -> None:
    monitor.write(_window())
    monitor.world.store.write("sample.parquet", data)
    detected = monitor.run()
    assert (detected["verdict"], detected["signals"]["domain"]) == ("stable", None)
    assert "joint shift not measured" in detected["summary"]
    assert "sample.parquet" in detected["summary"]


def test_storage_that_is_away_is_tried_again(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor.write(_window())

    def away(*_: Any) -> None:
        raise TransientError("S3 failed", where="s3://b/a.parquet", found="AWS Error SLOW_DOWN")

    monkeypatch.setattr(read, "verify", away)
    run = DagRunHarness(monitor.dag())
    outcome = run.run("profile_window", retries_left=True)
    assert outcome.state == "up_for_retry"
    assert "S3 failed" in str(outcome.error)
    assert monitor.world.windows() == ()
    monkeypatch.undo()
