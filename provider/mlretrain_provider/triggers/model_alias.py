"""Waiting for a new champion without a worker slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlretrain.errors import MlretrainError, TransientError
from mlretrain.ports import ModelRegistry, ModelVersion
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.triggers import SHORTEST_POLL_S


def aliased(registry: ModelRegistry, model: str, alias: str, newer_than: int | None) -> ModelVersion | None:
    """The version that ``alias`` names, if it is newer than ``newer_than``."""
    found = registry.version(model, f"@{alias}")
    if found is None or (newer_than is not None and int(found.version) <= newer_than):
        return None
    return found


class ModelAliasTrigger(BaseTrigger):
    """Fires with ``{name, version, model_uri}`` once the alias names a new version, or with ``{error}``.

    :param model: the registered model's name.
    :param alias: its alias.
    :param newer_than: the version that is known already.
    :param mlflow_conn_id: the MLflow connection.
    :param poll_interval: seconds between looks, 10 at least; the first comes after one interval.
    """

    def __init__(
        self,
        *,
        model: str,
        alias: str,
        newer_than: int | None,
        mlflow_conn_id: str,
        poll_interval: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.alias = alias
        self.newer_than = newer_than
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = max(poll_interval, SHORTEST_POLL_S)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("model", "alias", "newer_than", "mlflow_conn_id", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in names
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look now and then until there is a new version."""
        try:
            registry = (await MLflowHook.opened(self.mlflow_conn_id)).registry()
            while True:
                await asyncio.sleep(self.poll_interval)
                try:
                    found = await asyncio.to_thread(
                        aliased, registry, self.model, self.alias, self.newer_than
                    )
                except TransientError as error:
                    self.log.warning("Looking again in %s s: %s", self.poll_interval, error)
                    continue
                if found is not None:
                    yield TriggerEvent(version_facts(found))  # type: ignore[no-untyped-call]
                    return
        except MlretrainError as error:
            yield TriggerEvent({"error": error.to_wire()})  # type: ignore[no-untyped-call]


def version_facts(found: ModelVersion) -> dict[str, str]:
    """``{name, version, model_uri}``, as ``RegisterModelOperator`` returns them."""
    return {"name": found.name, "version": found.version, "model_uri": found.model_uri}
