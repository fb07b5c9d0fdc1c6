"""What the compose file promises holds, and is seen when it does not."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docker"


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("rules")


def test_the_compose_file_keeps_its_promises(rules: ModuleType) -> None:
    assert rules.faults() == []


def test_compose_reads_the_file_with_secrets_and_refuses_it_without(
    rules: ModuleType, tmp_path: Path
) -> None:
    found = rules.schema_faults(tmp_path)
    if found is None:
        pytest.skip("docker compose is not installed")
    assert found == []


@pytest.mark.parametrize(
    ("kept", "broken", "fault"),
    [
        (
            "image: redis:7.2.8-bookworm",
            "image: redis:latest",
            "redis: the image redis:latest has no exact tag",
        ),
        ("user: redis", "user: root", "redis: runs as root"),
        ("127.0.0.1:${MLFLOW_PORT", "${MLFLOW_PORT", "mlflow: publishes ${MLFLOW_PORT:-5000}:5000"),
        ("${BIND_ADDRESS:-127.0.0.1}", "${BIND_ADDRESS:-0.0.0.0}", "beyond loopback without being asked"),
        (
            "${MODELS_TOKEN:?run make compose-env}",
            "${MODELS_TOKEN:-easy}",
            "MODELS_TOKEN: a secret that compose",
        ),
        ("s3: {condition: service_healthy}", "s3: {condition: service_started}", "does not wait for s3"),
    ],
)
def test_a_broken_promise_is_a_fault(rules: ModuleType, kept: str, broken: str, fault: str) -> None:
    text = rules.COMPOSE.read_text()
    assert kept in text
    assert any(fault in each for each in rules.faults(text.replace(kept, broken)))


def test_made_secrets_are_random_and_what_was_set_stays(rules: ModuleType) -> None:
    environment = importlib.import_module("environment")
    text = "# comment\nBIND_ADDRESS=127.0.0.1\nAIRFLOW_FERNET_KEY=\nREDIS_PASSWORD=\n"
    first, second = environment.filled(text), environment.filled(text)
    assert first != second
    assert "BIND_ADDRESS=127.0.0.1\n" in first
    assert "REDIS_PASSWORD=\n" not in first
    assert environment.filled(first) == first
