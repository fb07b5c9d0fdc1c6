"""What must hold for the data before a model is trained on it: Great Expectations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.resources import Resources
from mlretrain_factory.spec.section import Section, fault

Severity = Literal["info", "warning", "critical"]


@lru_cache(maxsize=1)
def expectations() -> Mapping[str, list[str]]:
    """Great Expectations' core expectations and the arguments of each, without importing it."""
    table = files("mlretrain_factory.spec").joinpath("expectations.json").read_text("utf-8")
    known: dict[str, list[str]] = json.loads(table)
    return known


class ExpectationSpec(Section):
    """One expectation: its type and its arguments."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="Name of a core expectation, such as `expect_column_values_to_not_be_null`."
    )
    severity: Severity = Field(default="critical", description="Only a critical expectation fails the data.")

    @model_validator(mode="after")
    def _is_known(self) -> ExpectationSpec:
        check_expectation(self.type, self.__pydantic_extra__ or {})
        return self


def check_expectation(kind: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an unknown expectation, or an argument that it does not take."""
    known = expectations()
    if kind not in known:
        remedy = nearest(kind, known, "See greatexpectations.io/expectations.")
        raise fault("unknown expectation", at=("type",), remedy=remedy, found=f"'{kind}'")
    for name in arguments:
        if name not in known[kind]:
            allowed = ", ".join(known[kind])
            remedy = nearest(name, known[kind], "Remove it.")
            raise fault(f"`{kind}` takes no `{name}`", at=(name,), remedy=remedy, allowed=allowed)


class ValidationSpec(Section):
    """Expectations, written here or in a suite file, and what happens when one fails."""

    expectations: tuple[ExpectationSpec, ...] = Field(default=(), description="Expectations written here.")
    suite: str | None = Field(
        default=None, description="Path of a suite file (JSON), relative to this file and not above it."
    )
    on_failure: Literal["fail", "warn", "skip", "quarantine"] = Field(
        default="fail",
        description="`fail` the run, `warn` and go on, `skip` the rest, or `quarantine` the rows at fault.",
    )
    resources: Resources | None = Field(
        default=None, description="A class of the stack, or `{class, cpu, memory, gpu}`."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> ValidationSpec:
        if not self.expectations and self.suite is None:
            raise fault("nothing to validate", remedy="Add `expectations` or `suite`, or remove the section.")
        return self
