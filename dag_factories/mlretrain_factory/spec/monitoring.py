"""How the served model's inputs and answers are watched."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.data import Format
from mlretrain_factory.spec.drift import DriftSpec
from mlretrain_factory.spec.performance import PerformanceSpec
from mlretrain_factory.spec.quantity import Duration, format_duration
from mlretrain_factory.spec.resources import Resources
from mlretrain_factory.spec.schedule import UTC, ScheduleSpec
from mlretrain_factory.spec.section import Section, Uri, fault, text

_TABLE = re.compile(r"[\w$-]+(\.[\w$-]+){0,2}")

Table = Annotated[
    str,
    text(
        lambda value: bool(_TABLE.fullmatch(value)),
        "not the name of a table",
        "Write `schema.table`, without quotes.",
    ),
]
"""A table's name, with its schema and catalog if it needs them."""


class WindowDataSpec(Section):
    """Where the current data is: files, or a table."""

    uri: Uri | None = Field(
        default=None, description="A file, a glob or a folder, `file:///…` or `s3://…`. Templated."
    )
    table: Table | None = Field(
        default=None, description="Instead: a table, which the database itself aggregates."
    )
    conn_id: str | None = Field(default=None, min_length=1, description="The table's Airflow connection.")
    dialect: Literal["postgres", "duckdb"] | None = Field(
        default=None,
        description="The database that the connection's speaks like; left out: the connection's type.",
    )
    time_column: str = Field(description="Column with each row's time.")
    window: Duration = Field(description="Length of the window that ends at the run's window end.")
    format: Format | None = Field(default=None, description="Of files; left out: by their names.")

    @property
    def source(self) -> str:
        """The place in one word, for messages and descriptions."""
        return self.table or self.uri or ""

    @model_validator(mode="after")
    def _one_source(self) -> WindowDataSpec:
        if (self.uri is None) == (self.table is None):
            raise fault(
                "current data is in files or in a table", remedy="Give exactly one.", allowed="uri, or table"
            )
        if self.table is not None and self.conn_id is None:
            remedy = "Add `conn_id: …`, the Airflow connection of its database."
            raise fault("a table needs `conn_id`", at=("table",), remedy=remedy)
        for name, source in (("conn_id", "table"), ("dialect", "table"), ("format", "uri")):
            if getattr(self, name) is not None and getattr(self, source) is None:
                raise fault(f"`{name}` is about `{source}`", at=(name,), remedy="Remove it.")
        return self


class QualitySpec(Section):
    """How much worse the data itself may become before the signal `quality` is violated."""

    missing: float = Field(
        default=0.05, gt=0, le=1, description="Tolerated rise of a column's missing rate, beyond its noise."
    )
    new_categories: float = Field(
        default=0.05, gt=0, le=1, description="Tolerated share of rows in categories that are new."
    )


class MonitoringSpec(Section):
    """Watching."""

    schedule: ScheduleSpec | None = Field(default=None, description="When; left out: by hand.")
    data: WindowDataSpec = Field(description="Where the current data is.")
    drift: DriftSpec = Field(default=DriftSpec(), description="When a window has drifted.")
    quality: QualitySpec = Field(default=QualitySpec(), description="When a window's data is broken.")
    performance: PerformanceSpec | None = Field(
        default=None, description="How good the answers were; left out: it is not measured."
    )
    resources: Resources | None = Field(
        default=None, description="A class of the stack, or `{class, cpu, memory, gpu}`."
    )

    @property
    def timezone(self) -> str:
        """The time zone of its clock."""
        return self.schedule.timezone if self.schedule else UTC

    @model_validator(mode="after")
    def _source_fits(self) -> MonitoringSpec:
        age, window = self.drift.reference_age, self.data.window
        if age is not None and age < window:
            raise fault(
                "the window before would overlap with the window itself",
                at=("drift", "reference", "same_window_last"),
                remedy="Raise it, or shorten `monitor.data.window`.",
                found=f"'{format_duration(age)}'",
                allowed=f"at least {format_duration(window)}",
            )
        if self.data.table is not None:
            self._check_table()
        return self

    def _check_table(self) -> None:
        """A table is aggregated where it is, so nothing may ask for its rows."""
        needs_rows = {
            ("drift", "engine"): ("`engine: evidently`", self.drift.engine == "evidently"),
            ("drift", "domain"): ("`domain`", self.drift.domain is not None),
            ("performance",): ("`performance`", self.performance is not None),
        }
        for place, (name, asked) in needs_rows.items():
            if asked:
                remedy = "Remove it, or give `monitor.data.uri` instead of `table`."
                raise fault(f"{name} needs rows, and a table is only aggregated", at=place, remedy=remedy)
        if self.resources is not None:
            message = "`resources` are for jobs, and a table's own database aggregates it"
            raise fault(message, at=("resources",), remedy="Remove it.")
