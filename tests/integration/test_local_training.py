"""Real trainings as local jobs: in an environment of their own, on several nodes, and stopped half way."""

from __future__ import annotations

import json
import textwrap
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.data.split import Holdout
from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime.contract import StepRequest
from mlretrain.steps.train import Config
from mlretrain.wire import pretty, to_wire
from mlretrain_provider.backends.local import LocalBackend

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

WAIT_S = 600.0
USER_CODE = """
import json
import time
from sklearn.dummy import DummyRegressor

def together(ctx):
    import cowsay  # the worker does not have it
    ctx.progress(1, 2, f"rank {ctx.rank} says {cowsay.char_names[0]}")
    return model(ctx)

def step_by_step(ctx):
    kept = ctx.load_checkpoint("epochs.json")
    epochs = json.loads(kept) if kept else []
    try:
        while len(epochs) < 4:
            if len(epochs) == 2 and not kept:
                print("half way", flush=True)
                time.sleep(300)
            epochs.append("second try" if kept else "first try")
            ctx.progress(len(epochs), 4)
    finally:
        ctx.save_checkpoint("epochs.json", json.dumps(epochs).encode())
    return model(ctx)

def model(ctx):
    frame = ctx.train_frame()
    return DummyRegressor().fit(frame[ctx.features], frame["y"])
"""


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., JobSpec]:
    """``make_job(entrypoint, name=…, …)``: a training of ten rows; all of one test answer one request."""
    (tmp_path / "trainings.py").write_text(textwrap.dedent(USER_CODE))
    rows = pd.DataFrame({"time": pd.date_range("2013", periods=10, freq="h"), "x": range(10), "y": range(10)})
    rows.to_parquet(tmp_path / "data.parquet")
    dataset_uri = (tmp_path / "data.json").as_uri()
    write_dataset(resolve((tmp_path / "data.parquet").as_uri(), time_column="time"), dataset_uri)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run_id = open_run(uri, tmp_path)

    def make(entrypoint: str, **fields: Any) -> JobSpec:
        config = Config(
            dataset_uri=dataset_uri,
            entrypoint=f"trainings:{entrypoint}",
            target="y",
            holdout=Holdout(by="time", fraction=0.2),
        )
        request = StepRequest(
            step="train",
            pipeline="p",
            run_id="r",
            window_end=datetime(2013, 4, 1, tzinfo=UTC),
            key="k",
            config=dict(to_wire(config)),
            frozen={"mlflow_run_id": run_id},
            output_uri=(tmp_path / "out").as_uri(),
        )
        (tmp_path / "request.json").write_bytes(pretty(request))
        env = {"MLFLOW_TRACKING_URI": uri, "MLRETRAIN_CODE_PATHS": str(tmp_path)}
        return JobSpec(request_uri=(tmp_path / "request.json").as_uri(), env=env, **fields)

    return make


def open_run(uri: str, folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlflow\.")
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        experiment = client.create_experiment("e", (folder / "artifacts").as_uri())
        return str(client.create_run(experiment).info.run_id)


@pytest.fixture
def jobs(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "jobs", environments_dir=tmp_path / "environments")


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def end_of(jobs: LocalBackend, handle: str) -> tuple[JobStatus, str]:
    until(lambda: jobs.status(handle).ended)
    return jobs.status(handle), jobs.logs(handle, "")[0]


def test_nodes_train_in_an_environment_that_the_worker_does_not_have(
    tmp_path: Path, jobs: LocalBackend, make_job: Callable[..., JobSpec]
) -> None:
    with pytest.raises(ImportError):
        __import__("cowsay")
    spec = make_job("together", name="p-train-1", nodes=2, requirements=("cowsay==6.1",), timeout_s=WAIT_S)
    status, log = end_of(jobs, jobs.submit(spec))
    assert status.state == "succeeded", log
    for rank in range(2):
        assert any(line.startswith(f"[{rank}] ") and f"rank {rank} says" in line for line in log.splitlines())
    report = json.loads((tmp_path / "out/report.json").read_bytes())
    assert report["result"]["model_uri"].startswith("models:/")


def test_a_training_that_was_stopped_goes_on_in_the_next_job(
    tmp_path: Path, jobs: LocalBackend, make_job: Callable[..., JobSpec]
) -> None:
    first = jobs.submit(make_job("step_by_step", name="p-train-1"))
    until(lambda: jobs.status(first).ended or "half way\n" in jobs.logs(first, "")[0])
    jobs.cancel(first)
    status, log = end_of(jobs, first)
    assert (status.state, status.exit_code) == ("cancelled", 20), log
    status, log = end_of(jobs, jobs.submit(make_job("step_by_step", name="p-train-2")))
    assert status.state == "succeeded", log
    assert "progress: 3 of 4 (75 %)" in log
    assert "progress: 2 of 4" not in log
    epochs = json.loads((tmp_path / "out/checkpoints/epochs.json").read_bytes())
    assert epochs == ["first try"] * 2 + ["second try"] * 2
