"""Waiting for drift that a monitor has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from mlretrain import wire
from mlretrain.runtime.store import open_store
from mlretrain.windows import WindowLog
from mlretrain_provider.failures import plain_failures
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.run import window_end

if TYPE_CHECKING:
    from airflow.sdk import Context


class DriftSensor(BaseSensorOperator):
    """Wait until a monitored window of a pipeline has drifted.

    Returns ``{window_end, rows, champion, summary, report_uri}`` of the latest such window. It reads what the
    monitor wrote to the artifact store, so the monitor may run in another Airflow.

    :param pipeline: the monitored pipeline.
    :param artifacts_uri: root of the artifact store.
    :param since: count windows that end at this instant (ISO 8601) or later; default: this run's window end.
    :param storage_conn_id: the AWS connection for ``s3://`` places; none: the worker's own environment.
    """

    template_fields: Sequence[str] = ("pipeline", "artifacts_uri", "since", "storage_conn_id")
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        pipeline: str,
        artifacts_uri: str,
        since: str | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.artifacts_uri = artifacts_uri
        self.since = since
        self.storage_conn_id = storage_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        with plain_failures():
            since = wire.parse_time(self.since, "since") if self.since else window_end(context)
            store = open_store(self.artifacts_uri, storage_env(self.storage_conn_id) or None)
            windows = WindowLog(store, self.pipeline).since(since)
        drifted = [each for each in windows if each.signals.get("drift")]
        if not drifted:
            self.log.info("No drift in windows that end at %s or later", since)
            return PokeReturnValue(is_done=False)
        last = max(drifted, key=lambda each: each.window_end)
        found = {
            "window_end": wire.to_wire(last.window_end),
            "rows": last.rows,
            "champion": last.champion,
            "summary": last.summary,
            "report_uri": last.report_uri,
        }
        return PokeReturnValue(is_done=True, xcom_value=found)
