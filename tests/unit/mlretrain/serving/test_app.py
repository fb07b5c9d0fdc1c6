from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, DataType, Schema
from starlette.testclient import TestClient

from mlretrain.data.files import find
from mlretrain.errors import InvalidInput, TransientError
from mlretrain.serving.app import Settings, create_app
from mlretrain.serving.router import LoadFailed
from mlretrain.serving.scoring import ObservedModel

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROWS = {"dataframe_records": [{"a": 2.0, "id": 7}, {"a": 3.0, "id": 8}]}


class Metadata:
    """What MLflow's scoring app asks of a model's metadata."""

    def __init__(self, schema: Schema | None) -> None:
        self.signature = ModelSignature(inputs=schema) if schema else None
        self._schema = schema

    def get_input_schema(self) -> Schema | None:
        return self._schema


class Factor:
    """A model that multiplies column ``a`` by its version; it raises as its inputs say."""

    def __init__(self, version: str, loader: Loader) -> None:
        self.version = version
        self.loader = loader
        self.metadata = Metadata(None)

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Any:
        if "wait" in data:
            self.loader.asked.set()
            assert self.loader.answer.wait(10)
        if "raise" in data:
            raise ValueError("secret rows in here")
        if "picky" in data and self.version == "8":
            raise MlflowException.invalid_parameter_value("Failed to enforce schema")
        if "hold" in data and self.version == "8":
            self.loader.asked.set()
            assert self.loader.answer.wait(10)
        if "break" in data and self.version == "8":
            raise ValueError("only I fail")
        if "refuse" in data:
            raise MlflowException.invalid_parameter_value("Failed to enforce schema")
        if "unserialisable" in data:
            return object()
        data["changed"] = 1
        return np.asarray(data["a"]) * int(self.version)


class Loader:
    def __init__(self) -> None:
        self.broken: dict[str, Exception] = {}
        self.gate: threading.Event | None = None
        self.asked = threading.Event()
        self.answer = threading.Event()

    def __call__(self, model: str, version: str) -> Any:
        if self.gate:
            assert self.gate.wait(10)
        if version in self.broken:
            raise self.broken[version]
        observed: Any = ObservedModel(Factor(version, self))
        return scoring_server.init(observed)


@pytest.fixture
def loader() -> Loader:
    return Loader()


Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path, loader: Loader) -> Serve:
    @contextmanager
    def start(
        token: str | None = None,
        pinned: tuple[str, tuple[str, ...]] | None = None,
        ending: Callable[[], bool] = lambda: False,
    ) -> Iterator[TestClient]:
        settings = Settings(
            tracking_uri="http://registry",
            log_dir=tmp_path / "log",
            state_dir=tmp_path / "state",
            token=token,
            pinned=pinned,
            flush_s=3600,
        )
        app = create_app(settings, load=loader, clock=NOON.timestamp, ending=ending)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return start


def ask(client: TestClient, rows: Any = ROWS, **headers: str) -> Any:
    return client.post("/models/m/invocations", json=rows, headers=headers)


def logged(tmp_path: Path, folder: str = "m") -> pd.DataFrame:
    files = sorted((tmp_path / "log").glob(f"{folder}/date=2026-03-02/*.parquet"))
    frames: list[pd.DataFrame] = [pq.ParquetFile(file).read().to_pandas() for file in files]
    return pd.concat(frames)


def test_mlflow_answers_and_the_version_is_named(serve: Serve) -> None:
    with serve() as client:
        assert client.put("/models/m/traffic", json={"weights": {"7": 100}}).json() == {
            "weights": {"7": 100},
            "mirrored": {},
            "generation": 0,
            "loaded": ["7"],
        }
        answer = ask(client)

        assert answer.json() == {"predictions": [14.0, 21.0]}
        assert answer.headers["x-model-version"] == "7"
        assert len(answer.headers["x-request-id"]) == 32
        assert client.get("/models/m").json()["weights"] == {"7": 100}


