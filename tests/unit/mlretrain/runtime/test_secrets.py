"""Secrets that the job fetches itself: in its environment, in no log."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from mlretrain.errors import ConfigError, TransientError
from mlretrain.runtime import __main__ as program
from mlretrain.runtime.failure import LONGEST, tell_platform
from mlretrain.runtime.runner import redact
from mlretrain.runtime.secrets import FETCHED, fetch_secrets
from tests.fixtures_s3 import moto_server, s3_env
from tests.free_port import free_port

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server("unused") as url:
        yield url


@pytest.fixture(autouse=True)
def aws(endpoint: str) -> Iterator[None]:
    """The process's environment leads to the server, and is left as it was."""
    with patch.dict(os.environ, s3_env(endpoint)):
        yield


def secret(endpoint: str, name: str, content: object) -> str:
    """The ARN of a new secret."""
    client = boto3.client("secretsmanager", endpoint_url=endpoint, region_name="us-east-1")
    text = content if isinstance(content, str) else json.dumps(content)
    return str(client.create_secret(Name=name, SecretString=text)["ARN"])


def test_without_an_arn_nothing_is_asked() -> None:
    assert fetch_secrets({}) == {}
    assert fetch_secrets({"MLRETRAIN_SECRETS_ARN": ""}) == {}


def test_the_secret_becomes_variables_and_is_known_to_be_secret(endpoint: str) -> None:
    arn = secret(
        endpoint, "ml", {"MLFLOW_TRACKING_PASSWORD": "hunter22", "WAREHOUSE": "pg://u:pw@db", "N": 5432}
    )
    found = fetch_secrets({"MLRETRAIN_SECRETS_ARN": arn})
    assert found == {
        "MLFLOW_TRACKING_PASSWORD": "hunter22",
        "WAREHOUSE": "pg://u:pw@db",
        "N": "5432",
        FETCHED: "MLFLOW_TRACKING_PASSWORD,N,WAREHOUSE",
    }
    assert redact("hunter22 at pg://u:pw@db", found) == "*** at ***"


def test_the_arn_is_no_secret() -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ml"
    assert redact(f"{arn} is read", {"MLRETRAIN_SECRETS_ARN": arn}) == f"{arn} is read"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("text", "t0p-secret", "found something else"),
        ("list", ["t0p-secret"], "found something else"),
        ("names", {"a-b": "t0p-secret", "OK": "x"}, "wrong names or values: a-b"),
        ("values", {"A": {"t0p-secret": 1}, "B": None, "C": True}, "wrong names or values: A, B, C"),
    ],
)
def test_another_shape_is_told_without_what_is_in_it(
    endpoint: str, name: str, content: object, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        fetch_secrets({"MLRETRAIN_SECRETS_ARN": secret(endpoint, name, content)})
    assert "t0p-secret" not in str(caught.value)


def test_a_secret_that_is_not_there_is_told() -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:gone"
    with pytest.raises(ConfigError, match=r"cannot be read \(found ResourceNotFoundException\). Create it"):
        fetch_secrets({"MLRETRAIN_SECRETS_ARN": arn})


def test_a_service_that_does_not_answer_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransientError, match="Secrets Manager does not answer"):
        fetch_secrets({"MLRETRAIN_SECRETS_ARN": "ml", "AWS_REGION": "us-east-1"})


def test_without_a_region_nobody_can_be_asked() -> None:
    with pytest.raises(ConfigError, match=r"specify a region.*Write its whole ARN"):
        fetch_secrets({"MLRETRAIN_SECRETS_ARN": "ml"})


def test_a_step_has_the_secrets_and_its_failure_is_told_without_them(
    endpoint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arn = secret(endpoint, "step", {"PLACE": "s3://hidden-bucket"})
    reason = tmp_path / "output" / "failure"
    env = {
        **s3_env(endpoint),
        "MLRETRAIN_SECRETS_ARN": arn,
        "MLRETRAIN_FAILURE_FILE": str(reason),
        "MLRETRAIN_REQUEST_URI": "s3://hidden-bucket/request.json",
    }
    with caplog.at_level(logging.INFO, "mlretrain"):
        assert program.main([], env) == 13
    assert os.environ["PLACE"] == "s3://hidden-bucket"
    assert "hidden-bucket" not in "".join(
        each.getMessage() for each in caplog.records if each.name == "mlretrain"
    )
    told = "ConfigError: ***/request.json: the bucket does not exist (found NoSuchBucket) (exit code 13)"
    assert reason.read_text() == told


def test_a_secret_that_cannot_be_had_ends_the_job(endpoint: str, tmp_path: Path) -> None:
    env = {"MLRETRAIN_SECRETS_ARN": "gone", "MLRETRAIN_FAILURE_FILE": str(tmp_path / "failure")}
    env |= s3_env(endpoint)
    assert program.main(["file:///never-read.json"], env) == 13
    assert (tmp_path / "failure").read_text().startswith("ConfigError: gone: the secret cannot be read")


def test_a_reason_is_short_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "failure"
    tell_platform("ü" * LONGEST + "\udcff", {"MLRETRAIN_FAILURE_FILE": str(path)})
    assert path.read_text(encoding="utf-8") == "ü" * (LONGEST // 2)
    tell_platform("reason", {"MLRETRAIN_FAILURE_FILE": str(tmp_path)})
    tell_platform("reason", {})
