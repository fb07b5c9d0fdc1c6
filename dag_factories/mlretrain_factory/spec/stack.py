"""Where a pipeline runs: ``stacks/<name>.yaml``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue

from mlretrain_factory.spec.backend import BackendName, Image, KubernetesSpec, LocalSpec, SagemakerSpec
from mlretrain_factory.spec.quantity import Duration, at_least
from mlretrain_factory.spec.resources import ResourceClassSpec
from mlretrain_factory.spec.section import Section, Uri, fault
from mlretrain_factory.spec.serving import Serving

Poll = Annotated[Duration, at_least(timedelta(seconds=10))]
"""Time between two looks; Airflow 3.3 fails a task whose trigger fires within seconds of its deferral."""


def _check_variable(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, (list, dict)) for item in items):
        raise fault("a variable is one value or a list of values", remedy="Flatten it.")
    return value


Variables = dict[str, Annotated[JsonValue, BeforeValidator(_check_variable)]]
"""Values for ``${name}``: one value or a list of values each."""


class RegistrySpec(Section):
    """The model registry."""

    conn_id: str = Field(default="mlflow_default", description="Airflow connection of type `mlflow`.")


class StorageSpec(Section):
    """Access to `s3://` places."""

    conn_id: str = Field(description="Airflow connection of type `aws`.")


class TeamSpec(Section):
    """What a team has of its own."""

    artifacts_uri: Uri | None = Field(default=None, description="Root of the artifact store.")
    registry: RegistrySpec | None = Field(default=None, description="The model registry.")
    serving: dict[str, JsonValue] | None = Field(
        default=None,
        description="Laid over the stack's `serving`; with a `target`, in place of it.",
    )
    storage: StorageSpec | None = Field(default=None, description="Access to `s3://`.")
    image: Image | None = Field(default=None, description="Image of jobs.")
    poll: Poll | None = Field(default=None, description="How often a remote job is looked at.")
    deferrable: bool | None = Field(default=None, description="Whether tasks wait in the triggerer.")
    local: LocalSpec | None = Field(default=None, description="Laid over the stack's `local`.")
    kubernetes: KubernetesSpec | None = Field(default=None, description="Laid over the stack's `kubernetes`.")
    sagemaker: SagemakerSpec | None = Field(default=None, description="Laid over the stack's `sagemaker`.")
    options: dict[str, JsonValue] = Field(default={}, description="Laid over the stack's `options`.")
    resources: dict[str, ResourceClassSpec] = Field(
        default={}, description="Further resource classes, or changes to the stack's."
    )
    vars: Variables = Field(default={}, description="Values for `${name}`; they win over the stack's.")


class StackSpec(Section):
    """Backend, artifact store, registry, serving and connections."""

    version: Literal[1] = Field(description="Version of this format.")
    backend: BackendName = Field(
        default="local",
        description="Where jobs run: `local`, `kubernetes`, `sagemaker`, or a third party's entry point.",
    )
    artifacts_uri: Uri = Field(description="Root of the artifact store, `file:///…` or `s3://…`.")
    registry: RegistrySpec = Field(default=RegistrySpec(), description="The model registry.")
    serving: Serving | None = Field(
        default=None,
        description="Where models are served: `{target: local, conn_id: …}` and the target's own keys, "
        "below; left out: nowhere.",
    )
    storage: StorageSpec | None = Field(
        default=None, description="Access to `s3://`; left out: the worker's own."
    )
    image: Image | None = Field(default=None, description="Image of jobs, where the backend runs images.")
    poll: Poll | None = Field(
        default=None, description="How often a remote job is looked at, `10s` or more; left out: `15s`."
    )
    deferrable: bool | None = Field(
        default=None,
        description="Whether tasks wait in the triggerer, without a worker; left out: for remote jobs.",
    )
    local: LocalSpec | None = Field(default=None, description="How `backend: local` runs jobs.")
    kubernetes: KubernetesSpec | None = Field(
        default=None, description="How `backend: kubernetes` runs jobs."
    )
    sagemaker: SagemakerSpec | None = Field(default=None, description="How `backend: sagemaker` runs jobs.")
    options: dict[str, JsonValue] = Field(default={}, description="Options of a third party's backend.")
    resources: dict[str, ResourceClassSpec] = Field(
        default={}, description="Resource classes by name; `default` is that of steps which name none."
    )
    teams: dict[str, TeamSpec] = Field(
        default={}, description="What is laid over all this for the pipelines of a team."
    )
    vars: Variables = Field(default={}, description="Values for `${name}`.")
    env: tuple[str, ...] = Field(default=(), description="Environment variables that `${env.NAME}` may read.")

    @property
    def section(self) -> LocalSpec | KubernetesSpec | SagemakerSpec | None:
        """The section of the chosen backend; none for a third party's."""
        match self.backend:
            case "local":
                return self.local or LocalSpec()
            case "kubernetes":
                return self.kubernetes or KubernetesSpec()
            case "sagemaker":
                return self.sagemaker or SagemakerSpec()
        return None
