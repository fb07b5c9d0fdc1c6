"""A real scoring as a local job, killed half way: what it has finished stays, and only the rest is scored."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime import process
from mlretrain.runtime.contract import StepRequest
from mlretrain.steps.score import Config
from mlretrain.wire import pretty, to_wire
from mlretrain_provider.backends.local import LocalBackend

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

WAIT_S = 300.0
FILES, ROWS = 30, 20_000


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[str], JobSpec]:
    """``make_job(name)``: two versions score 600,000 rows; all jobs of a test answer one request."""
    random = np.random.default_rng(7)
    for number in range(FILES):
        first = number * ROWS
        rows = pd.DataFrame(
            {"flight": range(first, first + ROWS), "distance": random.uniform(80, 5000, ROWS)}
        )
        (tmp_path / "data").mkdir(exist_ok=True)
        rows.to_parquet(tmp_path / f"data/{number:02}.parquet", index=False)
    tracking_uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    dataset_uri = (tmp_path / "data.json").as_uri()
    write_dataset(resolve(str(tmp_path / "data")), dataset_uri)
    config = Config(
        dataset_uri=dataset_uri,
        model="flights",
        output_uri=(tmp_path / "scores").as_uri(),
        key=("flight",),
        tallies_uri=(tmp_path / "tallies").as_uri(),
    )
    request = StepRequest(
        step="score",
        pipeline="flights",
        run_id="r",
        window_end=datetime(2013, 4, 1, tzinfo=UTC),
        key="k",
        config=dict(to_wire(config)),
        frozen={
            "traffic": {"weights": {"1": 90, "2": 10}, "mirrored": {}, "generation": 3},
            "versions": register(tracking_uri, tmp_path),
            "at": datetime.now(UTC).isoformat(),
        },
        output_uri=(tmp_path / "out").as_uri(),
        job="flights-score",
    )
    (tmp_path / "request.json").write_bytes(pretty(request))
    request_uri = (tmp_path / "request.json").as_uri()

    def make(name: str) -> JobSpec:
        env = {"MLFLOW_TRACKING_URI": tracking_uri, "MLRETRAIN_ATTEMPT": name[-1]}
        return JobSpec(name=name, request_uri=request_uri, env=env)

    return make


def register(tracking_uri: str, folder: Path) -> dict[str, Any]:
    """Two versions of a model, as they are named in a request."""
    # MLflow tells its children of the experiment by the environment, which is ours to put back.
    with warnings.catch_warnings(), mock.patch.dict(os.environ):
        warnings.simplefilter("ignore")
        import mlflow
        from sklearn.linear_model import LinearRegression

        mlflow.set_tracking_uri(tracking_uri)
        mlflow.MlflowClient(tracking_uri).create_experiment("e", (folder / "artifacts").as_uri())
        mlflow.set_experiment("e")
        rows = pd.DataFrame({"distance": [1.0, 2.0]})
        signature = mlflow.models.infer_signature(rows, [1.0])
        for slope in (1.0, 2.0):
            model = LinearRegression().fit(rows, [slope, 2 * slope])
            mlflow.sklearn.log_model(
                model, name="m", signature=signature, registered_model_name="flights", pip_requirements=[]
            )
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    return {version: {"model_uri": f"models:/flights/{version}", "tags": {}} for version in ("1", "2")}


def partitions(folder: Path) -> dict[str, tuple[int, str]]:
    """When each appeared, and its SHA-256."""
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.glob("*.parquet"))
    }


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def end_of(jobs: LocalBackend, handle: str) -> tuple[JobStatus, str]:
    until(lambda: jobs.status(handle).ended)
    return jobs.status(handle), jobs.logs(handle, "")[0]


def test_a_scoring_that_was_killed_goes_on_with_what_is_missing(
    tmp_path: Path, make_job: Callable[[str], JobSpec]
) -> None:
    jobs, scores = LocalBackend(tmp_path / "jobs"), tmp_path / "scores"
    first = jobs.submit(make_job("flights-score-1"))
    until(lambda: jobs.status(first).ended or len(list(scores.glob("_manifests/*.json"))) >= 5)
    process.kill(process.descendants(json.loads((Path(first) / "job.json").read_bytes())["pid"]))
    status, log = end_of(jobs, first)
    assert (status.state, status.exit_code) == ("failed", 137), log
    half, noted = partitions(scores), {path.stem for path in scores.glob("_manifests/*.json")}
    assert 5 <= len(noted) <= len(half) < FILES
    assert not (scores / "_SUCCESS").exists()

    status, log = end_of(jobs, jobs.submit(make_job("flights-score-2")))
    assert status.state == "succeeded", log
    whole = partitions(scores)
    assert {name: whole[f"{name}.parquet"] for name in noted} == {
        name: half[f"{name}.parquet"] for name in noted
    }
    result = json.loads((tmp_path / "out/report.json").read_bytes())["result"]
    assert (result["kept"], result["scored"]) == (len(noted), FILES - len(noted))
    success = json.loads((scores / "_SUCCESS").read_bytes())
    assert success["rows"] == FILES * ROWS
    assert {each["path"]: each["sha256"] for each in success["partitions"]} == {
        name: sha256 for name, (_, sha256) in whole.items()
    }
    assert not list(scores.glob(".scoring-*"))
    found = pd.concat([pd.read_parquet(path) for path in sorted(scores.glob("*.parquet"))])
    assert found["flight"].is_unique
    assert (found["model_version"] == "2").mean() == pytest.approx(0.1, abs=0.005)
