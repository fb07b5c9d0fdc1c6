import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mlretrain.errors import (
    ConfigError,
    ContractError,
    InvalidInput,
    MlretrainError,
    Superseded,
    TransientError,
)
from mlretrain.ports import Traffic, VersionStats
from mlretrain.serving.target import PAUSES_S, LocalTarget


class Answers(ThreadingHTTPServer):
    """Gives every request the same answer and keeps what was asked."""

    status = 200
    answer: Any = None
    drops = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str | None, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        if self.server.drops:
            self.server.drops -= 1
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers["Authorization"], body))
        answer = self.server.answer
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers() as answers:
        thread = threading.Thread(target=answers.serve_forever, args=(0.01,))
        thread.start()
        yield answers
        answers.shutdown()
        thread.join()


def test_apply_puts_the_traffic_with_the_token(server: Answers) -> None:
    server.answer = {}
    order = Traffic(weights={"7": 100}, mirrored={"8": 10}, generation=3)
    LocalTarget(f"{server.url}/", token="s3cret").apply("flight delay", order)

    body = b'{"generation":3,"mirrored":{"8":10},"weights":{"7":100}}'
    assert server.asked == [("PUT", "/models/flight%20delay/traffic", "Bearer s3cret", body)]


def test_what_is_no_traffic_is_not_even_sent(server: Answers) -> None:
    with pytest.raises(InvalidInput, match="this is no traffic"):
        LocalTarget(server.url).apply("m", Traffic(weights={"7": 99}))

    assert server.asked == []


def test_what_is_in_force_is_what_the_server_says(server: Answers) -> None:
    server.answer = {"weights": {"7": 100, "8": 0}, "mirrored": {"8": 5}, "generation": 4, "loaded": ["7"]}

    assert LocalTarget(server.url).current("m") == Traffic(
        weights={"7": 100, "8": 0}, mirrored={"8": 5}, generation=4
    )


def test_flush_asks_for_the_log(server: Answers) -> None:
    server.answer = {"flushed": True}
    LocalTarget(server.url, token="s3cret").flush("m")

    assert server.asked == [("POST", "/models/m/flush", "Bearer s3cret", b"{}")]


def test_metrics_ask_since_an_instant(server: Answers) -> None:
    server.answer = {
        "versions": {"7": {"requests": 5, "errors": 1, "latency_p95_ms": 2.5, "client_errors": 3}}
    }
    since = datetime(2026, 3, 2, tzinfo=UTC)

    assert LocalTarget(server.url).metrics("m", since) == {
        "7": VersionStats(requests=5, errors=1, latency_p95_ms=2.5)
    }
    assert server.asked[0][1] == "/models/m/stats?since=2026-03-02T00%3A00%3A00%2B00%3A00"


def test_a_model_that_the_server_does_not_know_serves_nothing(server: Answers) -> None:
    server.status, server.answer = 404, {"error": "no model 'm' is served here", "remedy": None}
    target = LocalTarget(server.url)

    assert target.current("m") == Traffic()
    assert target.metrics("m", datetime.now(UTC)) == {}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInput),
        (422, InvalidInput),
        (409, Superseded),
        (401, ConfigError),
        (502, TransientError),
        (503, TransientError),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(
    server: Answers, status: int, kind: type[MlretrainError]
) -> None:
    server.status, server.answer = status, {"error": "models:/m/8 cannot be loaded", "remedy": "Check it."}

    with pytest.raises(kind, match=rf"cannot be loaded \(found HTTP {status}\)\. Check it\.") as caught:
        LocalTarget(server.url).apply("m", Traffic(weights={"8": 100}))

    assert caught.value.where == f"PUT {server.url}/models/m/traffic"
    assert len(server.asked) == 1


def test_an_answer_from_something_else_is_shown(server: Answers) -> None:
    server.status, server.answer = 502, b"<html>bad gateway</html>"

    with pytest.raises(TransientError, match="answered 502: <html>"):
        LocalTarget(server.url).apply("m", Traffic(weights={"8": 100}))


def test_a_server_that_is_away_is_asked_again_and_then_given_up() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        pauses: list[float] = []

        with pytest.raises(TransientError, match="does not answer"):
            LocalTarget(url, sleep=pauses.append).current("m")

    assert pauses == list(PAUSES_S)


def test_a_server_that_comes_back_is_served(server: Answers) -> None:
    server.drops, server.answer = 2, {"weights": {"7": 100}}
    pauses: list[float] = []

    assert LocalTarget(server.url, sleep=pauses.append).current("m") == Traffic(weights={"7": 100})
    assert pauses == list(PAUSES_S[:2])


def test_something_else_at_the_address_is_said(server: Answers) -> None:
    server.answer = b"<html>Airflow</html>"

    with pytest.raises(ContractError, match="no model server"):
        LocalTarget(server.url).current("m")


@pytest.mark.parametrize("url", ["", "127.0.0.1:5002", "file:///etc/passwd", "http://"])
def test_only_http_addresses_are_taken(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address"):
        LocalTarget(url)
