"""The MLflow hook: connections in every form, and what a connection test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from mlretrain.errors import ConfigError
from mlretrain_provider.hooks.mlflow import MLflowHook
from tests.fakes.http_server import FakeHttpServer, fake_http_server

pytestmark = pytest.mark.airflow


@pytest.fixture
def server() -> Iterator[FakeHttpServer]:
    with fake_http_server() as running:
        yield running


def connect(monkeypatch: pytest.MonkeyPatch, **fields: object) -> MLflowHook:
    monkeypatch.setenv("AIRFLOW_CONN_ML", json.dumps({"conn_type": "mlflow", **fields}))
    return MLflowHook("ml")


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({"host": "http://mlflow:5000"}, "http://mlflow:5000"),
        ({"host": "https://ml.example.com/mlflow/"}, "https://ml.example.com/mlflow"),
        ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "mlflow", "port": 5000, "schema": "https"}, "https://mlflow:5000"),
        ({"host": "http://mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "http://mlflow:5001", "port": 5000}, "http://mlflow:5001"),
    ],
)
def test_the_host_is_the_tracking_uri(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], uri: str
) -> None:
    assert connect(monkeypatch, **fields).rest.uri == uri


def test_a_uri_connection_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ML", "mlflow://me:secret@mlflow:5000/https")

    env = MLflowHook("ml").env()

    assert env["MLFLOW_TRACKING_URI"] == "https://mlflow:5000"
    assert (env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"]) == ("me", "secret")


def test_jobs_get_the_token_rather_than_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, host="http://ml", login="me", password="p", extra={"token": "t"})

    assert hook.env() == {"MLFLOW_TRACKING_URI": "http://ml", "MLFLOW_TRACKING_TOKEN": "t"}


def test_the_extra_has_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, host="http://ml", extra={"experiment": "churn", "timeout_s": 5})

    assert (hook.experiment, hook.rest.timeout_s) == ("churn", 5.0)


def test_a_missing_connection_says_how_to_make_it() -> None:
    hook = MLflowHook("nowhere")

    with pytest.raises(ConfigError, match="airflow connections add nowhere --conn-type mlflow --conn-host"):
        hook.registry()


def test_a_trigger_opens_it_without_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, host="http://ml")

    assert asyncio.run(MLflowHook.opened("ml")).rest.uri == "http://ml"


def test_a_connection_without_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ok, message = connect(monkeypatch).test_connection()

    assert not ok
    assert "has no host" in message


@pytest.mark.parametrize(
    ("answers", "ok", "words"),
    [
        ([(200, "3.17.2"), (200, '{"experiments": []}')], True, "MLflow 3.17.2 at http://127.0.0.1"),
        ([(200, "3.17.2"), (401, "")], False, "refuses our credentials"),
        ([(403, "")], False, "refuses our credentials"),
        ([(200, "<html>welcome</html>")], False, "not an MLflow tracking server"),
        ([(404, "nothing here")], False, "not an MLflow tracking server"),
        ([(502, "bad gateway")], False, "the MLflow server failed"),
    ],
)
def test_a_connection_test_tells_faults_apart(
    monkeypatch: pytest.MonkeyPatch,
    server: FakeHttpServer,
    answers: list[tuple[int, str]],
    ok: bool,
    words: str,
) -> None:
    server.answers = answers

    status, message = connect(monkeypatch, host=server.uri).test_connection()

    assert (status, words in message) == (ok, True)


def test_a_connection_test_finds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_http_server() as gone:
        uri = gone.uri

    ok, message = connect(monkeypatch, host=uri).test_connection()

    assert not ok
    assert "does not answer" in message