def test_the_callers_request_id_is_kept_unless_it_is_none(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})

        assert ask(client, **{"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert ask(client, **{"X-Request-Id": "not an id"}).headers["x-request-id"] != "not an id"


def test_rows_are_logged_as_they_were_sent(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        ask(client, **{"X-Request-Id": "r1"})
        assert client.post("/models/m/flush").json() == {"flushed": True}

        assert logged(tmp_path).to_dict("records") == [
            {
                "a": a,
                "id": identity,
                "prediction": 7 * a,
                "model_version": "7",
                "served_at": pd.Timestamp(NOON),
                "request_id": "r1",
            }
            for a, identity in ((2.0, 7), (3.0, 8))
        ]


def test_stopping_writes_the_log(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        ask(client)

    assert len(logged(tmp_path)) == 2


def test_a_model_that_raises_is_an_error_of_its_version(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        answer = ask(client, {"dataframe_records": [{"raise": 1}]}, **{"X-Request-Id": "r1"})

        assert answer.status_code == 500
        assert answer.headers["x-model-version"] == "7"
        assert answer.json() == {
            "error": "m version 7 failed with ValueError",
            "remedy": "The server's log has the traceback under request id r1.",
        }
        stats = client.get("/models/m/stats").json()["versions"]["7"]
        assert (stats["requests"], stats["errors"], stats["client_errors"]) == (1, 1, 0)

    assert not (tmp_path / "log").exists()


def test_predictions_that_are_no_json_are_an_error_of_the_version(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})

        assert ask(client, {"dataframe_records": [{"unserialisable": 1}]}).status_code == 500
        assert client.get("/models/m/stats").json()["versions"]["7"]["errors"] == 1


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"dataframe_records": [{"refuse": 1}]}', "application/json", 400),
        (b'{"rows": []}', "application/json", 400),
        (b"{", "application/json", 400),
        (b"<a/>", "application/xml", 415),
    ],
)
def test_a_request_that_mlflow_refuses_is_the_callers_error(
    serve: Serve, content: bytes, content_type: str, status: int
) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        headers = {"Content-Type": content_type}
        answer = client.post("/models/m/invocations", content=content, headers=headers)

        assert answer.status_code == status
        stats = client.get("/models/m/stats").json()["versions"]["7"]
        assert (stats["errors"], stats["client_errors"]) == (0, 1)


def test_no_content_type_means_json(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        answer = client.post("/models/m/invocations", content=b'{"dataframe_records": [{"a": 1.0}]}')

        assert answer.json() == {"predictions": [7.0]}


def test_csv_is_answered_and_logged_too(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        client.post("/models/m/invocations", content=b"a,b\n1,x\n", headers={"Content-Type": "text/csv"})

    assert logged(tmp_path)[["a", "b", "prediction"]].to_dict("list") == {
        "a": [1],
        "b": ["x"],
        "prediction": [7],
    }


def test_traffic_follows_the_weights(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 90, "8": 10}})
        served = [ask(client).headers["x-model-version"] for _ in range(100)]

        assert (served.count("7"), served.count("8")) == (90, 10)
        stats = client.get("/models/m/stats", params={"since": NOON.isoformat()}).json()["versions"]
        assert {version: each["requests"] for version, each in stats.items()} == {"7": 90, "8": 10}
        assert client.get("/models/m/stats", params={"since": "2027-01-01T00:00:00+00:00"}).json()[
            "versions"
        ] == {
            version: {
                "requests": 0,
                "errors": 0,
                "client_errors": 0,
                "latency_p50_ms": None,
                "latency_p95_ms": None,
                "latency_p99_ms": None,
                "compared": 0,
                "disagreement": None,
                "difference_p95": None,
            }
            for version in ("7", "8")
        }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LoadFailed("models:/m/8 cannot be loaded", remedy="Check it."), 422),
        (TransientError("models:/m/8 cannot be fetched now", remedy="Check it."), 502),
    ],
)
def test_a_version_that_cannot_be_loaded_leaves_the_weights(
    serve: Serve, loader: Loader, error: Exception, status: int
) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        loader.broken["8"] = error
        answer = client.put("/models/m/traffic", json={"weights": {"7": 90, "8": 10}})

        assert answer.status_code == status
        assert answer.json()["error"].startswith("models:/m/8 cannot be")
        assert answer.json()["remedy"] == "Check it."
        assert client.get("/models/m").json()["weights"] == {"7": 100}
        assert ask(client).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b'{"7": 99}', b'{"7": 50, "x": 50}'])
