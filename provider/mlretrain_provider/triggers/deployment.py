"""Waiting for a shifted version's verdict without a worker slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlretrain.errors import MlretrainError, TransientError
from mlretrain_provider.lookout import Lookout
from mlretrain_provider.triggers import SHORTEST_POLL_S


class DeploymentHealthTrigger(BaseTrigger):
    """Fires with ``{verdict, reason, stats, …}`` once a look at the version is final, or with ``{error}``.

    At a breach the traffic is back with the champion before it fires.

    :param lookout: the fields of :class:`~mlretrain_provider.lookout.Lookout`.
    :param poll_interval: seconds between looks, 10 at least; the first comes after one interval.
    """

    def __init__(self, *, lookout: dict[str, Any], poll_interval: float = SHORTEST_POLL_S) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lookout = lookout
        self.poll_interval = max(poll_interval, SHORTEST_POLL_S)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "lookout": self.lookout,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look now and then until the verdict is final."""
        lookout = Lookout(**self.lookout)
        try:
            while True:
                await asyncio.sleep(self.poll_interval)
                try:
                    health = await asyncio.to_thread(lookout.look, datetime.now(UTC))
                except TransientError as error:
                    self.log.warning("Looking again in %s s: %s", self.poll_interval, error)
                    continue
                if health.done:
                    yield TriggerEvent(health.result())  # type: ignore[no-untyped-call]
                    return
        except MlretrainError as error:
            yield TriggerEvent({"error": error.to_wire()})  # type: ignore[no-untyped-call]
