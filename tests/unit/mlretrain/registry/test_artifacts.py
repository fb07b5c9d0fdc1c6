"""Files of a run: through the server, in its store, or not at all, and then the log says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlretrain.errors import ContractError, TransientError
from mlretrain.registry.artifacts import put_file
from mlretrain.registry.mlflow import MlflowTracker
from mlretrain.registry.rest import MlflowRest
from tests.fakes.http_server import FakeHttpServer, fake_http_server

PAGE = "<p>1 % → 2 %</p>".encode()


@pytest.fixture
def server() -> Iterator[FakeHttpServer]:
    with fake_http_server() as running:
        yield running


@pytest.fixture
def rest(server: FakeHttpServer) -> MlflowRest:
    return MlflowRest(uri=f"{server.uri}/ml", sleep=lambda seconds: None)


def test_a_server_that_keeps_artifacts_is_given_the_file(rest: MlflowRest, server: FakeHttpServer) -> None:
    server.answers = [(503, ""), (200, "{}")]

    put_file(rest, "mlflow-artifacts:/1/abc/artifacts/", "drift/a page.html", PAGE, None)

    asked = server.asked[-1]
    assert (asked.method, asked.body) == ("PUT", PAGE)
    assert asked.path == "/ml/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/drift/a%20page.html"


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_a_store_that_we_can_reach_is_written_to(
    rest: MlflowRest, server: FakeHttpServer, tmp_path: Path, scheme: str
) -> None:
    server.answers = [(200, json.dumps({"run": {"info": {"artifact_uri": f"{scheme}{tmp_path}/abc"}}}))]

    MlflowTracker(rest=rest).log_file("abc", "drift/page.html", PAGE)

    assert (tmp_path / "abc/drift/page.html").read_bytes() == PAGE


@pytest.mark.parametrize(
    "uri", ["dbfs:/databricks/abc", "gs://bucket/abc", "mlflow-artifacts://elsewhere:5000/abc"]
)
def test_where_only_mlflows_client_can_write_the_log_says_so(
    rest: MlflowRest, server: FakeHttpServer, caplog: pytest.LogCaptureFixture, uri: str
) -> None:
    put_file(rest, uri, "drift/page.html", PAGE, None)

    assert f"drift/page.html is not shown in MLflow: {uri}" in caplog.text
    assert server.asked == []


def test_a_refusal_is_logged(
    rest: MlflowRest, server: FakeHttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [(403, "no")]

    put_file(rest, "mlflow-artifacts:/abc", "page.html", PAGE, None)

    assert "refuses our credentials" in caplog.text


def test_a_server_that_is_away_is_asked_again_by_the_task(rest: MlflowRest, server: FakeHttpServer) -> None:
    server.answers = [(503, "")]

    with pytest.raises(TransientError):
        put_file(rest, "mlflow-artifacts:/abc", "page.html", PAGE, None)


def test_a_file_stays_with_its_run(rest: MlflowRest) -> None:
    with pytest.raises(ContractError):
        put_file(rest, "mlflow-artifacts:/abc", "../other/page.html", PAGE, None)
