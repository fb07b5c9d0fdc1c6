"""When drift leads to a retraining, and why it cannot run away."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault, later

Signal = Annotated[Literal["drift"], later("performance")]


class WhenSpec(Section):
    """Which signals count."""

    any: tuple[Signal, ...] = Field(default=("drift",), min_length=1, description="One of these is enough.")


class WindowsSpec(Section):
    """How many windows must agree."""

    violated: int = Field(default=2, ge=1, description="So many windows are violated …")
    of: int = Field(default=3, ge=1, le=100, description="… of so many latest ones.")
    latest: bool = Field(default=True, description="The latest window must be one of them.")

    @model_validator(mode="after")
    def _possible(self) -> WindowsSpec:
        if self.violated > self.of:
            raise fault(
                "more violated windows than windows",
                at=("violated",),
                remedy="Lower `violated`, or raise `of`.",
                found=f"{self.violated} of {self.of}",
            )
        return self


class BudgetSpec(Section):
    """How many retrainings at most."""

    max: int = Field(ge=1, description="So many retrainings …")
    per: Duration = Field(description="… in so much time.")


class RetrainingSpec(Section):
    """The policy between drift and retraining."""

    when: WhenSpec = Field(default=WhenSpec(), description="Which signals count.")
    windows: WindowsSpec = Field(default=WindowsSpec(), description="How many windows must agree.")
    cooldown: Duration = Field(default=timedelta(days=7), description="Least time between two retrainings.")
    min_new_rows: int = Field(default=0, ge=0, description="Least rows since the last training.")
    budget: BudgetSpec | None = Field(
        default=None, description="Most retrainings in a span; left out: no limit."
    )