def test_what_is_no_weights_is_refused(serve: Serve, body: bytes) -> None:
    with serve() as client:
        answer = client.put("/models/m/traffic", content=body)

        assert answer.status_code == 400
        assert set(answer.json()) == {"error", "remedy"}


def test_a_slow_model_stops_neither_the_health_check_nor_a_change(serve: Serve, loader: Loader) -> None:
    with serve() as client, ThreadPoolExecutor(1) as pool:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        slow = pool.submit(ask, client, {"dataframe_records": [{"wait": 1, "a": 2.0}]})
        assert loader.asked.wait(10)
        assert client.get("/health").status_code == 200
        assert client.put("/models/m/traffic", json={"weights": {"8": 100}}).json()["loaded"] == ["7", "8"]
        assert ask(client).headers["x-model-version"] == "8"
        loader.answer.set()
        assert slow.result().json() == {"predictions": [14.0]}
        assert client.get("/models/m").json()["loaded"] == ["8"]


def test_a_model_name_that_would_leave_the_log_folder_is_refused(serve: Serve) -> None:
    with serve() as client:
        assert client.put("/models/%2e%2e/traffic", json={"weights": {"7": 100}}).status_code in (400, 404)
        assert client.put("/models/.hidden/traffic", json={"weights": {"7": 100}}).status_code == 400


def test_an_unknown_model_names_the_known_ones(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        for answer in (
            client.get("/models/n"),
            client.get("/models/n/stats"),
            client.post("/models/n/invocations"),
        ):
            assert answer.status_code == 404
            assert "allowed: m" in answer.json()["error"]
        assert client.get("/elsewhere").json()["error"] == "Not Found"


def test_changes_ask_for_the_token_and_nothing_else_does(serve: Serve) -> None:
    with serve(token="s3cret") as client:
        bearer = {"Authorization": "Bearer s3cret"}
        refused = client.put("/models/m/traffic", json={"weights": {"7": 100}})
        assert refused.status_code == 401
        assert "s3cret" not in refused.text
        assert (
            client.put("/models/m/traffic", json={"weights": {"7": 100}}, headers=bearer).status_code == 200
        )
        assert client.post("/models/m/flush").status_code == 401
        assert client.post("/models/m/flush", headers=bearer).status_code == 200
        assert ask(client).status_code == 200


def test_a_restarted_server_is_ready_once_it_serves_what_it_served(serve: Serve, loader: Loader) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 90, "8": 10}})
    loader.gate = threading.Event()
    with serve() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 503
        assert client.get("/ready").json() == {"ready": False, "restoring": {"m": "loading"}}
        assert ask(client).status_code == 503
        loader.gate.set()
        while client.get("/ready").status_code != 200:
            pass
        assert client.get("/models/m").json()["weights"] == {"7": 90, "8": 10}


def test_an_order_that_comes_too_late_is_a_conflict(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}, "generation": 5})
        answer = client.put("/models/m/traffic", json={"weights": {"8": 100}, "generation": 4})

        assert answer.status_code == 409
        assert "later than 5" in answer.json()["error"]
        assert client.get("/models/m").json()["weights"] == {"7": 100}


def test_what_is_pinned_is_served_once_loaded_and_nothing_else_ever(
    serve: Serve, loader: Loader, tmp_path: Path
) -> None:
    loader.gate = threading.Event()
    with serve(pinned=("m", ("7", "6"))) as client:
        assert client.get("/ready").status_code == 503
        loader.gate.set()
        while client.get("/ready").status_code != 200:
            pass
        assert ask(client).headers["x-model-version"] == "7"
        refused = client.put("/models/m/traffic", json={"weights": {"8": 100}})
        assert refused.status_code == 400
        assert "what it was started with" in refused.json()["error"]
        found = client.get("/models/m").json()
        assert (found["weights"], found["loaded"]) == ({"6": 0, "7": 100}, ["6", "7"])

    assert not (tmp_path / "state").exists()


