"""How a candidate is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Entrypoint, Section, Unsupported, fault


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
    image: Unsupported = Field(
        default=None, description="A container image to train in. Not in this version."
    )
    tune: Unsupported = Field(default=None, description="Search for hyper-parameters. Not in this version.")
    resources: Unsupported = Field(default=None, description="CPU, memory and GPU. Not in this version.")
    environment: Unsupported = Field(
        default=None, description="The job's Python packages. Not in this version."
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
