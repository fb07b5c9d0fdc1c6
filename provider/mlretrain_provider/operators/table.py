"""Profiling a table where it is: its database aggregates, and no row leaves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.drift.profile import TOP_CATEGORIES, DriftProfile, profile_source
from mlretrain.drift.table import Table
from mlretrain.errors import ContractError, InvalidInput, NotFound
from mlretrain.ports import CHAMPION
from mlretrain.steps.profile import chosen_columns, read_reference
from mlretrain_provider.durations import duration
from mlretrain_provider.hooks.database import open_table
from mlretrain_provider.operators.pipeline import MEASURE, PipelineOperator
from mlretrain_provider.operators.profiling import (
    Reference,
    against_words,
    reference_uris,
    unknown_profile,
    window_shift,
)
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context


class ProfileTableOperator(PipelineOperator):
    """Profile a window of a table in one query per column, which its database answers with counts.

    Returns what :class:`ProfileDataOperator` returns, without a ``dataset_uri``. Runs in the worker, which
    only waits. Idempotent: a cleared task returns the profile that the run first saw, unless the champion
    has changed; a window that could not be profiled is looked at again.

    :param table: ``schema.table``, upper and lower case as in the database.
    :param conn_id: the connection of its database, PostgreSQL or DuckDB.
    :param time_column: the column that holds each row's time; what has no zone is UTC.
    :param window: length of the window that ends at the run's window end, in seconds or as ``"7d"``; none:
        all rows before.
    :param columns: ``{include, exclude}``; none: the columns of the reference, else every column.
    :param reference: as of :class:`ProfileDataOperator`.
    :param top: categories that are kept by name.
    :param sensitive: columns of which only digests are kept.
    :param dialect: ``postgres`` for another type of connection whose database speaks as PostgreSQL does.
    """

    template_fields = (
        *PipelineOperator.template_fields,
        "table",
        "conn_id",
        "time_column",
        "window",
        "columns",
        "reference",
        "top",
        "sensitive",
        "dialect",
    )
    ui_color = MEASURE

    def __init__(
        self,
        *,
        table: str,
        conn_id: str,
        time_column: str,
        window: float | str | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        reference: Reference = CHAMPION,
        top: int = TOP_CATEGORIES,
        sensitive: Sequence[str] = (),
        dialect: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.conn_id = conn_id
        self.time_column = time_column
        self.window = window
        self.columns = columns
        self.reference = reference
        self.top = top
        self.sensitive = sensitive
        self.dialect = dialect

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        uris = reference_uris(self, self.reference, self.window)
        asked = [getattr(self, name) for name in self.template_fields], uris
        folder = f"{self.folder(run, self.task_id)}-{wire.digest(asked, 12)}"
        try:
            return self.once(f"{folder}/result.json", lambda: self._profiled(run, folder, uris))
        except (InvalidInput, ContractError, NotFound) as error:
            self.log.warning("The window cannot be profiled: %s", error)
            return unknown_profile(str(error), run.window_end, self.window)

    def _profiled(self, run: RunIdentity, folder: str, uris: Sequence[str]) -> dict[str, Any]:
        shift = window_shift(self.reference, self.window, self.task_id)
        reference = read_reference(uris, self.storage_env or None)
        result: dict[str, Any] = {}
        with open_table(self.conn_id, self.table, self.dialect) as table:
            if shift is not None:
                reference = self._count(table, run.window_end - shift, reference)
                result["reference_profile_uri"] = self._keep(f"{folder}/reference.json", reference)
                result["against"] = against_words(self.reference)
            profile = self._count(table, run.window_end, reference)
        self.log.info("%s: %s rows up to %s", self.table, profile.rows, run.window_end)
        start = self._start(run.window_end) or profile.start
        return {
            **result,
            "profile_uri": self._keep(f"{folder}/profile.json", profile),
            "rows": profile.rows,
            "start": start.isoformat() if start else None,
            "end": run.window_end.isoformat(),
        }

    def _count(self, table: Table, end: datetime, reference: DriftProfile | None) -> DriftProfile:
        """The profile of the window that ends at ``end``. Raises :class:`InvalidInput` if it has no rows."""
        source = table.window(self.time_column, self._start(end), end)
        columns = self.columns or {}
        profile = profile_source(
            source,
            include=chosen_columns(columns.get("include"), list(source.types()), reference),
            exclude=columns.get("exclude") or (),
            time_column=self.time_column,
            top=self.top,
            sensitive=self.sensitive,
            reference=reference,
        )
        if not profile.rows:
            raise InvalidInput("no rows in the window", where=self.table, found=f"none before {end}")
        return profile

    def _start(self, end: datetime) -> datetime | None:
        return end - duration(self.window, "window") if self.window is not None else None

    def _keep(self, path: str, profile: DriftProfile) -> str:
        self.store.write(path, wire.pretty(profile))
        return self.artifact_uri(path)
