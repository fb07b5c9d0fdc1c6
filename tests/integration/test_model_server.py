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
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlretrain.errors import ConfigError, InvalidInput, Superseded, TransientError
from mlretrain.gates.canary import Guard
from mlretrain.ledger import Ledger, Link
from mlretrain.ports import Traffic
from mlretrain.registry.mlflow import MlflowRegistry
from mlretrain.registry.rest import MlflowRest
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import open_store
from mlretrain.serving.target import LocalTarget
from mlretrain_provider.health import Watch, look
from tests.fixtures_mlflow import mlflow_server
from tests.fixtures_serving import ModelServer, model_server
from tests.free_port import free_port

pytestmark = pytest.mark.integration

LOAD = Path(__file__).with_name("load.py")
ROW = {"distance": 500.0, "delay": 12.0, "carrier": "UA"}
ROWS = [{**ROW, "delay": float(delay)} for delay in range(-20, 60)]
RATE, LEAST_RATE = 230.0, 200.0
"""Requests per second that are sent, and that must have been."""
PHASE_S = 2.5
SLOWER = Guard(metric="latency_p95_ms", versus="champion", max_ratio=1.5)
FAILING = Guard(metric="error_rate", versus="champion", max_increase=0.01)

Request = tuple[int, int, str, float, float]
"""Serial number, status, version, when it was sent, milliseconds to the answer."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Model ``late``: versions 1 and 2 differ in what they learnt, 3 raises when it is asked, 4 is slow."""
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

    class Slow(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined,unused-ignore]
        def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
            time.sleep(0.08)
            return np.full(len(model_input), 0.5)

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
    for python_model in (Raising(), Slow()):
        mlflow.pyfunc.log_model(
            name="model",
            python_model=python_model,
            signature=infer_signature(rows, [0.5]),
            pip_requirements=["pandas"],
            registered_model_name="late",
        )


@pytest.fixture
def server(registry: str, tmp_path: Path) -> Iterator[ModelServer]:
    with model_server(tmp_path, registry) as running:
        yield running


def test_a_years_rollouts_in_half_a_minute_lose_and_fail_no_request(
    server: ModelServer, registry: str
) -> None:
    runs = Runs(server, registry)
    runs.of("first").promote("1", champion=None, reason="it is the first")

    with load(server, rate=RATE) as running:
        canary = runs.of("canary")
        phases = [runs.phase(lambda: canary.shift("2", split("1", "2", 10), champion="1", outcome="10"))]
        phases.append(runs.phase(lambda: canary.promote("2", champion="1", reason="it is better")))
        slow = runs.of("slow")
        link = slow.shift("4", split("2", "4", 10), champion="2", outcome="10")
        seen_at, back_at = runs.withdrawn_at_a_breach(slow, link, "4", SLOWER)
        slow.roll_back("4", "it is slow")
        phases.append(runs.phase(lambda: None))
        shadow = runs.of("shadow")
        mirrored = Traffic(weights={"2": 100}, mirrored={"1": 50})
        began = shadow.shift("1", mirrored, champion="2", outcome="mirror").event.at
        phases.append(runs.phase(lambda: None))
        copies = runs.target.metrics("late", began)["1"]
        shadow.roll_back("1", "seen enough")
        phases.append(runs.phase(lambda: None))
    requests = running.requests

    report("rollouts", running, seen_at=seen_at, back_at=back_at, withdrawn="4", copies=copies)
    assert Counter(status for _, status, *_ in requests) == {200: len(requests)}
    for weights, start, end in phases:
        answered = Counter(version for _, _, version, at, _ in requests if start < at < end)
        assert set(answered) == {version for version, weight in weights.items() if weight}
        for version in answered:
            assert answered[version] / answered.total() == pytest.approx(weights[version] / 100, abs=0.03)
    assert last_answer(requests, "4") - seen_at < 2
    runs.target.flush("late")
    rows = logged(server)
    assert sorted(rows["serial"]) == sorted(serial for serial, *_ in requests)
    served = dict(zip(rows["serial"], rows["model_version"], strict=True))
    assert served == {serial: version for serial, _, version, *_ in requests}
    both = logged(server, ".mirrored").merge(rows, on="serial", suffixes=("_copy", "_served"))
    assert set(both["model_version_copy"]) == {"1"}
    assert set(both["model_version_served"]) == {"2"}
    apart = (both["prediction_copy"] - both["prediction_served"]).abs()
    assert copies.compared == copies.requests > 5
    assert copies.errors == 0
    assert copies.disagreement == pytest.approx((apart > 1e-6 * both["prediction_served"]).mean(), abs=0.05)
    assert copies.difference_p95 == pytest.approx(np.quantile(apart, 0.95), rel=0.1)
    offered = sum(1 for _, _, _, at, _ in requests if phases[3][1] < at < phases[3][2]) / 2
    assert len(both) + counted(server, "mirrored_dropped") == pytest.approx(offered, rel=0.2)
    demand_rate(running)


