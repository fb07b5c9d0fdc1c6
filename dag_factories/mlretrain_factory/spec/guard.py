"""What rolls a candidate back while it is rolled out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mlretrain.gates.guard import GuardMetric
from mlretrain_factory.spec.section import Section, fault

COMPARED = ("disagreement", "difference_p95")
"""Of mirrored requests, which both models have answered."""
SHIFT = "prediction_shift"
_OF_THEMSELVES = (SHIFT, *COMPARED)
_SHARES = ("error_rate", SHIFT, "disagreement")


class GuardSpec(Section):
    """What rolls a candidate back when it is exceeded: a number, or a comparison with the champion."""

    metric: GuardMetric = Field(
        description="`error_rate` and latencies are measured by the target; `prediction_shift` is how far "
        "the predictions are from the champion's in the same time (Jensen–Shannon, beyond noise); "
        "`disagreement` and `difference_p95` compare the answers to mirrored requests."
    )
    max: float | None = Field(default=None, ge=0, description="Above this the candidate is rolled back.")
    versus: Literal["champion"] | None = Field(
        default=None, description="Instead: compare with the champion in the same time."
    )
    max_increase: float | None = Field(
        default=None, ge=0, description="It is rolled back when it is above the champion's by more than this."
    )
    max_ratio: float | None = Field(
        default=None, ge=1, description="It is rolled back when it is above so many times the champion's."
    )

    @property
    def condition(self) -> dict[str, Any]:
        """What it says, in the kernel's words."""
        said: dict[str, Any] = self.model_dump(exclude_none=True)
        return said

    @model_validator(mode="after")
    def _is_one_limit(self) -> GuardSpec:
        limits = [name for name in ("max_increase", "max_ratio") if getattr(self, name) is not None]
        if self.max is not None and self.versus is not None:
            remedy = "Write two guards."
            raise fault("`max` and `versus` are two guards", at=("versus",), remedy=remedy)
        if self.versus is None and limits:
            remedy = "Add `versus: champion`."
            raise fault(f"`{limits[0]}` needs `versus`", at=(limits[0],), remedy=remedy)
        if self.versus is None and self.max is None:
            raise fault("the guard limits nothing", remedy="Add one.", allowed="max, versus")
        if self.versus is not None and len(limits) != 1:
            remedy = "Give exactly one."
            raise fault(
                "`versus` needs one limit", at=("versus",), remedy=remedy, allowed="max_increase, max_ratio"
            )
        if self.versus is not None and self.metric in _OF_THEMSELVES:
            message = f"`{self.metric}` is a comparison with the champion already"
            raise fault(message, at=("versus",), remedy="Use `max`.")
        if self.metric in _SHARES and self.max is not None and self.max > 1:
            raise fault("a share above 1", at=("max",), remedy="Correct the number.", found=f"{self.max:g}")
        return self
