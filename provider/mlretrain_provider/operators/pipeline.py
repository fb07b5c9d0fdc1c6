"""What every operator shares: the pipeline it works for, and the places where its state lives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from mlretrain import wire
from mlretrain.errors import NotFound
from mlretrain.ledger import FAILED, EventKind, Ledger, LedgerEvent
from mlretrain.ports import ArtifactStore, ModelRegistry, RunTracker, ServingTarget
from mlretrain.rollout import Rollout
from mlretrain.runtime.contract import run_slug
from mlretrain.runtime.store import join_uri, open_store, read_uri
from mlretrain.windows import WindowLog
from mlretrain_provider.failures import RETRY_POLICY, plain_errors
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.lineage import Traced
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.targets import Surroundings, open_target

if TYPE_CHECKING:
    from airflow.sdk import Context

Upstream = Any
"""What another task returned, given as its ``.output`` or as the value itself."""

MEASURE, DECIDE, ACT = "#dbeafe", "#fef3c7", "#dcfce7"
"""Colours of the three kinds of steps in the graph."""


class PipelineOperator(Traced, BaseOperator):
    """Work of one pipeline in one run. Subclasses say what in :meth:`perform`.

    :param pipeline: name of the pipeline; also that of the registered model and of the MLflow experiment.
    :param artifacts_uri: root of the artifact store, ``file://…`` or ``s3://…``.
    :param mlflow_conn_id: the MLflow connection.
    :param storage_conn_id: the AWS connection for ``s3://`` places; none: the worker's own environment.
    """

    template_fields: Sequence[str] = (
        "pipeline",
        "artifacts_uri",
        "mlflow_conn_id",
        "storage_conn_id",
    )
    ui_fgcolor = "#111827"

    def __init__(
        self,
        *,
        pipeline: str,
        artifacts_uri: str,
        mlflow_conn_id: str = "mlflow_default",
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"retry_policy": RETRY_POLICY, **kwargs})
        self.pipeline = pipeline
        self.artifacts_uri = artifacts_uri
        self.mlflow_conn_id = mlflow_conn_id
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> Any:
        with plain_errors():
            self.returned = self.perform(RunIdentity.of(context), context)
        return self.returned

    def perform(self, run: RunIdentity, context: Context) -> Any:
        """Do the work; the result becomes the task's XCom."""
        raise NotImplementedError

    @cached_property
    def storage_env(self) -> dict[str, str]:
        """The environment variables that give access to the artifact store and the data."""
        return storage_env(self.storage_conn_id)

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store."""
        return open_store(self.artifacts_uri, self.storage_env or None)

    @cached_property
    def ledger(self) -> Ledger:
        """The pipeline's ledger, which the registry's versions repeat in their tags."""
        return Ledger(self.store, self.pipeline, lambda: self.registry)

    @cached_property
    def windows(self) -> WindowLog:
        """The windows that were measured."""
        return WindowLog(self.store, self.pipeline)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        return MLflowHook(self.mlflow_conn_id).registry()

    @cached_property
    def tracker(self) -> RunTracker:
        """The experiment tracker."""
        return MLflowHook(self.mlflow_conn_id).tracker(self.storage_env or None)

    def serving_target(self, serving: Mapping[str, Any]) -> ServingTarget:
        """The serving target that ``serving`` describes."""
        around = Surroundings(
            pipeline=self.pipeline,
            artifacts_uri=self.artifacts_uri,
            mlflow_conn_id=self.mlflow_conn_id,
            storage_conn_id=self.storage_conn_id,
        )
        return open_target(serving, around)

    def rollout(self, run: RunIdentity, serving: Mapping[str, Any] | None) -> Rollout:
        """The run's hand on champion and traffic.

        :param serving: where models are served; none: nowhere.
        """
        return Rollout(
            pipeline=self.pipeline,
            run_id=run.run_id,
            window_end=run.window_end,
            ledger=self.ledger,
            registry=self.registry,
            target=self.serving_target(serving) if serving else None,
            begun=run.begun,
        )

    def folder(self, run: RunIdentity, name: str) -> str:
        """The path, below the store's root, of what ``name`` keeps about this run."""
        return f"{self.pipeline}/runs/{run_slug(run.run_id)}/{name}"

    def artifact_uri(self, path: str) -> str:
        """The URI of a path of the store."""
        return join_uri(self.store.root_uri, path)

    def read_json(self, uri: str) -> Any:
        """The JSON kept at ``uri``."""
        return json.loads(read_uri(uri, self.storage_env or None))

    def settled(self, run: RunIdentity) -> LedgerEvent | None:
        """The event that ended the run for good, if one has: from then on none of its tasks changes anything.

        A run that failed is not settled: its cleared tasks go on where it stopped.
        """
        acts = [
            event for event in self.ledger.of_run(run.run_id) if event.kind in ("promoted", "rolled_back")
        ]
        concluded = self.ledger.concluded(run.run_id)
        end = acts[-1] if acts else concluded
        if end is None or end.outcome == FAILED:
            return None
        self.log.info("The run has ended: %s (%s). Nothing is changed.", end.outcome, end.reason)
        return end

    def recorded(self, run: RunIdentity, kind: str) -> LedgerEvent | None:
        """The run's last event of this kind."""
        found = [event for event in self.ledger.of_run(run.run_id) if event.kind == kind]
        return found[-1] if found else None

    def append(self, run: RunIdentity, kind: EventKind, **fields: Any) -> LedgerEvent:
        """Write what this run has done to the ledger, unless it is there; the event as it stands there."""
        event = LedgerEvent(
            pipeline=self.pipeline,
            run_id=run.run_id,
            kind=kind,
            at=datetime.now(UTC),
            window_end=run.window_end,
            **fields,
        )
        return self.ledger.append(event).link.event

    def once(self, path: str, decide: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What was decided at ``path`` the first time, deciding now if nobody has.

        A task that is cleared, or repeated after a crash, therefore acts on the facts it first saw.
        """
        known = self.recall(path)
        if known is not None:
            return known
        decided = wire.to_wire(decide())
        if self.store.create(path, wire.pretty(decided)):
            return dict(decided)
        return dict(json.loads(self.store.read(path)))

    def recall(self, path: str) -> dict[str, Any] | None:
        """The JSON object at ``path``, or ``None``."""
        try:
            return dict(json.loads(self.store.read(path)))
        except NotFound:
            return None