def test_what_is_pinned_and_no_version_is_said(serve: Serve) -> None:
    with pytest.raises(InvalidInput, match="this is no traffic"), serve(pinned=("m", ("champion",))):
        pass


def test_what_is_pinned_and_can_never_be_served_is_told(tmp_path: Path) -> None:
    def load(model: str, version: str) -> Any:
        raise LoadFailed(f"models:/{model}/{version} cannot be loaded")

    told: list[str] = []
    settings = Settings(
        tracking_uri="http://registry", log_dir=tmp_path, state_dir=tmp_path, pinned=("m", ("7",))
    )
    app = create_app(settings, load=load, failed=lambda error: told.append(str(error)))
    with TestClient(app) as client:
        while not told:
            assert client.get("/ready").status_code == 503
    assert told == ["models:/m/7 cannot be loaded"]


def test_a_server_that_was_told_to_stop_answers_and_is_not_ready(serve: Serve) -> None:
    told: list[int] = []
    with serve(ending=lambda: bool(told)) as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        assert client.get("/ready").status_code == 200
        told.append(1)

        assert client.get("/ready").json() == {"ready": False, "restoring": {}}
        assert ask(client).status_code == 200


SHADOW = {"weights": {"7": 100}, "mirrored": {"8": 50}}


def stats_of(client: TestClient, version: str, *, requests: int) -> Any:
    """The version's statistics once it has had so many copies."""
    while True:
        stats = client.get("/models/m/stats").json()["versions"][version]
        if stats["requests"] >= requests:
            return stats


def test_a_mirrored_version_is_asked_in_private(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json=SHADOW)
        answers = [ask(client, **{"X-Request-Id": f"r{i}"}) for i in range(10)]
        mirrored = stats_of(client, "8", requests=5)

        assert {each.headers["x-model-version"] for each in answers} == {"7"}
        assert {tuple(each.json()["predictions"]) for each in answers} == {(14.0, 21.0)}
        assert (mirrored["requests"], mirrored["errors"]) == (5, 0)
        assert mirrored["latency_p50_ms"] > 0
        assert (mirrored["compared"], mirrored["disagreement"]) == (10, 1.0)
        assert mirrored["difference_p95"] == pytest.approx(3.0, rel=0.01)
        text = client.get("/metrics").text

    for line in (
        'mlretrain_requests_total{code="200",model="m",version="7"} 10.0',
        'mlretrain_mirrored_requests_total{code="200",model="m",version="8"} 5.0',
        'mlretrain_mirrored_rows_total{answer="different",model="m",version="8"} 10.0',
        'mlretrain_mirrored{model="m",version="8"} 50.0',
    ):
        assert line in text
    assert 'mlretrain_requests_total{code="200",model="m",version="8"}' not in text
    served, copied = logged(tmp_path), logged(tmp_path, "m/.mirrored")
    assert set(served["model_version"]) == {"7"}
    assert set(copied["model_version"]) == {"8"}
    assert len(served) == 20
    assert set(copied["request_id"]) == {"r1", "r3", "r5", "r7", "r9"}
    assert set(copied["prediction"]) == {16.0, 24.0}


def test_readers_of_the_log_see_what_was_served_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={**SHADOW, "mirrored": {"8": 100}})
        ask(client)
        stats_of(client, "8", requests=1)

    log = tmp_path / "log"
    assert len(list(log.rglob("*.parquet"))) == 2
    for uri in (f"file://{log}", f"file://{log}/m", f"file://{log}/**/*.parquet"):
        assert [".mirrored" in each for each in find(uri)] == [False]
    assert len(find(f"file://{log}/m/.mirrored")) == 1


