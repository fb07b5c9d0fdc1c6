"""What a candidate must show before it becomes the champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.evaluation import Metric
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault, later


class GateSpec(Section):
    """One condition on one metric. A gate that cannot be computed fails."""

    metric: Metric = Field(description="One of `evaluate.metrics`.")
    min: float | None = Field(default=None, description="The candidate's score is at least this.")
    max: float | None = Field(default=None, description="The candidate's score is at most this.")
    versus: Literal["champion"] | None = Field(default=None, description="Compare with the champion's score.")
    min_improvement: float | None = Field(
        default=None,
        description="The improvement over the champion is at least this; negative: may be so much worse.",
    )
    confidence: float | None = Field(
        default=None, gt=0.5, lt=1, description="The improvement holds at this confidence (paired bootstrap)."
    )
    slices: Literal["all"] | None = Field(default=None, description="Judge each slice of `evaluate.slices`.")
    max_drop: float | None = Field(
        default=None, ge=0, description="No slice is worse than the champion's by more than this."
    )
    min_support: int = Field(default=100, ge=1, description="Slices of fewer rows are not judged.")

    @model_validator(mode="after")
    def _asks_something(self) -> GateSpec:
        if self.versus and self.min_improvement is None:
            raise fault(
                "`versus` needs `min_improvement`", at=("versus",), remedy="Add `min_improvement: 0.0`."
            )
        if self.min_improvement is not None and not self.versus:
            raise fault(
                "`min_improvement` needs `versus`", at=("min_improvement",), remedy="Add `versus: champion`."
            )
        if self.confidence is not None and not self.versus:
            raise fault("`confidence` needs `versus`", at=("confidence",), remedy="Add `versus: champion`.")
        if (self.slices is None) != (self.max_drop is None):
            given = "slices" if self.slices else "max_drop"
            other = "`max_drop`" if self.slices else "`slices: all`"
            raise fault(f"`{given}` needs {other}", at=(given,), remedy=f"Add {other}.")
        if all(each is None for each in (self.min, self.max, self.versus, self.slices)):
            raise fault("the gate asks nothing", remedy="Add one.", allowed="min, max, versus, slices")
        return self


class ApprovalSpec(Section):
    """Whether a person agrees before a promotion."""

    required: Annotated[Literal["never"], later("always", "when_worse")] = Field(
        default="never", description="`never`; others come in a later version."
    )
    assignees: tuple[str, ...] = Field(default=(), description="Who may approve; empty: everybody.")
    timeout: Duration | None = Field(default=None, description="How long to wait for an answer.")
    on_timeout: Literal["reject", "approve"] = Field(
        default="reject", description="The answer when nobody gives one."
    )


class PromotionSpec(Section):
    """The gates: all must hold."""

    gates: tuple[GateSpec, ...] = Field(min_length=1, description="All must hold.")
    mode: Literal["enforce", "dry_run"] = Field(
        default="enforce", description="`dry_run`: judge and record, promote nothing."
    )
    approval: ApprovalSpec = Field(
        default=ApprovalSpec(), description="Whether a person agrees before a promotion."
    )
