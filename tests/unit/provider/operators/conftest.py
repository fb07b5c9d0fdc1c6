"""The world around an operator: a store in a folder, and registry, runs, traffic and jobs in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.ledger import Ledger
from mlretrain.ports import ArtifactStore
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import open_store
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.model_server import ModelServerHook
from mlretrain_provider.operators import step
from tests.fakes.airflow_harness import DagRunHarness
from tests.fakes.backend import FakeBackend
from tests.fakes.registry import FakeRegistry
from tests.fakes.target import FakeTarget
from tests.fakes.tracker import FakeTracker

PIPELINE = "churn"
EARLIER = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass
class World:
    """What operators act on, and what is common to their arguments."""

    root: Path
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    tracker: FakeTracker = field(default_factory=FakeTracker)
    target: FakeTarget = field(default_factory=FakeTarget)
    backend: FakeBackend = field(default_factory=FakeBackend)

    @property
    def artifacts_uri(self) -> str:
        return f"file://{self.root}/artifacts"

    @property
    def store(self) -> ArtifactStore:
        return open_store(self.artifacts_uri)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, PIPELINE)

    @property
    def common(self) -> dict[str, Any]:
        return {"pipeline": PIPELINE, "artifacts_uri": self.artifacts_uri}

    def dag(self, dag_id: str = "churn.retrain") -> DAG:
        return DAG(dag_id, default_args=self.common)

    def put(self, name: str, content: Mapping[str, Any]) -> str:
        """Keep JSON in the store; its URI."""
        self.store.write(name, json.dumps(content).encode())
        return f"{self.artifacts_uri}/{name}"

    def promote(self, run_id: str = "mlflow-run-0", **tags: str) -> str:
        """Make a new version champion, as an earlier run would have; its number."""
        found = self.registry.register(PIPELINE, f"models:/{run_id}", run_id, tags)
        Rollout(
            pipeline=PIPELINE,
            run_id=f"earlier-{run_id}",
            window_end=EARLIER,
            ledger=self.ledger,
            registry=self.registry,
            target=self.target,
            now=lambda: EARLIER,
        ).promote(found.version, champion=self.alias("champion"), reason="it is better")
        return found.version

    def alias(self, name: str) -> str | None:
        found = self.registry.version(PIPELINE, f"@{name}")
        return found.version if found else None

    def kinds(self, run_id: str = "run-1") -> list[str]:
        return [event.kind for event in self.ledger.of_run(run_id)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(MLflowHook, "registry", lambda self: made.registry)
    monkeypatch.setattr(MLflowHook, "tracker", lambda self, env=None: made.tracker)
    monkeypatch.setattr(MLflowHook, "env", lambda self: {"MLFLOW_TRACKING_URI": "http://mlflow"})
    monkeypatch.setattr(ModelServerHook, "target", lambda self: made.target)
    monkeypatch.setattr(step, "open_backend", lambda name, options: made.backend)
    monkeypatch.setattr(f"{step.__name__}.time.sleep", lambda seconds: None)
    return made


def run_of(dag: DAG, **run: Any) -> DagRunHarness:
    return DagRunHarness(dag, **run)
