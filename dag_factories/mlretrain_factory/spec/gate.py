"""One condition that a candidate must meet."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mlretrain.metrics import COSTS, HIGHER_IS_BETTER
from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.section import Entrypoint, Section, fault

_ASKS = ("min", "max", "versus", "slices", "groups")
_NEEDS = {
    "min_improvement": "versus",
    "max_ratio": "versus",
    "confidence": "min_improvement",
    "method": "confidence",
    "slices": "max_drop",
    "max_drop": "slices",
    "groups": "max_gap",
    "max_gap": "groups",
}
_EXAMPLES = {
    "versus": "versus: champion",
    "min_improvement": "min_improvement: 0.0",
    "confidence": "confidence: 0.95",
    "slices": "slices: all",
    "max_drop": "max_drop: 0.03",
    "groups": "groups: <column>",
    "max_gap": "max_gap: 0.1",
}
_OF_SCORES = ("min", "min_improvement", "confidence", "method", "slices", "max_drop", "groups", "max_gap")


def _check_metric(value: str) -> str:
    known = [*HIGHER_IS_BETTER, *COSTS]
    if value not in known:
        remedy = nearest(value, known, "Choose one of these.")
        raise fault("unknown metric", remedy=remedy, found=f"'{value}'", allowed=", ".join(sorted(known)))
    return value


GateMetric = Annotated[str, AfterValidator(_check_metric)]
"""A quality metric, or what every evaluation measures."""


class GateSpec(Section):
    """One condition on one metric, or a function. A gate that cannot be computed fails."""

    metric: GateMetric | None = Field(
        default=None,
        description="One of `evaluate.metrics`; or `latency_p50_ms`, `latency_p95_ms`, `latency_p99_ms` (one "
        "row at a time, in the evaluation's job), `model_size_mb` (its files).",
    )
    min: float | None = Field(default=None, description="The candidate's score is at least this.")
    max: float | None = Field(default=None, description="The candidate's score is at most this.")
    versus: Literal["champion"] | None = Field(
        default=None, description="Compare with the champion on the same rows; holds while there is none."
    )
    min_improvement: float | None = Field(
        default=None,
        description="The improvement over the champion is at least this; negative: may be so much worse.",
    )
    confidence: float | None = Field(
        default=None, gt=0.5, lt=1, description="The improvement holds at this confidence."
    )
    method: Literal["bootstrap", "delong"] | None = Field(
        default=None,
        description="By which interval: `bootstrap` of both models' answers in pairs, or `delong`, for "
        "`roc_auc` alone; left out: `bootstrap`.",
    )
    max_ratio: float | None = Field(
        default=None, gt=0, description="A latency or size is at most so many times the champion's."
    )
    slices: Literal["all"] | None = Field(default=None, description="Judge each slice of `evaluate.slices`.")
    max_drop: float | None = Field(
        default=None, ge=0, description="No slice is worse than the champion's by more than this."
    )
    groups: str | None = Field(
        default=None,
        min_length=1,
        description="A column of `evaluate.slices` whose values are treated alike.",
    )
    max_gap: float | None = Field(
        default=None, ge=0, description="The best group is better than the worst by at most this."
    )
    min_support: int = Field(default=100, ge=1, description="Slices and groups of fewer rows are not judged.")
    function: Entrypoint | None = Field(
        default=None,
        description="Stands alone: `package.module:name` of a function that takes the evidence and returns "
        "whether it holds, or `(whether, observed, required)`; runs in the evaluation's job.",
    )

    @property
    def condition(self) -> dict[str, Any]:
        """What it says, in the kernel's words."""
        unsaid = set() if self.slices or self.groups else {"min_support"}
        said: dict[str, Any] = self.model_dump(exclude_none=True, exclude=unsaid)
        return said

    @model_validator(mode="after")
    def _is_one_condition(self) -> GateSpec:
        if self.function is not None:
            self._check_function()
        elif self.metric is None:
            raise fault("a gate without a metric", remedy="Add `metric`, or `function`.")
        else:
            self._check_pairs()
            self._check_costs()
            self._check_groups()
            if not any(getattr(self, name) is not None for name in _ASKS):
                raise fault("the gate asks nothing", remedy="Add one.", allowed=", ".join(_ASKS))
        return self

    def _check_function(self) -> None:
        for name in sorted(self.model_fields_set):
            if name != "function":
                remedy = "Make it a gate of its own."
                raise fault(f"`function` stands alone, without `{name}`", at=(name,), remedy=remedy)

    def _check_pairs(self) -> None:
        for name, other in _NEEDS.items():
            if getattr(self, name) is not None and getattr(self, other) is None:
                remedy = f"Add `{_EXAMPLES[other]}`."
                raise fault(f"`{name}` needs `{_EXAMPLES[other]}`", at=(name,), remedy=remedy)
        if self.versus and self.min_improvement is None and self.max_ratio is None:
            asked = "max_ratio: 1.5" if self.metric in COSTS else "min_improvement: 0.0"
            name = asked.partition(":")[0]
            raise fault(f"`versus` needs `{name}`", at=("versus",), remedy=f"Add `{asked}`.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise fault("`min` is above `max`", at=("min",), remedy="Swap them.", found=f"{self.min:g}")
        if "min_support" in self.model_fields_set and not (self.slices or self.groups):
            raise fault("`min_support` is about slices and groups", at=("min_support",), remedy="Remove it.")

    def _check_costs(self) -> None:
        if self.metric in COSTS:
            for name in _OF_SCORES:
                if getattr(self, name) is not None:
                    raise fault(
                        f"`{self.metric}` has no `{name}`",
                        at=(name,),
                        remedy="Use `max`, or `versus: champion` with `max_ratio`.",
                    )
        elif self.max_ratio is not None:
            remedy = "Use `min_improvement`."
            raise fault("`max_ratio` is for latencies and sizes", at=("max_ratio",), remedy=remedy)
        if self.method == "delong" and self.metric != "roc_auc":
            raise fault(
                "`delong` is for `roc_auc` alone",
                at=("method",),
                remedy="Use `method: bootstrap`, or leave it out.",
            )

    def _check_groups(self) -> None:
        for name in ("slices", "versus"):
            if self.groups is not None and getattr(self, name) is not None:
                remedy = "Write two gates."
                raise fault(f"`groups` and `{name}` are two conditions", at=(name,), remedy=remedy)
