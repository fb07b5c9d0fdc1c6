"""The serving target ``batch``: no server; the next scoring of the pipeline's data follows the order."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mlretrain.batch.orders import Orders, batch_folder
from mlretrain.batch.tally import read_tallies
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.ports import Traffic, VersionStats
from mlretrain.runtime.store import open_store
from mlretrain.serving.traffic import check_traffic
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.storage import storage_env

if TYPE_CHECKING:
    from mlretrain.ports import ArtifactStore, ModelRegistry
    from mlretrain_provider.targets import Surroundings

TALLIES = "tallies"
"""Where scoring jobs keep their tallies, below the model's folder."""


class BatchTarget:
    """A :class:`~mlretrain.ports.ServingTarget`: orders in the artifact store.

    An order is in force for every scoring that begins after it; nothing is loaded before. A row is a request,
    a weight the share of rows that a version scores, by a hash of the row.

    :param conn_id: none; the places are the pipeline's own.
    """

    def __init__(self, *, conn_id: str | None = None, around: Surroundings) -> None:
        if conn_id is not None:
            raise ConfigError(
                "the serving target batch has no connection",
                where=around.pipeline,
                found=conn_id,
                remedy="Remove conn_id: its orders are in the artifact store.",
            )
        self._around = around

    @cached_property
    def _store(self) -> ArtifactStore:
        return open_store(self._around.artifacts_uri, storage_env(self._around.storage_conn_id) or None)

    @cached_property
    def _registry(self) -> ModelRegistry:
        return MLflowHook(self._around.mlflow_conn_id).registry()

    def apply(self, model: str, traffic: Traffic) -> None:
        traffic = check_traffic(traffic)
        for version in {**traffic.weights, **traffic.mirrored}:
            if self._registry.version(model, version) is None:
                raise InvalidInput(
                    f"version {version} of {model} is not registered",
                    where=self._around.pipeline,
                    remedy="Order versions that the registry has.",
                )
        self._orders(model).place(model, traffic)

    def current(self, model: str) -> Traffic:
        return self._orders(model).last().in_force

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        return read_tallies(self._store, f"{self._folder(model)}/{TALLIES}", since)

    def _orders(self, model: str) -> Orders:
        return Orders(self._store, self._folder(model))

    def _folder(self, model: str) -> str:
        return batch_folder(self._around.pipeline, model)
