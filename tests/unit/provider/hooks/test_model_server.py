"""The model server hook: addresses, the token, and what a connection test says."""

from __future__ import annotations

import json

import pytest

from mlretrain.errors import ConfigError
from mlretrain_provider.hooks.model_server import ModelServerHook
from tests.fakes.http_server import fake_http_server

pytestmark = pytest.mark.airflow


def connect(monkeypatch: pytest.MonkeyPatch, **fields: object) -> ModelServerHook:
    monkeypatch.setenv("AIRFLOW_CONN_SERVER", json.dumps({"conn_type": "mlretrain_model_server", **fields}))
    return ModelServerHook("server")


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "localhost"}, "http://localhost:5002"),
        ({"host": "models", "port": 80}, "http://models:80"),
        ({"host": "models", "port": 443, "schema": "https"}, "https://models:443"),
        ({"host": "https://models.example.com"}, "https://models.example.com"),
        ({"host": "http://models", "port": 81}, "http://models:81"),
    ],
)
def test_the_address(monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], url: str) -> None:
    assert connect(monkeypatch, **fields).target().url == url


def test_a_missing_connection_says_how_to_make_it() -> None:
    with pytest.raises(ConfigError, match="airflow connections add none --conn-type mlretrain_model_server"):
        ModelServerHook("none").target()


def test_a_connection_without_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="mlretrain serve"):
        connect(monkeypatch).target()


def test_a_connection_test_asks_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_http_server() as server:
        server.answers = [(200, '{"weights": {}, "loaded": []}')]
        ok, message = connect(monkeypatch, host=server.uri, password="t").test_connection()

    assert ok
    assert message == f"a model server at {server.uri}"
    assert server.asked[0].authorization == "Bearer t"


def test_a_connection_test_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_http_server() as server:
        server.answers = [(401, '{"error": "no"}')]
        ok, _ = connect(monkeypatch, host=server.uri).test_connection()

    assert not ok


def test_another_server_is_told_from_a_model_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_http_server() as server:
        server.answers = [(404, '{"detail": "Not Found"}')]
        ok, message = connect(monkeypatch, host=server.uri).test_connection()

    assert not ok
    assert "what answers there is no model server" in message


def test_a_server_without_the_model_is_a_model_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_http_server() as server:
        server.answers = [(404, '{"error": "no model is served here"}')]
        ok, _ = connect(monkeypatch, host=server.uri).test_connection()

    assert ok
