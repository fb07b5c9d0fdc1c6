"""Waiting until a version that got traffic has shown what it does with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from mlretrain import wire
from mlretrain.errors import from_wire
from mlretrain_provider.failures import plain_failures
from mlretrain_provider.health import Health
from mlretrain_provider.lookout import Lookout
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.triggers import SHORTEST_POLL_S
from mlretrain_provider.triggers.deployment import DeploymentHealthTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

LONG_BAKE_S = 60.0
PATIENCE_S = 3600.0


class DeploymentHealthSensor(BaseSensorOperator):
    """Wait out a version's bake time, or its first breach of a guard.

    Returns ``{verdict, reason, stats, champion, shift}`` and leaves the decision to ``CanaryGateOperator``:
    ``advance`` when it has baked with enough requests and no breach; ``roll_back`` as soon as it breaches,
    when the champion has all traffic again already; ``hold`` when too few requests came, or too many doubts
    were left, before patience ended. A run that has ended already is not waited for.

    :param shift: what ``DeployModelOperator`` returned.
    :param pipeline: name of the pipeline; also that of the registered model.
    :param artifacts_uri: root of the artifact store, ``file://…`` or ``s3://…``.
    :param serving: where the model is served, ``{target, conn_id, …}``.
    :param mlflow_conn_id: the MLflow connection.
    :param storage_conn_id: the AWS connection for ``s3://`` places; none: the worker's own environment.
    :param guards: each ``{metric, max}`` or ``{metric, versus: champion, max_increase|max_ratio}``, see
        :class:`~mlretrain.gates.guard.Guard`.
    :param predictions: the prediction log, ``{uri, time_column, format}``, for the guard
        ``prediction_shift``.
    :param bake_s: how long the version has to hold up, in seconds since the shift.
    :param min_requests: fewer than these decide nothing.
    :param patience_s: how long after the shift to wait for them; default: the bake time and one hour, or the
        bake time alone for a first version, which takes no traffic from anybody.
    :param deferrable: wait in the triggerer, looking every 10 s; bakes of a minute or less always stay in the
        worker. Default ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (
        "shift",
        "pipeline",
        "artifacts_uri",
        "serving",
        "mlflow_conn_id",
        "storage_conn_id",
        "guards",
        "predictions",
        "bake_s",
        "min_requests",
        "patience_s",
    )
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        shift: Mapping[str, Any],
        pipeline: str,
        artifacts_uri: str,
        serving: Mapping[str, Any],
        mlflow_conn_id: str = "mlflow_default",
        storage_conn_id: str | None = None,
        guards: Sequence[Mapping[str, Any]] = (),
        predictions: Mapping[str, Any] | None = None,
        bake_s: float | str = 600.0,
        min_requests: int | str = 100,
        patience_s: float | str | None = None,
        deferrable: bool | None = None,
        poke_interval: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.shift = shift
        self.pipeline = pipeline
        self.artifacts_uri = artifacts_uri
        self.serving = serving
        self.mlflow_conn_id = mlflow_conn_id
        self.storage_conn_id = storage_conn_id
        self.guards = guards
        self.predictions = predictions
        self.bake_s = bake_s
        self.min_requests = min_requests
        self.patience_s = patience_s
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )
        self._lookout: Lookout | None = None

    def execute(self, context: Context) -> Any:
        if not self.deferrable or float(self.bake_s) <= LONG_BAKE_S:
            return super().execute(context)
        health = self._look(context)
        if health.done:
            return health.result()
        trigger = DeploymentHealthTrigger(
            lookout=wire.to_wire(dataclasses.asdict(self._open(context))),
            poll_interval=max(self.poke_interval, SHORTEST_POLL_S),
        )
        return self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger's result. Raises the error that it met."""
        with plain_failures():
            if "error" in event:
                raise from_wire(event["error"])
        self.log.info("%s: %s", event["verdict"], event["reason"])
        return event

    def poke(self, context: Context) -> PokeReturnValue:
        health = self._look(context)
        return PokeReturnValue(is_done=health.done, xcom_value=health.result() if health.done else None)

    def _look(self, context: Context) -> Health:
        with plain_failures():
            self._lookout = self._lookout or self._open(context)
            health = self._lookout.look(datetime.now(UTC))
        self.log.info("%s: %s", health.verdict, health.reason)
        return health

    def _open(self, context: Context) -> Lookout:
        run = RunIdentity.of(context)
        bake_s = float(self.bake_s)
        default_s = bake_s + (PATIENCE_S if self.shift.get("champion") else 0)
        return Lookout(
            pipeline=self.pipeline,
            artifacts_uri=self.artifacts_uri,
            mlflow_conn_id=self.mlflow_conn_id,
            storage_conn_id=self.storage_conn_id,
            serving=dict(self.serving),
            predictions=dict(self.predictions) if self.predictions else None,
            run_id=run.run_id,
            window_end=wire.to_wire(run.window_end),
            shift=dict(self.shift),
            guards=[dict(guard) for guard in self.guards],
            bake_s=bake_s,
            patience_s=default_s if self.patience_s is None else float(self.patience_s),
            min_requests=int(self.min_requests),
        )
