"""How a promoted model gets the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.data import Format
from mlretrain_factory.spec.guard import COMPARED, GuardSpec
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, Uri, fault

Strategy = Literal["direct", "canary", "blue_green", "shadow", "none"]
_WATCHED = ("canary", "blue_green", "shadow")
_EXAMPLES = {
    "canary": "stages: [{traffic: 10, bake: 10m}]",
    "blue_green": "stages: [{traffic: 100, bake: 10m}]",
    "shadow": "stages: [{traffic: 100, bake: 1h}]",
}


class StageSpec(Section):
    """One step of a rollout."""

    traffic: int = Field(
        ge=1,
        le=100,
        description="The candidate's share of the requests, in percent; shadow: of their copies.",
    )
    bake: Duration = Field(default=timedelta(minutes=10), description="How long it is watched.")


class PredictionLogSpec(Section):
    """Where the target writes what was asked and answered."""

    uri: Uri = Field(description="A file, a glob or a folder, `file:///…` or `s3://…`. Templated.")
    time_column: str = Field(
        default="served_at", min_length=1, description="Column with the time of each answer."
    )
    format: Format | None = Field(default=None, description="Left out: by the files' names.")


class DeploymentSpec(Section):
    """The rollout."""

    strategy: Strategy = Field(
        default="none",
        description="`canary`: in stages; `blue_green`: all at once, the old one kept ready; `shadow`: "
        "copies of requests first, nothing served; `direct`: all traffic at once; `none`: only the alias "
        "moves.",
    )
    stages: tuple[StageSpec, ...] = Field(
        default=(),
        description="Canary: growing shares below 100. Blue-green, and direct with guards: one at 100. "
        "Shadow: one, of the share that is mirrored.",
    )
    guards: tuple[GuardSpec, ...] = Field(default=(), description="All are checked in every stage.")
    min_requests: int = Field(default=20, ge=1, description="A stage with fewer requests is not judged yet.")
    predictions: PredictionLogSpec | None = Field(
        default=None, description="The prediction log, for `prediction_shift`; left out: `monitor.data.uri`."
    )

    @model_validator(mode="after")
    def _fits_the_strategy(self) -> DeploymentSpec:
        if self.strategy in _WATCHED:
            self._check_watched(self.strategy)
        match self.strategy:
            case "canary":
                self._check_canary([stage.traffic for stage in self.stages])
            case "blue_green":
                self._check_one_stage("`blue_green` has one stage, at 100", only=100)
            case "shadow":
                self._check_one_stage("`shadow` has one stage")
            case "direct":
                self._check_direct()
            case "none" if self.stages or self.guards:
                given = "stages" if self.stages else "guards"
                remedy = "Choose `direct` or `canary`."
                raise fault(f"`strategy: none` has no {given}", at=(given,), remedy=remedy)
        self._check_compared()
        return self

    def _check_watched(self, strategy: str) -> None:
        name = {"canary": "a canary", "blue_green": "a blue-green rollout"}.get(strategy, "a shadow")
        if not self.stages:
            remedy = f"Add `{_EXAMPLES[strategy]}`."
            raise fault(f"{name} needs stages", at=("strategy",), remedy=remedy)
        if not self.guards:
            remedy = "Add `guards: [{metric: error_rate, max: 0.01}]`."
            raise fault(f"{name} needs guards", at=("strategy",), remedy=remedy)

    def _check_canary(self, shares: Sequence[int]) -> None:
        for i, share in enumerate(shares):
            if share == 100 or (i and share <= shares[i - 1]):
                raise fault(
                    "the stages of a canary grow and stay below 100",
                    at=("stages", i, "traffic"),
                    remedy="Promotion gives it 100 percent.",
                    found=str(share),
                )

    def _check_one_stage(self, message: str, *, only: int | None = None) -> None:
        if len(self.stages) > 1:
            raise fault(message, at=("stages", 1), remedy="Choose `canary` for more.")
        if only is not None and self.stages[0].traffic != only:
            found = str(self.stages[0].traffic)
            remedy = "Choose `canary` for a share."
            raise fault(message, at=("stages", 0, "traffic"), remedy=remedy, found=found)

    def _check_direct(self) -> None:
        if [stage.traffic for stage in self.stages] not in ([], [100]):
            raise fault("`direct` has one stage, at 100", at=("stages",), remedy="Choose `canary` for more.")
        if bool(self.stages) != bool(self.guards):
            given, other = ("stages", "guards") if self.stages else ("guards", "stages")
            raise fault(
                f"`{given}` of a direct rollout need `{other}`", at=(given,), remedy=f"Add `{other}`."
            )

    def _check_compared(self) -> None:
        for i, guard in enumerate(self.guards):
            beside = guard.versus is not None or guard.metric == "prediction_shift"
            if beside and self.strategy in ("direct", "blue_green"):
                raise fault(
                    "a guard beside a champion that answers nothing",
                    at=("guards", i, "versus" if guard.versus else "metric"),
                    remedy="Give it a `max` of its own, or choose `canary` or `shadow`.",
                    found=f"`strategy: {self.strategy}` gives the candidate all requests",
                )
            if guard.metric in COMPARED and self.strategy != "shadow":
                raise fault(
                    "answers are compared in a shadow only",
                    at=("guards", i, "metric"),
                    remedy="Choose `strategy: shadow`, or another guard.",
                    found=f"'{guard.metric}'",
                )