def test_a_version_that_raises_is_gone_within_two_seconds_of_being_seen(
    server: ModelServer, registry: str
) -> None:
    runs = Runs(server, registry)
    runs.of("first").promote("1", champion=None, reason="it is the first")

    with load(server, rate=RATE) as running:
        time.sleep(1)
        bad = runs.of("bad")
        link = bad.shift("3", split("1", "3", 10), champion="1", outcome="10")
        seen_at, back_at = runs.withdrawn_at_a_breach(bad, link, "3", FAILING)
        time.sleep(1)
    requests = running.requests

    report("raises", running, seen_at=seen_at, back_at=back_at, withdrawn="3")
    assert {status for _, status, *_ in requests} == {200, 500}
    assert {version for _, status, version, *_ in requests if status == 500} == {"3"}
    assert last_answer(requests, "3") - seen_at < 2
    assert runs.ledger.standing().traffic.weights == {"1": 100}
    demand_rate(running)


def test_a_restart_in_the_middle_of_a_rollout_loses_nothing(registry: str, tmp_path: Path) -> None:
    port = str(free_port())
    arguments = ("--port", port, "--drain-seconds", "1")
    with model_server(tmp_path, registry, *arguments) as first:
        runs = Runs(first, registry)
        runs.of("first").promote("1", champion=None, reason="it is the first")
        with load(first, rate=RATE, seconds=60) as running:
            canary = runs.of("canary")
            late = runs.target.current("late")
            canary.shift("2", split("1", "2", 20), champion="1", outcome="20")
            time.sleep(1)
            assert first.stop() == 0
            stopped_at = time.time()
            with model_server(tmp_path, registry, *arguments) as second:
                started_at = time.time()
                with pytest.raises(Superseded):
                    runs.target.apply("late", late)
                before = runs.phase(lambda: None)
                canary.promote("2", champion="1", reason="it is better")
                after = runs.phase(lambda: None)
                running.stop()
                runs.target.flush("late")
    requests = running.requests

    report("restart", running, stopped_at=stopped_at, started_at=started_at)
    assert Counter(status for _, status, *_ in requests) == {200: len(requests)}
    for weights, start, end in (before, after):
        answered = Counter(version for _, _, version, at, _ in requests if start < at < end)
        assert {each: round(answered[each] / answered.total(), 1) for each in answered} == {
            version: weight / 100 for version, weight in weights.items()
        }
    rows = logged(second)
    assert sorted(rows["serial"]) == sorted(serial for serial, *_ in requests)


def test_a_pinned_server_stops_under_load_without_a_lost_request(registry: str, tmp_path: Path) -> None:
    arguments = ("--model", "late", "--version", "1", "--drain-seconds", "2")
    with model_server(tmp_path, registry, *arguments) as pinned:
        assert invoke(pinned) == (200, "1")
        with pytest.raises(InvalidInput, match="what it was started with"):
            LocalTarget(pinned.url).apply("late", Traffic(weights={"2": 100}))
        with load(pinned, rate=RATE) as running:
            time.sleep(1)
            pinned.process.terminate()
            time.sleep(1)
            with pytest.raises(urllib.error.HTTPError, match="503"):
                get(pinned, "/ready")
            running.stop()
            assert pinned.process.wait(60) == 0
    requests = running.requests

    assert Counter(status for _, status, *_ in requests) == {200: len(requests)}
    assert sorted({0, *logged(pinned)["serial"]}) == sorted({0, *(serial for serial, *_ in requests)})


def test_a_model_that_raises_is_seen_by_the_guards_and_rolled_back(server: ModelServer) -> None:
    target = LocalTarget(server.url)
    target.apply("late", Traffic(weights={"1": 90, "3": 10}))
    began = datetime.now(UTC)
    statuses = Counter(invoke(server)[0] for _ in range(100))
    stats = target.metrics("late", began)

    assert statuses == {200: 90, 500: 10}
    assert (stats["3"].requests, stats["3"].errors) == (10, 10)
    assert (stats["1"].requests, stats["1"].errors) == (90, 0)
    started = time.monotonic()
    target.apply("late", Traffic(weights={"1": 100}))
    assert {invoke(server)[0] for _ in range(20)} == {200}
    assert time.monotonic() - started < 2


def test_a_version_that_does_not_exist_changes_nothing(server: ModelServer) -> None:
    target = LocalTarget(server.url)
    target.apply("late", Traffic(weights={"1": 100}))

    with pytest.raises(InvalidInput, match="models:/late/99 cannot be loaded"):
        target.apply("late", Traffic(weights={"1": 90, "99": 10}))

    assert target.current("late").weights == {"1": 100}
    assert invoke(server) == (200, "1")


def test_a_restart_serves_what_was_served_and_the_log_is_whole(registry: str, tmp_path: Path) -> None:
    with model_server(tmp_path, registry) as first:
        LocalTarget(first.url).apply("late", Traffic(weights={"1": 50, "2": 50}))
        with load(first, connections=4) as running:
            time.sleep(1)
            assert first.stop() == 0
    requests = running.requests
    assert Counter(status for _, status, *_ in requests) == {200: len(requests)}
    assert sorted(logged(first)["serial"]) == sorted(serial for serial, *_ in requests)

    with model_server(tmp_path, registry) as second:
        assert LocalTarget(second.url).current("late").weights == {"1": 50, "2": 50}
        assert Counter(invoke(second)[1] for _ in range(10)) == {"1": 5, "2": 5}


