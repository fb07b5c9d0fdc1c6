"""Waiting for a new champion."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from mlretrain.errors import from_wire
from mlretrain.ports import CHAMPION
from mlretrain_provider.failures import plain_failures
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.triggers.model_alias import ModelAliasTrigger, aliased, version_facts

if TYPE_CHECKING:
    from airflow.sdk import Context


class ModelAliasSensor(BaseSensorOperator):
    """Wait until an alias names a version that is newer than one that is known.

    Returns ``{name, version, model_uri}``.

    :param model: the registered model's name.
    :param alias: its alias.
    :param newer_than: the version that is known already; none: any version will do.
    :param mlflow_conn_id: the MLflow connection.
    :param deferrable: wait in the triggerer. Default ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = ("model", "alias", "newer_than", "mlflow_conn_id")
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        model: str,
        alias: str = CHAMPION,
        newer_than: int | str | None = None,
        mlflow_conn_id: str = MLflowHook.default_conn_name,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.alias = alias
        self.newer_than = newer_than
        self.mlflow_conn_id = mlflow_conn_id
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        found = self.poke(context)
        if found.is_done:
            return found.xcom_value
        return self.defer(
            trigger=ModelAliasTrigger(
                model=self.model,
                alias=self.alias,
                newer_than=self._known(),
                mlflow_conn_id=self.mlflow_conn_id,
                poll_interval=self.poke_interval,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The version that the trigger found. Raises the error that it met."""
        with plain_failures():
            if "error" in event:
                raise from_wire(event["error"])
        return event

    def poke(self, context: Context) -> PokeReturnValue:
        with plain_failures():
            registry = MLflowHook(self.mlflow_conn_id).registry()
            found = aliased(registry, self.model, self.alias, self._known())
        return PokeReturnValue(is_done=found is not None, xcom_value=version_facts(found) if found else None)

    def _known(self) -> int | None:
        return int(self.newer_than) if self.newer_than not in (None, "", "None") else None
