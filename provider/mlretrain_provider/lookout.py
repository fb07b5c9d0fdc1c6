"""Who watches a shifted version, in a worker or in the triggerer, and takes its traffic back at a breach."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.errors import Superseded
from mlretrain.gates.predictions import PredictionLog
from mlretrain.ledger import Ledger
from mlretrain.ports import ServingTarget
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import open_store
from mlretrain_provider.health import Health, Watch, look
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.targets import Surroundings, open_target

if TYPE_CHECKING:
    from mlretrain.ports import ModelRegistry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Lookout:
    """A watch over one shift, as plain values, so that it travels from a worker to the triggerer.

    Nothing is opened before the first look.

    :param pipeline: also the name of the model.
    :param serving: where it is served, ``{target, conn_id, …}``.
    :param predictions: the prediction log, ``{uri, time_column, format}``.
    :param run_id: the run that shifted.
    :param window_end: of that run, ISO 8601.
    :param shift: what ``DeployModelOperator`` returned.
    """

    pipeline: str
    artifacts_uri: str
    mlflow_conn_id: str
    storage_conn_id: str | None
    serving: Mapping[str, Any]
    predictions: Mapping[str, Any] | None
    run_id: str
    window_end: str
    shift: Mapping[str, Any]
    guards: Sequence[Mapping[str, Any]]
    bake_s: float
    patience_s: float
    min_requests: int

    def look(self, now: datetime) -> Health:
        """One look. At a breach the champion has all traffic again before this returns."""
        if not self.shift.get("weights", True) and not self.shift.get("mirrored"):
            return Health(verdict="advance", reason="the run has ended; no traffic was shifted", done=True)
        health = look(self._watch, self._target, now, self._log)
        if health.verdict == "roll_back":
            self._withdraw(health.reason)
        return health

    def _withdraw(self, reason: str) -> None:
        try:
            if self._rollout.withdraw(self._watch.version, reason):
                logger.warning("Version %s serves nothing any more: %s", self._watch.version, reason)
            else:
                logger.warning("There is no traffic to take back: %s", reason)
        except Superseded as later:
            logger.warning("The traffic is somebody else's by now: %s", later)

    @cached_property
    def _watch(self) -> Watch:
        return Watch.of_shift(
            self.shift,
            guards=self.guards,
            bake_s=self.bake_s,
            patience_s=self.patience_s,
            min_requests=self.min_requests,
        )

    @cached_property
    def _env(self) -> dict[str, str]:
        return storage_env(self.storage_conn_id)

    @cached_property
    def _target(self) -> ServingTarget:
        around = Surroundings(
            pipeline=self.pipeline,
            artifacts_uri=self.artifacts_uri,
            mlflow_conn_id=self.mlflow_conn_id,
            storage_conn_id=self.storage_conn_id,
        )
        return open_target(self.serving, around)

    @cached_property
    def _log(self) -> PredictionLog | None:
        return PredictionLog.of(self.predictions, self._env or None) if self.predictions else None

    @cached_property
    def _rollout(self) -> Rollout:
        registry: ModelRegistry = MLflowHook(self.mlflow_conn_id).registry()
        store = open_store(self.artifacts_uri, self._env or None)
        return Rollout(
            pipeline=self.pipeline,
            run_id=self.run_id,
            window_end=wire.parse_time(self.window_end, "window_end"),
            ledger=Ledger(store, self.pipeline, registry),
            registry=registry,
            target=self._target,
        )
