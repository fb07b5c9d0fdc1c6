"""How a candidate is trained."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, WithJsonSchema, model_validator

from mlretrain_factory.spec.backend import Image
from mlretrain_factory.spec.environ import looks_secret
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.resources import TrainingResources
from mlretrain_factory.spec.section import Entrypoint, Section, fault, refuse, text
from mlretrain_factory.spec.tuning import TuningSpec

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]\n]*\])?\s*([<>=!~(@;][^\n]*)?")


def _is_requirement(value: str) -> bool:
    return bool(_REQUIREMENT.fullmatch(value)) and not looks_secret(value)


Requirement = Annotated[
    str,
    text(
        _is_requirement,
        "not a requirement, or one that holds a password",
        "Write `name==version`; options and indexes belong into pip's own settings.",
        secret=True,
    ),
]
"""A package as pip writes it: ``xgboost==3.1``."""


_ForeignImage = Annotated[
    None,
    refuse("Give `entrypoint` or `command`, and the image as `environment: {image: …}`."),
    WithJsonSchema({"type": "null"}),
]


class EnvironmentSpec(Section):
    """What a training needs beside its code; candidate and champion are evaluated in the same."""

    requirements: tuple[Requirement, ...] = Field(
        default=(),
        description="Packages: of a cached virtual environment (`local`), of `mlretrain image` (others).",
    )
    image: Image | None = Field(
        default=None, description="Container image, where the stack's backend runs images."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> EnvironmentSpec:
        if not self.requirements and self.image is None:
            raise fault("an empty environment", remedy="Add `requirements` or `image`, or remove it.")
        return self


class TrainingSpec(Section):
    """The user's function or command."""

    entrypoint: Entrypoint | None = Field(
        default=None, description="`package.module:function`; `def train(ctx: TrainContext) -> model`."
    )
    command: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Instead: a command that logs its model to the run named by `MLFLOW_RUN_ID`. Templated.",
    )
    params: dict[str, JsonValue] = Field(
        default={}, description="Given to the training as `ctx.params`. Templated."
    )
    prediction_method: Literal["predict", "predict_proba"] = Field(
        default="predict", description="What the logged model answers with."
    )
    timeout: Duration | None = Field(
        default=None, description="How long one try may take; left out: no limit."
    )
    retries: int = Field(
        default=2, ge=0, le=20, description="Further tries when a failure may pass by itself."
    )
    image: _ForeignImage = Field(
        default=None, description="A container instead of both. Not in this version; see `environment.image`."
    )
    environment: EnvironmentSpec | None = Field(
        default=None, description="Packages and image; left out: the worker's, or the stack's image."
    )
    resources: TrainingResources | None = Field(
        default=None, description="A class of the stack, or `{class, cpu, memory, gpu, nodes}`."
    )
    tune: TuningSpec | None = Field(
        default=None, description="Search for parameters first; left out: train with `params` as they are."
    )

    @model_validator(mode="after")
    def _one_of(self) -> TrainingSpec:
        if (self.entrypoint is None) == (self.command is None):
            raise fault(
                "training is one function or one command",
                remedy="Give exactly one.",
                allowed="entrypoint, or command",
            )
        return self