def test_a_registry_that_is_away_is_worth_a_retry(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    env = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLRETRAIN_SERVE_TOKEN": "t"}
    with model_server(tmp_path, away, **env) as running:
        with pytest.raises(ConfigError, match="token"):
            LocalTarget(running.url).apply("late", Traffic(weights={"1": 100}))
        with pytest.raises(TransientError, match="models:/late/1 cannot be fetched now"):
            LocalTarget(running.url, token="t").apply("late", Traffic(weights={"1": 100}))


class Runs:
    """Runs of the pipeline ``late``, whose rollouts act on the server as the tasks of a DAG do."""

    def __init__(self, server: ModelServer, tracking_uri: str) -> None:
        self.target = LocalTarget(server.url)
        self.registry = MlflowRegistry(rest=MlflowRest(uri=tracking_uri))
        self.registry.set_alias("late", "champion", None)
        store = open_store(f"file://{server.folder}/artifacts")
        self.ledger = Ledger(store, "late", self.registry)

    def of(self, run_id: str) -> Rollout:
        return Rollout(
            pipeline="late",
            run_id=run_id,
            window_end=datetime.now(UTC),
            ledger=self.ledger,
            registry=self.registry,
            target=self.target,
        )

    def phase(self, act: Callable[[], Any]) -> tuple[Mapping[str, int], float, float]:
        """The traffic after an act, and from when to when it has been observed."""
        act()
        began = time.time()
        time.sleep(PHASE_S)
        return self.target.current("late").weights, began, time.time()

    def withdrawn_at_a_breach(
        self, rollout: Rollout, link: Link, version: str, guard: Guard
    ) -> tuple[float, float]:
        """When the sensor's look saw the breach, and when the champion had all traffic again."""
        watch = Watch(
            model="late",
            version=version,
            since=link.event.at,
            champion=link.event.previous,
            bake_s=60,
            patience_s=60,
            min_requests=20,
            guards=(guard,),
        )
        while (health := look(watch, self.target, datetime.now(UTC))).verdict != "roll_back":
            assert not health.done
            time.sleep(0.1)
        seen_at = time.time()
        assert rollout.withdraw(version, health.reason)
        return seen_at, time.time()


def split(champion: str, version: str, share: int) -> Traffic:
    return Traffic(weights={champion: 100 - share, version: share})


def last_answer(requests: list[Request], version: str) -> float:
    """When the last answer of a version arrived."""
    return max(at + ms / 1000 for _, _, each, at, ms in requests if each == version)


def counted(server: ModelServer, name: str) -> float:
    """The sum of one of the server's counters."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"mlretrain_{name}_total{{"))


def demand_rate(running: load) -> None:
    """Fails if too few requests were sent, unless others keep this machine from sending more."""
    if running.rate < LEAST_RATE and os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        pytest.skip(f"all held but the rate: {running.rate:.0f}/s on a machine that is busy otherwise")
    assert running.rate >= LEAST_RATE


def report(name: str, running: load, **figures: Any) -> None:
    """Figures for whoever runs this with ``-s``."""
    seen, back, version = (figures.pop(each, None) for each in ("seen_at", "back_at", "withdrawn"))
    if seen:
        figures["ordered back after s"] = round(back - seen, 3)
        figures["last answer after s"] = round(last_answer(running.requests, version) - seen, 3)
    latencies = sorted(ms for *_, ms in running.requests)
    quantiles = {each: round(latencies[int(each * len(latencies))], 1) for each in (0.5, 0.95, 0.99)}
    print(f"{name}: {len(running.requests)} requests, {running.rate:.0f}/s, ms {quantiles}, {figures}")


class load:  # noqa: N801 - reads as a verb
    """Load from a second process while the block runs; then ``requests`` holds what came back.

    :param rate: requests per second; 0: as many as are answered.
    """

    def __init__(
        self, server: ModelServer, *, connections: int = 8, seconds: float = 120, rate: float = 0
    ) -> None:
        address = urlsplit(server.url)
        arguments = [str(address.hostname), str(address.port), "/models/late/invocations"]
        arguments += [str(connections), str(seconds), json.dumps(ROWS), str(rate)]
        self._command = [sys.executable, str(LOAD), *arguments]
        self.requests: list[Request] = []

    def __enter__(self) -> load:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        return self

    def stop(self) -> None:
        """Send nothing more, and wait for what is under way."""
        if not self.requests:
            self._process.terminate()
            output, _ = self._process.communicate(timeout=120)
            self.requests = [tuple(each) for each in json.loads(output)["requests"]]

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def rate(self) -> float:
        """Requests that were sent per second."""
        sent = [at for _, _, _, at, _ in self.requests]
        return len(sent) / (max(sent) - min(sent))


def logged(server: ModelServer, folder: str = ".") -> pd.DataFrame:
    files = sorted((server.folder / "predictions" / "late" / folder).glob("date=*/part-*.parquet"))
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
