"""How a promoted model gets the traffic."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault, later


class StageSpec(Section):
    """One step of a rollout."""

    traffic: int = Field(ge=1, le=100, description="The candidate's share of the traffic, in percent.")
    bake: Duration = Field(default=timedelta(minutes=10), description="How long it is watched.")


class GuardSpec(Section):
    """What rolls a candidate back when it is exceeded."""

    metric: Literal["error_rate", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"] = Field(
        description="Measured by the model server, for the candidate alone."
    )
    max: float = Field(ge=0, description="Above this the candidate is rolled back.")


class DeploymentSpec(Section):
    """The rollout."""

    strategy: Annotated[Literal["direct", "canary", "none"], later("blue_green", "shadow")] = Field(
        default="none",
        description="`canary`: in stages; `direct`: all traffic at once; `none`: only the alias moves.",
    )
    stages: tuple[StageSpec, ...] = Field(
        default=(), description="Canary: growing shares below 100. Direct with guards: one stage at 100."
    )
    guards: tuple[GuardSpec, ...] = Field(default=(), description="All are checked in every stage.")
    min_requests: int = Field(default=20, ge=1, description="A stage with fewer requests is not judged yet.")

    @model_validator(mode="after")
    def _fits_the_strategy(self) -> DeploymentSpec:
        match self.strategy:
            case "canary":
                self._check_canary()
            case "direct":
                self._check_direct()
            case "none" if self.stages or self.guards:
                given = "stages" if self.stages else "guards"
                raise fault(
                    f"`strategy: none` has no {given}", at=(given,), remedy="Choose `direct` or `canary`."
                )
        return self

    def _check_canary(self) -> None:
        shares = [stage.traffic for stage in self.stages]
        if not shares:
            raise fault(
                "a canary needs stages", at=("strategy",), remedy="Add `stages: [{traffic: 10, bake: 10m}]`."
            )
        if not self.guards:
            raise fault(
                "a canary needs guards",
                at=("strategy",),
                remedy="Add `guards: [{metric: error_rate, max: 0.01}]`.",
            )
        for i, share in enumerate(shares):
            if share == 100 or (i and share <= shares[i - 1]):
                raise fault(
                    "the stages of a canary grow and stay below 100",
                    at=("stages", i, "traffic"),
                    remedy="Promotion gives it 100 percent.",
                    found=str(share),
                )

    def _check_direct(self) -> None:
        if [stage.traffic for stage in self.stages] not in ([], [100]):
            raise fault("`direct` has one stage, at 100", at=("stages",), remedy="Choose `canary` for more.")
        if bool(self.stages) != bool(self.guards):
            given, other = ("stages", "guards") if self.stages else ("guards", "stages")
            raise fault(
                f"`{given}` of a direct rollout need `{other}`", at=(given,), remedy=f"Add `{other}`."
            )