@pytest.mark.parametrize("column", ["picky", "break"])
def test_a_mirrored_version_that_cannot_answer_what_was_answered_is_at_fault(
    serve: Serve, column: str
) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={**SHADOW, "mirrored": {"8": 100}})
        answer = ask(client, {"dataframe_records": [{"a": 1.0, column: 1}]})
        mirrored = stats_of(client, "8", requests=1)

        assert answer.json() == {"predictions": [7.0]}
        assert (mirrored["errors"], mirrored["compared"], mirrored["disagreement"]) == (1, 0, None)


def test_a_mistake_of_the_caller_is_not_copied(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={**SHADOW, "mirrored": {"8": 100}})
        ask(client, {"dataframe_records": [{"refuse": 1}]})
        ask(client)

        assert stats_of(client, "8", requests=1)["requests"] == 1


def test_a_mirrored_version_that_hangs_holds_up_nobody(
    serve: Serve, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlretrain.serving.mirror.CAPACITY_BYTES", 10_000)
    with serve() as client:
        client.put("/models/m/traffic", json={**SHADOW, "mirrored": {"8": 100}})
        rows = {"dataframe_records": [{"a": 1.0, "hold": 1}]}
        answers = [ask(client, rows) for _ in range(30)]

        assert {each.status_code for each in answers} == {200}
        assert 'mlretrain_mirrored_dropped_total{model="m",version="8"} ' in client.get("/metrics").text
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        assert client.get("/models/m").json()["loaded"] == ["7", "8"]
        loader.answer.set()
        while client.get("/models/m").json()["loaded"] != ["7"]:
            pass
        assert stats_of(client, "7", requests=30)["errors"] == 0


def test_copies_wait_for_a_moment_in_which_no_caller_does(
    serve: Serve, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlretrain.serving.mirror.PATIENCE_S", 60.0)
    with serve() as client, ThreadPoolExecutor(1) as pool:
        client.put("/models/m/traffic", json={**SHADOW, "mirrored": {"8": 100}})
        slow = pool.submit(ask, client, {"dataframe_records": [{"wait": 1, "a": 2.0}]})
        assert loader.asked.wait(10)
        for _ in range(10):
            ask(client)
        assert client.get("/models/m/stats").json()["versions"]["8"]["requests"] == 0
        loader.answer.set()
        slow.result()

        assert stats_of(client, "8", requests=11)["errors"] == 0


def test_prometheus_sees_requests_errors_latency_and_weights(serve: Serve) -> None:
    with serve() as client:
        client.put("/models/m/traffic", json={"weights": {"7": 90, "8": 10}})
        client.put("/models/m/traffic", json={"weights": {"8": 100}})
        ask(client)
        ask(client, {"dataframe_records": [{"raise": 1}]})
        client.post("/models/m/flush")
        text = client.get("/metrics").text

    for line in (
        'mlretrain_requests_total{code="200",model="m",version="8"} 1.0',
        'mlretrain_requests_total{code="500",model="m",version="8"} 1.0',
        'mlretrain_request_seconds_count{model="m",version="8"} 2.0',
        'mlretrain_weight{model="m",version="8"} 100.0',
        'mlretrain_predictions_logged_total{model="m"} 2.0',
    ):
        assert line in text
    assert 'mlretrain_weight{model="m",version="7"}' not in text


def test_a_signature_gives_the_columns_their_types(tmp_path: Path) -> None:
    def load(model: str, version: str) -> Any:
        factor = Factor(version, Loader())
        factor.metadata = Metadata(Schema([ColSpec(DataType.double, "a")]))
        observed: Any = ObservedModel(factor)
        return scoring_server.init(observed)

    settings = Settings(
        tracking_uri="http://registry", log_dir=tmp_path / "log", state_dir=tmp_path / "state"
    )
    with TestClient(create_app(settings, load=load, clock=NOON.timestamp)) as client:
        client.put("/models/m/traffic", json={"weights": {"7": 100}})
        ask(client, {"dataframe_records": [{"a": 2, "id": 7}]})

    assert logged(tmp_path)["a"].dtype == "float64"
