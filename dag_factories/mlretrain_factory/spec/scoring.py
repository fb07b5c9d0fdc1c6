"""Scoring in batches: which rows, when, and where the scores go."""

from __future__ import annotations

from pydantic import Field, model_validator

from mlretrain_factory.spec.cron import Cron
from mlretrain_factory.spec.data import TrainingDataSpec
from mlretrain_factory.spec.performance import Columns
from mlretrain_factory.spec.resources import Resources
from mlretrain_factory.spec.schedule import UTC, Timezone
from mlretrain_factory.spec.section import Section, Uri, fault


class ScoringScheduleSpec(Section):
    """By the clock, when data comes, or when there is another champion."""

    cron: Cron | None = Field(default=None, description="Five cron fields, or `@daily` and the like.")
    timezone: Timezone = Field(
        default=UTC, description="IANA time zone of the cron fields; follows summer time."
    )
    on_assets: tuple[str, ...] = Field(
        default=(), description="URIs of Airflow assets; a run starts when all have been updated."
    )
    on_promotion: bool = Field(
        default=False, description="A run starts when the champion changes, also by a roll-back."
    )

    @model_validator(mode="after")
    def _one_of(self) -> ScoringScheduleSpec:
        if [self.cron is not None, bool(self.on_assets), self.on_promotion].count(True) != 1:
            raise fault(
                "a scoring is by the clock, by assets or on promotion",
                remedy="Give exactly one; leave `schedule` out to score only by hand.",
                allowed="cron, on_assets, or on_promotion: true",
            )
        return self


class ScoresSpec(Section):
    """Where the scores go, and what they hold."""

    uri: Uri = Field(description="A folder, `file:///…` or `s3://…`. Templated.")
    partition_by: str | None = Field(
        default=None,
        min_length=1,
        description="Column; times in it by their date. Left out: a partition for each file of the data.",
    )
    columns: Columns | None = Field(
        default=None, description="Columns to keep beside the prediction and the key; left out: all."
    )


class ScoringSpec(Section):
    """Rows that are scored without a server."""

    schedule: ScoringScheduleSpec | None = Field(
        default=None, description="When to score by itself; left out: by hand."
    )
    data: TrainingDataSpec = Field(description="The rows to score.")
    output: ScoresSpec = Field(description="Where the scores go.")
    key: Columns | None = Field(
        default=None,
        description="Column that names a row, or several, as a list: which version scores it hangs on that. "
        "Left out: on all columns.",
    )
    resources: Resources | None = Field(default=None, description="What the job may use.")

    @model_validator(mode="after")
    def _scores_are_no_data(self) -> ScoringSpec:
        folder = self.output.uri.rstrip("/") + "/"
        data = self.data.uri.rstrip("/") + "/"
        if folder.startswith(data):
            raise fault(
                "the scores would be read as data",
                at=("output", "uri"),
                remedy="Name a folder that is not below `score.data.uri`.",
                found=f"'{self.output.uri}'",
            )
        return self
