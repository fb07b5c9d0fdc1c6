"""The model server as users run it: a process, real models from a real MLflow, load from another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlretrain.errors import ConfigError, InvalidInput, TransientError
from mlretrain.serving.target import LocalTarget
from tests.fixtures_mlflow import mlflow_server
from tests.fixtures_serving import ModelServer, model_server
from tests.free_port import free_port

pytestmark = pytest.mark.integration

LOAD = Path(__file__).with_name("load.py")
ROW = {"distance": 500.0, "delay": 12.0, "carrier": "UA"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Model ``late``: versions 1 and 2 differ in what they learnt, version 3 raises whenever it is asked."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        code = (
            "import sys; sys.path[:0] = sys.argv[1:2]; import test_model_server as t; t.register(sys.argv[2])"
        )
        command = [sys.executable, "-c", code, str(LOAD.parent), uri]
        path = {"PYTHONPATH": str(LOAD.parent.parent)}
        subprocess.run(command, check=True, env={**os.environ, **path}, capture_output=True, timeout=120)
        yield uri


def register(tracking_uri: str) -> None:
    """Train and register the versions; runs in a process of its own."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    class Raising(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined,unused-ignore]
        def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
            raise RuntimeError("the feature store is away")

    mlflow.set_tracking_uri(tracking_uri)
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"distance": rng.uniform(100, 3000, 500), "delay": rng.normal(10, 20, 500)})
    for seed in (1, 2):
        late = rows["delay"] + seed * rng.normal(0, 10, 500) > 15
        model = LogisticRegression().fit(rows, late)
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, model.predict_proba(rows)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["scikit-learn"],
            registered_model_name="late",
        )
    mlflow.pyfunc.log_model(
        name="model",
        python_model=Raising(),
        signature=infer_signature(rows, [0.5]),
        pip_requirements=["pandas"],
        registered_model_name="late",
    )


@pytest.fixture
def server(registry: str, tmp_path: Path) -> Iterator[ModelServer]:
    with model_server(tmp_path, registry) as running:
        yield running


def test_traffic_moves_without_a_failed_or_lost_request(server: ModelServer) -> None:
    target = LocalTarget(server.url)
    target.apply("late", {"1": 100})
    began = datetime.now(UTC)
    phases: list[tuple[dict[str, int], float, float]] = []

    with load(server, connections=6, seconds=9) as running:
        for weights in ({"1": 100}, {"1": 90, "2": 10}, {"2": 100}, {"1": 100}):
            target.apply("late", weights)
            applied_at = time.time()
            time.sleep(2)
            phases.append((weights, applied_at, time.time()))
    requests = running.requests

    assert Counter(status for _, status, *_ in requests) == {200: len(requests)}
    assert len(requests) > 200
    for weights, start, end in phases:
        answered = Counter(version for _, _, version, at, _ in requests if start < at < end)
        for version, weight in weights.items():
            assert answered[version] / answered.total() == pytest.approx(weight / 100, abs=0.02)
        assert set(answered) == set(weights)
    post(server, "/models/late/flush")
    rows = logged(server)
    assert sorted(rows["serial"]) == sorted(serial for serial, *_ in requests)
    assert dict(zip(rows["serial"], rows["model_version"], strict=True)) == {
        serial: version for serial, _, version, *_ in requests
    }
    assert rows["prediction"].between(0, 1).all()
    assert set(rows["carrier"]) == {"UA"}
    stats = target.metrics("late", began - timedelta(seconds=1))
    assert sum(each.requests for each in stats.values()) == len(requests)
    assert sum(each.errors for each in stats.values()) == 0
    assert get(server, "/models/late") == {"weights": {"1": 100}, "loaded": ["1"]}


def test_a_model_that_raises_is_seen_by_the_guards_and_rolled_back(server: ModelServer) -> None:
    target = LocalTarget(server.url)
    target.apply("late", {"1": 90, "3": 10})
    began = datetime.now(UTC)
    statuses = Counter(invoke(server)[0] for _ in range(100))
    stats = target.metrics("late", began)

    assert statuses == {200: 90, 500: 10}
    assert (stats["3"].requests, stats["3"].errors) == (10, 10)
    assert (stats["1"].requests, stats["1"].errors) == (90, 0)
    started = time.monotonic()
    target.apply("late", {"1": 100})
    assert {invoke(server)[0] for _ in range(20)} == {200}
    assert time.monotonic() - started < 2


def test_a_version_that_does_not_exist_changes_nothing(server: ModelServer) -> None:
    target = LocalTarget(server.url)
    target.apply("late", {"1": 100})

    with pytest.raises(InvalidInput, match="models:/late/99 cannot be loaded"):
        target.apply("late", {"1": 90, "99": 10})

    assert target.current("late") == {"1": 100}
    assert invoke(server) == (200, "1")


def test_a_restart_serves_what_was_served_and_the_log_is_whole(registry: str, tmp_path: Path) -> None:
    with model_server(tmp_path, registry) as first:
        LocalTarget(first.url).apply("late", {"1": 50, "2": 50})
        with load(first, connections=4, seconds=2) as running:
            time.sleep(1)
            assert first.stop() == 0
    answered = [serial for serial, status, *_ in running.requests if status == 200]
    assert len(answered) > 50
    assert sorted(logged(first)["serial"]) == sorted(answered)

    with model_server(tmp_path, registry) as second:
        assert LocalTarget(second.url).current("late") == {"1": 50, "2": 50}
        assert Counter(invoke(second)[1] for _ in range(10)) == {"1": 5, "2": 5}


def test_a_registry_that_is_away_is_worth_a_retry(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    env = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLRETRAIN_SERVE_TOKEN": "t"}
    with model_server(tmp_path, away, **env) as running:
        with pytest.raises(ConfigError, match="token"):
            LocalTarget(running.url).apply("late", {"1": 100})
        with pytest.raises(TransientError, match="models:/late/1 cannot be fetched now"):
            LocalTarget(running.url, token="t").apply("late", {"1": 100})


class load:  # noqa: N801 - reads as a verb
    """Load from a second process while the block runs; then ``requests`` holds what came back."""

    def __init__(self, server: ModelServer, *, connections: int, seconds: float) -> None:
        address = urlsplit(server.url)
        arguments = [str(address.hostname), str(address.port), "/models/late/invocations"]
        arguments += [str(connections), str(seconds), json.dumps(ROW)]
        self._command = [sys.executable, str(LOAD), *arguments]
        self.requests: list[tuple[int, int, str, float, float]] = []

    def __enter__(self) -> load:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *error: object) -> None:
        output, _ = self._process.communicate(timeout=120)
        self.requests = json.loads(output)["requests"]


def logged(server: ModelServer) -> pd.DataFrame:
    files = sorted((server.folder / "predictions" / "late").glob("date=*/part-*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    assert len({str(table.schema) for table in tables}) == 1
    frames: list[pd.DataFrame] = [table.to_pandas() for table in tables]
    return pd.concat(frames)


def invoke(server: ModelServer) -> tuple[int, str]:
    body = json.dumps({"dataframe_records": [{**ROW, "serial": 0}]}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/models/late/invocations", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["X-Model-Version"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers["X-Model-Version"]


def get(server: ModelServer, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}", timeout=10) as answer:
        return json.load(answer)


def post(server: ModelServer, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}", b"", timeout=60) as answer:
        return json.load(answer)
