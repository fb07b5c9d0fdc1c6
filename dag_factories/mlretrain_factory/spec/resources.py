"""What a job may use: classes that a stack defines, and what a step asks for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue

from mlretrain_factory.spec.backend import KubernetesSpec, LocalSpec, SagemakerSpec
from mlretrain_factory.spec.quantity import Cpu, Size
from mlretrain_factory.spec.section import Section

DEFAULT_CLASS = "default"
"""The class of the steps that name none."""


class _Quantities(Section):
    cpu: Cpu | None = Field(default=None, description="Cores; left out: the class's, else no demand.")
    memory: Size | None = Field(
        default=None, description="Memory, such as `4Gi`; left out: the class's, else no demand."
    )
    gpu: int | None = Field(
        default=None, ge=0, le=64, description="Accelerators; left out: the class's, else 0."
    )


class ResourceClassSpec(_Quantities):
    """A named size of jobs, and how each backend makes one."""

    local: LocalSpec | None = Field(default=None, description="Laid over the stack's `local`.")
    kubernetes: KubernetesSpec | None = Field(default=None, description="Laid over the stack's `kubernetes`.")
    sagemaker: SagemakerSpec | None = Field(default=None, description="Laid over the stack's `sagemaker`.")
    options: dict[str, JsonValue] = Field(default={}, description="Laid over the stack's `options`.")


class ResourcesSpec(_Quantities):
    """What a step's job may use."""

    name: str | None = Field(
        default=None,
        alias="class",
        description="A class of the stack's `resources`; left out: `default`, if there is one.",
    )


class TrainingResourcesSpec(ResourcesSpec):
    """What a training may use."""

    nodes: int = Field(
        default=1, ge=1, le=256, description="Copies that train together, where the backend can."
    )


def _read_class(value: Any) -> Any:
    return TrainingResourcesSpec.model_validate({"class": value}) if isinstance(value, str) else value


Resources = Annotated[ResourcesSpec, BeforeValidator(_read_class, json_schema_input_type=ResourcesSpec | str)]
"""The name of a class, or a mapping."""

TrainingResources = Annotated[
    TrainingResourcesSpec,
    BeforeValidator(_read_class, json_schema_input_type=TrainingResourcesSpec | str),
]
"""The name of a class, or a mapping that may also ask for nodes."""
