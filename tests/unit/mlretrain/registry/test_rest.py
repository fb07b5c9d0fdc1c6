"""MLflow's REST API: what is repeated, what is not, and what errors say."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from mlretrain.errors import ConfigError, MlretrainError, NotFound, TransientError
from mlretrain.registry.rest import ATTEMPTS, MlflowRest
from tests.fakes.http_server import FakeHttpServer, fake_http_server

Answer = tuple[int, str]


@pytest.fixture
def server() -> Iterator[FakeHttpServer]:
    with fake_http_server() as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def rest(server: FakeHttpServer, pauses: list[float]) -> MlflowRest:
    return MlflowRest(uri=server.uri, sleep=pauses.append)


def test_a_call_is_repeated_until_the_server_answers(
    rest: MlflowRest, server: FakeHttpServer, pauses: list[float]
) -> None:
    server.answers = [(503, ""), (500, "oops"), (200, '{"ok": 1}')]

    assert rest.get("x") == {"ok": 1}
    assert pauses == [0.25, 0.75]


def test_patience_ends(rest: MlflowRest, server: FakeHttpServer) -> None:
    server.answers = [(503, "")]

    with pytest.raises(TransientError, match="the MLflow server failed"):
        rest.get("x")
    assert len(server.asked) == ATTEMPTS


def test_what_must_not_be_repeated_is_sent_once(
    rest: MlflowRest, server: FakeHttpServer, pauses: list[float]
) -> None:
    server.answers = [(503, "")]

    with pytest.raises(TransientError):
        rest.post("runs/create", {}, repeat=False)
    assert (len(server.asked), pauses) == (1, [])


def test_nobody_there_is_transient(pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(TransientError, match="does not answer"):
        MlflowRest(uri=f"http://127.0.0.1:{port}", sleep=pauses.append).get("x")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            (404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"})),
            NotFound,
            "no run",
        ),
        ((404, "<html>nothing</html>"), ConfigError, "not an MLflow tracking server"),
        ((200, "<html>log in</html>"), ConfigError, "not an MLflow tracking server"),
        ((200, "[]"), ConfigError, "not an MLflow tracking server"),
        ((401, "who are you"), ConfigError, "refuses our credentials"),
        ((403, "{}"), ConfigError, "refuses our credentials"),
        ((400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"})), ConfigError, "bad"),
    ],
)
def test_a_refusal_says_what_is_wrong(
    rest: MlflowRest, server: FakeHttpServer, answer: Answer, kind: type[MlretrainError], words: str
) -> None:
    server.answers = [answer]

    with pytest.raises(kind, match=words) as caught:
        rest.get("x")
    assert caught.value.where == server.uri
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("make", "header"),
    [
        (lambda uri: MlflowRest(uri=uri, user="me", password="secret"), "Basic bWU6c2VjcmV0"),
        (lambda uri: MlflowRest(uri=uri.replace("//", "//me:secret@")), "Basic bWU6c2VjcmV0"),
        (lambda uri: MlflowRest(uri=uri, user="me", token="secret"), "Bearer secret"),
        (lambda uri: MlflowRest(uri=uri), None),
    ],
)
def test_credentials_are_sent_and_never_shown(
    server: FakeHttpServer, make: Callable[[str], MlflowRest], header: str | None
) -> None:
    rest = make(server.uri)
    server.answers = [(401, "no")]

    with pytest.raises(ConfigError) as caught:
        rest.get("x")

    assert server.asked[0].authorization == header
    assert "secret" not in f"{caught.value} {rest!r} {rest.uri}"


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "./mlruns", "databricks", "http://"])
def test_only_a_server_will_do(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"must name a server.*mlflow server"):
        MlflowRest(uri=uri)


def test_the_version_needs_access_too(rest: MlflowRest, server: FakeHttpServer) -> None:
    server.answers = [(200, "3.17.2"), (401, "")]

    with pytest.raises(ConfigError, match="credentials"):
        rest.version()
