"""What the platform demands of pipelines: ``policies/*.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlretrain.gates.guard import GuardMetric
from mlretrain_factory.spec.deployment import Strategy
from mlretrain_factory.spec.gate import GateMetric
from mlretrain_factory.spec.section import Entrypoint, Section, fault

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[int, Field(ge=1, le=100)]


class AppliesToSpec(Section):
    """Which pipelines: any match counts."""

    tiers: tuple[int, ...] | None = Field(default=None, min_length=1, description="Their `tier`.")
    tags: tuple[Text, ...] | None = Field(default=None, min_length=1, description="One of their `tags`.")
    owners: tuple[Text, ...] | None = Field(default=None, min_length=1, description="Their `owner`.")
    pipelines: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="Their names, with `*` and `?`."
    )


class RequiredApprovalSpec(Section):
    """A person who agrees."""

    required: Literal["always", "when_worse", "first"] = Field(
        description="`promote.approval.required` is this, or `always`."
    )
    assignees: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="The pipeline's assignees are among these."
    )
    on_timeout: Literal["reject"] | None = Field(default=None, description="No answer means no.")
    reason: Literal["required"] | None = Field(default=None, description="An answer needs a reason.")


class RequiredGateSpec(Section):
    """A condition that one of the gates covers: as strict in what it says, and in the rest at will."""

    metric: GateMetric | None = Field(default=None, description="Left out: whichever.")
    min: float | None = Field(default=None, description="At least this is asked.")
    max: float | None = Field(default=None, description="At most this is allowed.")
    versus: Literal["champion"] | None = Field(
        default=None, description="Compared with the champion; without a bound: no worse than it."
    )
    min_improvement: float | None = Field(default=None, description="At least this is asked.")
    confidence: float | None = Field(default=None, gt=0.5, lt=1, description="At least so sure.")
    method: Literal["bootstrap", "delong"] | None = Field(default=None, description="Left out: either.")
    max_ratio: float | None = Field(default=None, gt=0, description="At most this is allowed.")
    slices: Literal["all"] | None = Field(default=None, description="In every slice.")
    max_drop: float | None = Field(default=None, ge=0, description="At most this is allowed.")
    groups: Text | None = Field(default=None, description="Between the groups of this column.")
    max_gap: float | None = Field(default=None, ge=0, description="At most this is allowed.")
    min_support: int | None = Field(
        default=None, ge=1, description="Slices and groups of so many rows are judged; left out: of 100."
    )
    function: Entrypoint | None = Field(default=None, description="This function decides.")

    @model_validator(mode="after")
    def _says_something(self) -> RequiredGateSpec:
        if not self.model_fields_set:
            raise fault(
                "a gate that says nothing", remedy="Add one.", allowed=", ".join(type(self).model_fields)
            )
        return self


class RequiredGuardSpec(Section):
    """A guard that one of the guards covers."""

    metric: GuardMetric = Field(description="What is watched.")
    max: float | None = Field(default=None, ge=0, description="At most this is allowed.")
    versus: Literal["champion"] | None = Field(default=None, description="Compared with the champion.")
    max_increase: float | None = Field(default=None, ge=0, description="At most this is allowed.")
    max_ratio: float | None = Field(default=None, ge=1, description="At most this is allowed.")


def _read_guard(value: object) -> object:
    return RequiredGuardSpec.model_validate({"metric": value}) if isinstance(value, str) else value


RequiredGuard = Annotated[
    RequiredGuardSpec, BeforeValidator(_read_guard, json_schema_input_type=RequiredGuardSpec | GuardMetric)
]
"""The name of a metric, or a mapping."""


class RequireSpec(Section):
    """What is demanded; what is left out is free."""

    mode: Literal["enforce"] | None = Field(default=None, description="Gates that reject.")
    strategies: tuple[Strategy, ...] | None = Field(
        default=None, min_length=1, description="`deploy.strategy` is one of these."
    )
    approval: RequiredApprovalSpec | None = Field(default=None, description="A person who agrees.")
    gates: tuple[RequiredGateSpec, ...] | None = Field(
        default=None, min_length=1, description="One of the pipeline's gates covers each."
    )
    guards: tuple[RequiredGuard, ...] | None = Field(
        default=None,
        min_length=1,
        description="One of the pipeline's guards covers each; the name of a metric is enough.",
    )
    smoke_test: Literal["job", "clean"] | None = Field(
        default=None, description="`clean`, or at least `job`."
    )
    stages: tuple[Share, ...] | None = Field(
        default=None,
        min_length=1,
        description="Shares of the traffic that are among its stages, in this order.",
    )
    first_stage_at_most: Share | None = Field(
        default=None, description="The largest share, in percent, that a candidate answers first."
    )

    @model_validator(mode="after")
    def _demands_something(self) -> RequireSpec:
        if not self.model_fields_set:
            known = ", ".join(type(self).model_fields)
            raise fault("a policy that demands nothing", remedy="Add one.", allowed=known)
        return self


class PolicySpec(Section):
    """A policy of the platform, which no pipeline can loosen."""

    version: Literal[1] = Field(description="Version of this format.")
    policy: Text = Field(description="Its name; the file is `policies/<name>.yaml`.")
    description: str = Field(default="", description="What it is for; shown where it is not met.")
    applies_to: AppliesToSpec | None = Field(
        default=None, description="Which pipelines; left out: all of them."
    )
    require: RequireSpec = Field(description="What is demanded of them.")
