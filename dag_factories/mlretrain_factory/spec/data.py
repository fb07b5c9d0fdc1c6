"""The data to train on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, Uri, fault

Format = Literal["parquet", "csv"]


class TrainingDataSpec(Section):
    """Where training data is, resolved in each run to an immutable list of files."""

    uri: Uri = Field(description="A file, a glob or a folder, `file:///…` or `s3://…`. Templated.")
    time_column: str | None = Field(
        default=None, description="Column with each row's time; needed for `window`."
    )
    window: Duration | None = Field(
        default=None,
        description="Length of the window that ends at the run's window end; left out: all rows.",
    )
    format: Format | None = Field(default=None, description="Left out: by the files' names.")

    @model_validator(mode="after")
    def _window_needs_time(self) -> TrainingDataSpec:
        if self.window is not None and self.time_column is None:
            raise fault("a window needs `time_column`", at=("window",), remedy="Add `time_column`.")
        return self


class FeaturesSpec(Section):
    """Which columns the model sees."""

    include: tuple[str, ...] | None = Field(
        default=None, description="Only these; left out: every column but the target."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Not these.")


class HoldoutSpec(Section):
    """The frozen evaluation set; its hash is recorded with every metric."""

    by: Literal["time", "random"] = Field(
        default="random", description="`time`: the latest rows; `random`: a seeded share of all rows."
    )
    fraction: float = Field(default=0.2, gt=0, lt=1, description="Share of rows that are held out.")


class DataSpec(Section):
    """What to learn from, and what to predict."""

    training: TrainingDataSpec = Field(description="Where training data is.")
    target: str = Field(min_length=1, description="Column to predict.")
    features: FeaturesSpec = Field(default=FeaturesSpec(), description="Which columns the model sees.")
    holdout: HoldoutSpec = Field(default=HoldoutSpec(), description="The frozen evaluation set.")

    @model_validator(mode="after")
    def _holdout_needs_time(self) -> DataSpec:
        if self.holdout.by == "time" and self.training.time_column is None:
            raise fault(
                "a holdout by time needs `data.training.time_column`",
                at=("holdout", "by"),
                remedy="Add it, or hold out `by: random`.",
            )
        return self
