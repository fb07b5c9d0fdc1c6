"""A worker is told to stop, or dies: real processes, the real task runner and the local backend."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlretrain.runtime import process
from mlretrain_provider.backends.local import LocalBackend

pytestmark = pytest.mark.integration

WAIT_S = 60.0
WORKER = """
import sys
from pathlib import Path
from airflow.sdk import DAG
from mlretrain_provider.backends.local import LocalBackend
from mlretrain_provider.operators import step
from mlretrain_provider.operators.data import ValidateDataOperator
from tests.fakes.airflow_harness import DagRunHarness

home = Path(sys.argv[1])
job = f"echo $$ >> {home}/started; exec sleep 300"
step.open_backend = lambda name, options: LocalBackend(home / "jobs", command=("/bin/sh", "-c", job, "sh"))
with DAG("churn.retrain") as dag:
    ValidateDataOperator(
        task_id="validate", dataset="file:///d.json", pipeline="churn", artifacts_uri=f"file://{home}/a"
    )
print(DagRunHarness(dag).run("validate", retries_left=True).state, flush=True)
"""


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def started(home: Path) -> list[int]:
    file = home / "started"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, str(tmp_path)]
        root = Path(__file__).parents[2]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root))
        return running[-1]

    yield start
    for each in running:
        each.kill()
        each.communicate()
    for pid in started(tmp_path):
        process.kill([pid])


def test_a_worker_that_is_told_to_stop_takes_its_job_with_it(
    tmp_path: Path, worker: Callable[[], subprocess.Popen[str]]
) -> None:
    first = worker()
    until(lambda: bool(started(tmp_path)))
    (pid,) = started(tmp_path)
    first.send_signal(signal.SIGTERM)
    out, _ = first.communicate(timeout=WAIT_S)
    assert out.splitlines()[-1] == "up_for_retry"
    assert process.started_at(pid) is None


def test_a_worker_that_dies_leaves_its_job_to_the_next(
    tmp_path: Path, worker: Callable[[], subprocess.Popen[str]]
) -> None:
    first = worker()
    until(lambda: bool(started(tmp_path)))
    first.kill()
    first.wait()
    second = worker()
    (folder,) = (each for each in (tmp_path / "jobs").iterdir() if each.is_dir())
    jobs = LocalBackend(tmp_path / "jobs")
    assert jobs.status(str(folder)).state == "running"
    assert second.stdout is not None
    until(lambda: "Job churn-validate" in (second.stdout.readline() if second.stdout else ""))
    assert len(started(tmp_path)) == 1
    jobs.cancel(str(folder))
    out, _ = second.communicate(timeout=WAIT_S)
    assert out.splitlines()[-1] == "up_for_retry"
