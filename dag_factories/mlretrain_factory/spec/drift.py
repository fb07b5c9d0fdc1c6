"""When a window of data has drifted: what it is compared with, and how much is tolerated."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from mlretrain.drift.metrics import Method
from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Entrypoint, Section, fault


def _check_threshold(value: Any) -> Any:
    if value == "auto" or (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0):
        return value
    raise fault("not a threshold", remedy="Write a number above 0, or `auto`.", allowed="a number, or auto")


Threshold = Annotated[float | Literal["auto"], BeforeValidator(_check_threshold)]


class DriftDefaultsSpec(Section):
    """How each column is compared, unless it says otherwise."""

    method: Method | Literal["auto"] = Field(default="auto", description="`auto`: by the column's kind.")
    threshold: Threshold = Field(
        default="auto", description="Tolerated effect, beyond its noise; `auto`: by method."
    )
    min_rows: int = Field(default=1000, ge=1, description="A window of fewer rows decides nothing.")


class ColumnDriftSpec(Section):
    """How one column is compared, and what is kept of it."""

    method: Method | Literal["auto"] | None = Field(default=None, description="Left out: as in `defaults`.")
    threshold: Threshold | None = Field(default=None, description="Left out: as in `defaults`.")
    ignore: bool = Field(default=False, description="Not compared at all.")
    sensitive: bool = Field(
        default=False, description="Its values are kept as hashes only, in profiles and reports."
    )


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


class SameWindowSpec(Section):
    """The window of the same length, some time ago."""

    same_window_last: Duration = Field(
        description="How long ago: `7d` compares a Monday with the Monday before, `365d` with last year's."
    )


Reference = Annotated[
    Annotated[Literal["champion", "previous_window"], Tag("name")]
    | Annotated[SameWindowSpec, Tag("same window")],
    Discriminator(lambda value: "same window" if isinstance(value, (dict, SameWindowSpec)) else "name"),
]
"""What a window is compared with."""


class PredictionDriftSpec(Section):
    """How the answers are compared."""

    threshold: float = Field(default=0.1, gt=0, description="Effect that counts as drift, beyond its noise.")


class DomainDriftSpec(Section):
    """How columns are compared together: by a classifier that tells the window from the reference."""

    threshold: float = Field(
        default=0.6,
        gt=0.5,
        lt=1,
        description="Tolerated area under the classifier's ROC curve, beyond its noise; 0.5: it guesses.",
    )
    rows: int = Field(
        default=5000, ge=100, le=1_000_000, description="Rows of each side that are kept and learnt from."
    )


class DriftSpec(Section):
    """When a window has drifted away from its reference."""

    engine: Literal["mlretrain", "evidently"] = Field(
        default="mlretrain",
        description="`mlretrain`: on profiles, at any size; `evidently`: its presets, on a sample of rows.",
    )
    preset: Entrypoint | None = Field(
        default=None,
        description="Of `engine: evidently`: a function `package.module:name` that returns an "
        "`evidently.Report`; left out: its `DataDriftPreset`.",
    )
    reference: Reference = Field(
        default="champion",
        description="What a window is compared with: the `champion`'s training data, the `previous_window`, "
        "or `{same_window_last: 7d}`.",
    )
    defaults: DriftDefaultsSpec = Field(default=DriftDefaultsSpec(), description="For every column.")
    columns: dict[str, ColumnPolicy] = Field(
        default={}, description="For single columns: `ignore`, or a policy of their own."
    )
    share: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Share of drifted columns, weighted by importance, that makes the window drift.",
    )
    prediction: PredictionDriftSpec | None = Field(
        default=None, description="Compare the answers too; drift of the answers makes the window drift."
    )
    domain: DomainDriftSpec | None = Field(
        default=None, description="Compare the columns together too; their drift makes the window drift."
    )
    top: int = Field(
        default=100, ge=1, le=10_000, description="Most frequent categories of a column kept by name."
    )

    @property
    def reference_age(self) -> timedelta | None:
        """How long ago the window was that is the reference, if it is one of ``same_window_last``."""
        return self.reference.same_window_last if isinstance(self.reference, SameWindowSpec) else None

    @property
    def sensitive(self) -> list[str]:
        """Columns whose values are kept as hashes only, sorted."""
        return sorted(name for name, column in self.columns.items() if column.sensitive)

    @property
    def ignored(self) -> list[str]:
        """Columns that are not compared, sorted."""
        return sorted(name for name, column in self.columns.items() if column.ignore)

    @model_validator(mode="after")
    def _fits_the_engine(self) -> DriftSpec:
        if self.engine == "evidently":
            self._check_evidently()
        elif self.preset is not None:
            remedy = "Remove it, or choose `engine: evidently`."
            raise fault("`preset` is about `engine: evidently`", at=("preset",), remedy=remedy)
        return self

    def _check_evidently(self) -> None:
        remedy = "Remove it, or choose `engine: mlretrain`."
        rules: dict[tuple[str, ...], DriftDefaultsSpec | ColumnDriftSpec] = {("defaults",): self.defaults}
        rules |= {("columns", name): column for name, column in self.columns.items()}
        for place, rule in rules.items():
            for name in ("method", "threshold"):
                if getattr(rule, name) not in (None, "auto"):
                    message = f"the preset of `engine: evidently` chooses each {name}"
                    raise fault(message, at=(*place, name), remedy=remedy)
