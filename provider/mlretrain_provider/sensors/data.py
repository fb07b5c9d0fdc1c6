"""Waiting for enough new data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from mlretrain import wire
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.ports import CHAMPION
from mlretrain_provider.failures import plain_failures
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.storage import storage_env

if TYPE_CHECKING:
    from airflow.sdk import Context


class NewDataSensor(BaseSensorOperator):
    """Wait until enough rows or files are there that no champion was trained on.

    Returns ``{rows, files, since}``. Files are counted whole; of Parquet files, only those whose statistics
    say that they may hold newer rows.

    :param uri: a file, glob or folder, ``file://…`` or ``s3://…``.
    :param time_column: the column that says when a row happened.
    :param min_rows: enough rows.
    :param min_files: enough files; whichever is given must hold, both if both are.
    :param since: count from this instant (ISO 8601); default: the end of the champion's training window, and
        everything if there is no champion.
    :param pipeline: whose champion; not needed with ``since``.
    :param format: ``parquet`` or ``csv``; default: by the name.
    :param mlflow_conn_id: the MLflow connection.
    :param storage_conn_id: the AWS connection for ``s3://`` places; none: the worker's own environment.
    """

    template_fields: Sequence[str] = (
        "uri",
        "time_column",
        "min_rows",
        "min_files",
        "since",
        "pipeline",
        "mlflow_conn_id",
        "storage_conn_id",
    )
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        uri: str,
        time_column: str | None = None,
        min_rows: int | str | None = None,
        min_files: int | str | None = None,
        since: str | None = None,
        pipeline: str | None = None,
        format: str | None = None,  # noqa: A002
        mlflow_conn_id: str = MLflowHook.default_conn_name,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.uri = uri
        self.time_column = time_column
        self.min_rows = min_rows
        self.min_files = min_files
        self.since = since
        self.pipeline = pipeline
        self.format = format
        self.mlflow_conn_id = mlflow_conn_id
        self.storage_conn_id = storage_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        with plain_failures():
            least_rows, least_files = self._least()
            since = self._since()
            rows, files = self._count(since)
        self.log.info("%s rows in %s files since %s", rows, files, since or "ever")
        enough = rows >= least_rows and files >= least_files
        found = {"rows": rows, "files": files, "since": since.isoformat() if since else None}
        return PokeReturnValue(is_done=enough, xcom_value=found if enough else None)

    def _least(self) -> tuple[int, int]:
        if self.min_rows is None and self.min_files is None:
            raise ConfigError(
                "nothing says how much data is enough",
                where=f"{self.dag_id}/{self.task_id}",
                allowed="min_rows, min_files",
                remedy="Give one of them, or both.",
            )
        return int(self.min_rows or 0), int(self.min_files or 1)

    def _since(self) -> datetime | None:
        if self.since:
            return wire.parse_time(self.since, "since")
        if not self.pipeline or not self.time_column:
            return None
        champion = MLflowHook(self.mlflow_conn_id).registry().version(self.pipeline, f"@{CHAMPION}")
        end = champion.tags.get("mlretrain.window_end") if champion else None
        return wire.parse_time(end, "mlretrain.window_end") if end else None

    def _count(self, since: datetime | None) -> tuple[int, int]:
        from mlretrain.data.resolve import resolve

        if since is not None and not self.time_column:
            raise ConfigError(
                "without a time column nothing says what is new",
                where=f"{self.dag_id}/{self.task_id}",
                remedy="Give time_column, or leave since out.",
            )
        try:
            found = resolve(
                self.uri,
                time_column=self.time_column,
                start=since,
                format=self.format,
                env=storage_env(self.storage_conn_id) or None,
            )
        except InvalidInput as nothing:
            self.log.info("%s", nothing)
            return 0, 0
        return found.rows, len(found.files)
