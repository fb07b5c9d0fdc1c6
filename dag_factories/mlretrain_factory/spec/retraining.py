"""When a retraining follows from what is measured, and why it cannot run away."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.blackout import BlackoutSpec, covers_every_day
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault

Signal = Literal["drift", "prediction", "domain", "schema", "quality", "performance"]
Signals = tuple[Signal, ...]


class WhenSpec(Section):
    """Which signals violate a window: any of some, or all of some."""

    any: Signals | None = Field(default=None, min_length=1, description="One of these is enough.")
    all: Signals | None = Field(default=None, min_length=1, description="Instead: it takes all of these.")

    @property
    def kind(self) -> Literal["any", "all"]:
        """Which of the two was written."""
        return "any" if self.any is not None else "all"

    @property
    def signals(self) -> Signals:
        """The signals that count."""
        return self.any or self.all or ()

    @model_validator(mode="after")
    def _one_of(self) -> WhenSpec:
        if (self.any is None) == (self.all is None):
            remedy = "Give exactly one, such as `any: [drift]`."
            raise fault("`when` is any or all of some signals", remedy=remedy, allowed="any, or all")
        return self


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


class PageSpec(Section):
    """When a person is needed: the event `paged`."""

    failed_retrains: int = Field(
        default=2, ge=1, description="After so many retrainings in a row that did not cure."
    )
    unknown: int = Field(
        default=3, ge=1, description="After so many windows in a row of which nothing could be said."
    )
    signals: Signals = Field(
        default=("schema",),
        description="Signals that page, and retrain nothing, as soon as they are violated.",
    )


class EscalationSpec(Section):
    """Who hears of it before and after a retraining."""

    warn: int = Field(default=1, ge=1, description="The event `warned` after so many violated windows.")
    page: PageSpec = Field(default=PageSpec(), description="When a person is needed.")


class RetrainingSpec(Section):
    """The policy between what is measured and a retraining."""

    when: WhenSpec = Field(default=WhenSpec(any=("drift",)), description="Which signals violate a window.")
    windows: WindowsSpec = Field(default=WindowsSpec(), description="How many windows must agree.")
    warm_up: int = Field(
        default=1,
        ge=0,
        le=100,
        description="Windows measured against a new champion before it can be retrained.",
    )
    cooldown: Duration = Field(default=timedelta(days=7), description="Least time between two retrainings.")
    min_new_rows: int = Field(default=0, ge=0, description="Least rows since the last training.")
    budget: BudgetSpec | None = Field(
        default=None, description="Most retrainings in a span; left out: no limit."
    )
    blackout: tuple[BlackoutSpec, ...] = Field(default=(), description="Days on which nothing is retrained.")
    escalate: EscalationSpec = Field(
        default=EscalationSpec(), description="Who hears of it before and after a retraining."
    )

    @model_validator(mode="after")
    def _can_happen(self) -> RetrainingSpec:
        if covers_every_day(self.blackout):
            remedy = "Leave days free, or remove `retrain`."
            raise fault("a blackout of every day: it would never retrain", at=("blackout",), remedy=remedy)
        if self.escalate.warn > self.windows.violated:
            raise fault(
                "the warning would come after the retraining",
                at=("escalate", "warn"),
                remedy="Lower it, or raise `retrain.windows.violated`.",
                found=str(self.escalate.warn),
                allowed=f"up to {self.windows.violated}",
            )
        for i, signal in enumerate(self.when.signals):
            if signal in self.escalate.page.signals:
                raise fault(
                    "this signal asks for a person, and then nothing is retrained",
                    at=("when", self.when.kind, i),
                    remedy="Remove it, or take it out of `retrain.escalate.page.signals`.",
                    found=f"'{signal}'",
                )
        return self
