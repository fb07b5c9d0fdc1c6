"""Waiting until a version that got traffic has shown what it does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from mlretrain.errors import from_wire
from mlretrain_provider.failures import plain_failures
from mlretrain_provider.health import Health, Watch, look
from mlretrain_provider.hooks.model_server import ModelServerHook
from mlretrain_provider.triggers import SHORTEST_POLL_S
from mlretrain_provider.triggers.deployment import DeploymentHealthTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

LONG_BAKE_S = 60.0
PATIENCE_S = 3600.0


class DeploymentHealthSensor(BaseSensorOperator):
    """Wait out a version's bake time, or its first breach of a guard.

    Returns ``{verdict, reason, stats}`` and leaves the decision to ``CanaryGateOperator``: ``advance`` when
    it has baked with enough requests and no breach, ``roll_back`` as soon as it breaches, ``hold`` when too
    few requests came before patience ended. A run that has ended already is not waited for.

    :param shift: what ``DeployModelOperator`` returned.
    :param guards: each ``{metric: error_rate|latency_p50_ms|latency_p95_ms|latency_p99_ms, max}``.
    :param bake_s: how long the version has to hold up, in seconds since the shift.
    :param min_requests: fewer than these decide nothing.
    :param patience_s: how long after the shift to wait for them; default: the bake time and one hour, or the
        bake time alone for a first version, which takes no traffic from anybody.
    :param serving_conn_id: the model server's connection.
    :param deferrable: wait in the triggerer, looking every 10 s; bakes of a minute or less always stay in the
        worker. Default ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (
        "shift",
        "guards",
        "bake_s",
        "min_requests",
        "patience_s",
        "serving_conn_id",
    )
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        shift: Mapping[str, Any],
        guards: Sequence[Mapping[str, Any]] = (),
        bake_s: float | str = 600.0,
        min_requests: int | str = 100,
        patience_s: float | str | None = None,
        serving_conn_id: str = ModelServerHook.default_conn_name,
        deferrable: bool | None = None,
        poke_interval: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.shift = shift
        self.guards = guards
        self.bake_s = bake_s
        self.min_requests = min_requests
        self.patience_s = patience_s
        self.serving_conn_id = serving_conn_id
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )

    def execute(self, context: Context) -> Any:
        if not self.deferrable or float(self.bake_s) <= LONG_BAKE_S:
            return super().execute(context)
        with plain_failures():
            health = self._look()
        if health.done:
            return health.result()
        self.log.info("%s", health.reason)
        return self.defer(trigger=self._trigger(), method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger's result. Raises the error that it met."""
        with plain_failures():
            if "error" in event:
                raise from_wire(event["error"])
        self.log.info("%s: %s", event["verdict"], event["reason"])
        return event

    def poke(self, context: Context) -> PokeReturnValue:
        with plain_failures():
            health = self._look()
        self.log.info("%s: %s", health.verdict, health.reason)
        return PokeReturnValue(is_done=health.done, xcom_value=health.result() if health.done else None)

    def _look(self) -> Health:
        if self.shift.get("weights") == {}:
            return Health(verdict="advance", reason="the run has ended; no traffic was shifted", done=True)
        target = ModelServerHook(self.serving_conn_id).target()
        return look(
            Watch.of_shift(self.shift, guards=self.guards, **self._limits()), target, datetime.now(UTC)
        )

    def _limits(self) -> dict[str, Any]:
        bake_s = float(self.bake_s)
        default_s = bake_s + (PATIENCE_S if self.shift.get("champion") else 0)
        patience_s = default_s if self.patience_s is None else float(self.patience_s)
        return {"bake_s": bake_s, "patience_s": patience_s, "min_requests": int(self.min_requests)}

    def _trigger(self) -> DeploymentHealthTrigger:
        return DeploymentHealthTrigger(
            shift=dict(self.shift),
            guards=[dict(each) for each in self.guards],
            serving_conn_id=self.serving_conn_id,
            poll_interval=max(self.poke_interval, SHORTEST_POLL_S),
            **self._limits(),
        )
