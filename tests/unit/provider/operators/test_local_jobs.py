"""The real thing on one machine: operator, local backend, runtime and step, with nothing replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.runtime.store import read_uri
from mlretrain_provider.operators import step
from mlretrain_provider.operators.profiling import ProfileDataOperator
from tests.fakes.airflow_harness import DagRunHarness


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "a.csv").write_text("x,colour\n" + "".join(f"{i},red\n" for i in range(50)))
    dag = DAG("churn.monitor", default_args={"pipeline": "churn", "artifacts_uri": f"file://{tmp_path}/a"})
    with dag:
        ProfileDataOperator(task_id="profile", uri=f"file://{tmp_path}/a.csv", reference=None)
        ProfileDataOperator(
            task_id="wrong", uri=f"file://{tmp_path}/a.csv", reference=None, columns={"include": ["z"]}
        )
    return dag


def test_a_window_is_profiled_in_a_process_of_its_own(dag: DAG) -> None:
    result = DagRunHarness(dag).run("profile").result
    profile = json.loads(read_uri(result["profile_uri"]))
    assert (profile["rows"], [column["name"] for column in profile["columns"]]) == (50, ["x", "colour"])


def test_a_mistake_fails_the_task_for_good_with_one_sentence(
    dag: DAG, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = DagRunHarness(dag).run("wrong", retries_left=True)
    assert outcome.state == "failed"
    assert "z" in str(outcome.error)
    assert str(outcome.error).count("\n") == 0


def test_a_worker_that_takes_over_follows_the_job_that_is_there(
    dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = DagRunHarness(dag)

    def died(*args: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as worker:
        worker.setattr(step.StepOperator, "wait", died)
        worker.setattr("mlretrain_provider.backends.local.LocalBackend.cancel", lambda *args: None)
        first.run("profile", retries_left=True)
    started: list[Any] = []
    with monkeypatch.context() as counting:
        counting.setattr(
            "mlretrain_provider.backends.local.LocalBackend._start", lambda *args: started.append(args)
        )
        assert first.run("profile", try_number=2).result["rows"] == 50
    assert started == []
