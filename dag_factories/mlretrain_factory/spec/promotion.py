"""What a candidate must show before it becomes the champion."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlretrain_factory.spec.gate import GateSpec
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault

Required = Literal["never", "always", "when_worse", "first"]
SmokeTest = Literal["clean", "job", "none"]
Mode = Literal["enforce", "dry_run"]


class ApprovalSpec(Section):
    """Whether a person agrees before the rollout."""

    required: Required = Field(
        default="never",
        description="`always`; `first`: while there is no champion; `when_worse`: when the candidate is "
        "worse than the champion in anything that the gates compare; `never`.",
    )
    assignees: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="Airflow users who may answer; empty: everybody who may edit the run."
    )
    timeout: Duration = Field(default=timedelta(days=1), description="How long an answer is waited for.")
    on_timeout: Literal["reject", "approve"] = Field(default="reject", description="What no answer means.")
    reason: Literal["required", "optional"] = Field(
        default="optional", description="Whether an answer without a reason counts."
    )

    @model_validator(mode="after")
    def _asks_somebody(self) -> ApprovalSpec:
        if self.required == "never":
            for name in sorted(self.model_fields_set - {"required"}):
                remedy = "Add `required: always`, or remove it."
                raise fault(f"`{name}` of an approval that nobody is asked for", at=(name,), remedy=remedy)
        if len(set(self.assignees)) < len(self.assignees):
            raise fault("a person twice", at=("assignees",), remedy="Remove one.")
        return self


class PromotionSpec(Section):
    """The gates: all must hold."""

    gates: tuple[GateSpec, ...] = Field(min_length=1, description="All must hold.")
    mode: Mode = Field(default="enforce", description="`dry_run`: judge and record, promote nothing.")
    smoke_test: SmokeTest = Field(
        default="clean",
        description="Where the packaged model has to load and answer its own example first: `clean`, an "
        "environment made of nothing but its requirements; `job`, the jobs' own; `none`.",
    )
    approval: ApprovalSpec = Field(
        default=ApprovalSpec(),
        description="Whether a person agrees before the rollout; left out: nobody is asked.",
    )
