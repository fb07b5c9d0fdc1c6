"""How the served model's inputs and answers are watched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlretrain.drift.metrics import Method
from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.data import Format
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.resources import Resources
from mlretrain_factory.spec.schedule import ScheduleSpec
from mlretrain_factory.spec.section import Section, Unsupported, Uri, fault


def _check_threshold(value: Any) -> Any:
    if value == "auto" or (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0):
        return value
    raise fault("not a threshold", remedy="Write a number above 0, or `auto`.", allowed="a number, or auto")


Threshold = Annotated[float | Literal["auto"], BeforeValidator(_check_threshold)]


class WindowDataSpec(Section):
    """Where the current data is."""

    uri: Uri = Field(description="A file, a glob or a folder, `file:///…` or `s3://…`. Templated.")
    time_column: str = Field(description="Column with each row's time.")
    window: Duration = Field(description="Length of the window that ends at the run's window end.")
    format: Format | None = Field(default=None, description="Left out: by the files' names.")


class DriftDefaultsSpec(Section):
    """How each column is compared, unless it says otherwise."""

    method: Method | Literal["auto"] = Field(default="auto", description="`auto`: by the column's kind.")
    threshold: Threshold = Field(
        default="auto", description="Tolerated effect, beyond its noise; `auto`: by method."
    )
    min_rows: int = Field(default=1000, ge=1, description="A window of fewer rows decides nothing.")


class ColumnDriftSpec(Section):
    """How one column is compared."""

    method: Method | Literal["auto"] | None = Field(default=None, description="Left out: as in `defaults`.")
    threshold: Threshold | None = Field(default=None, description="Left out: as in `defaults`.")
    ignore: bool = Field(default=False, description="Not compared at all.")


def _read_column(value: Any) -> Any:
    if value == "ignore":
        return ColumnDriftSpec(ignore=True)
    if isinstance(value, str):
        remedy = nearest(value, ["ignore"], "Write `ignore`, or a mapping such as `{threshold: 0.1}`.")
        raise fault(
            "not a column's policy", remedy=remedy, found=f"'{value}'", allowed="ignore, or a mapping"
        )
    return value


ColumnPolicy = Annotated[
    ColumnDriftSpec,
    BeforeValidator(_read_column, json_schema_input_type=ColumnDriftSpec | Literal["ignore"]),
]
"""How one column is compared, or ``ignore``."""


class PredictionDriftSpec(Section):
    """How the answers are compared."""

    threshold: float = Field(default=0.1, gt=0, description="Effect that counts as drift, beyond its noise.")


class DriftSpec(Section):
    """When a window has drifted away from the champion's training data."""

    reference: Literal["champion"] = Field(default="champion", description="What a window is compared with.")
    defaults: DriftDefaultsSpec = Field(default=DriftDefaultsSpec(), description="For every column.")
    columns: dict[str, ColumnPolicy] = Field(
        default={}, description="For single columns: `ignore`, or a policy of their own."
    )
    share: float = Field(
        default=0.3, gt=0, le=1, description="Share of drifted columns that makes the window drift."
    )
    prediction: PredictionDriftSpec | None = Field(
        default=None, description="Compare the answers too; drift of the answers makes the window drift."
    )


class MonitoringSpec(Section):
    """Watching."""

    schedule: ScheduleSpec | None = Field(default=None, description="When; left out: by hand.")
    data: WindowDataSpec = Field(description="Where the current data is.")
    drift: DriftSpec = Field(default=DriftSpec(), description="When a window has drifted.")
    resources: Resources | None = Field(
        default=None, description="A class of the stack, or `{class, cpu, memory, gpu}`."
    )
    performance: Unsupported = Field(default=None, description="Quality on late labels. Not in this version.")
