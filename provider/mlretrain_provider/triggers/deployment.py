"""Waiting for a shifted version's verdict without a worker slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlretrain.errors import MlretrainError, TransientError
from mlretrain_provider.health import Watch, look
from mlretrain_provider.hooks.model_server import ModelServerHook
from mlretrain_provider.triggers import SHORTEST_POLL_S


class DeploymentHealthTrigger(BaseTrigger):
    """Fires with ``{verdict, reason, stats}`` once a look at the version is final, or with ``{error}``.

    :param shift: what ``DeployModelOperator`` returned.
    :param serving_conn_id: the model server's connection.
    :param poll_interval: seconds between looks, 10 at least; the first comes after one interval.
    """

    def __init__(
        self,
        *,
        shift: dict[str, Any],
        guards: list[dict[str, Any]],
        bake_s: float,
        patience_s: float,
        min_requests: int,
        serving_conn_id: str,
        poll_interval: float = SHORTEST_POLL_S,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shift = shift
        self.guards = guards
        self.bake_s = bake_s
        self.patience_s = patience_s
        self.min_requests = min_requests
        self.serving_conn_id = serving_conn_id
        self.poll_interval = max(poll_interval, SHORTEST_POLL_S)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = (
            "shift",
            "guards",
            "bake_s",
            "patience_s",
            "min_requests",
            "serving_conn_id",
            "poll_interval",
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in names
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look now and then until the verdict is final."""
        try:
            watch = Watch.of_shift(
                self.shift,
                guards=self.guards,
                bake_s=self.bake_s,
                patience_s=self.patience_s,
                min_requests=self.min_requests,
            )
            target = (await ModelServerHook.opened(self.serving_conn_id)).target()
            while True:
                await asyncio.sleep(self.poll_interval)
                try:
                    health = await asyncio.to_thread(look, watch, target, datetime.now(UTC))
                except TransientError as error:
                    self.log.warning("Looking again in %s s: %s", self.poll_interval, error)
                    continue
                if health.done:
                    yield TriggerEvent(health.result())  # type: ignore[no-untyped-call]
                    return
        except MlretrainError as error:
            yield TriggerEvent({"error": error.to_wire()})  # type: ignore[no-untyped-call]
