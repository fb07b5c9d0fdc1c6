"""Where a pipeline runs: ``stacks/<name>.yaml``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.section import Section, Uri, fault


def _check_variable(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, (list, dict)) for item in items):
        raise fault("a variable is one value or a list of values", remedy="Flatten it.")
    return value


Variables = dict[str, Annotated[JsonValue, BeforeValidator(_check_variable)]]
"""Values for ``${name}``: one value or a list of values each."""


def _check_backend(value: str) -> str:
    if value == "local":
        return value
    from importlib.metadata import entry_points

    known = sorted({"local", *(point.name for point in entry_points(group="mlretrain.backends"))})
    if value not in known:
        raise fault(
            "not supported by this version",
            remedy=nearest(value, known, "Choose one of these, or install the package that adds it."),
            found=f"'{value}'",
            allowed=", ".join(known),
        )
    return value


class RegistrySpec(Section):
    """The model registry."""

    conn_id: str = Field(default="mlflow_default", description="Airflow connection of type `mlflow`.")


class ServingSpec(Section):
    """The model server."""

    conn_id: str = Field(description="Airflow connection of type `mlretrain_model_server`.")


class StorageSpec(Section):
    """Access to `s3://` places."""

    conn_id: str = Field(description="Airflow connection of type `aws`.")


class StackSpec(Section):
    """Backend, artifact store, registry, serving and connections."""

    version: Literal[1] = Field(description="Version of this format.")
    backend: Annotated[str, AfterValidator(_check_backend)] = Field(
        default="local", description="Where jobs run: `local`, or an `mlretrain.backends` entry point."
    )
    artifacts_uri: Uri = Field(description="Root of the artifact store, `file:///…` or `s3://…`.")
    registry: RegistrySpec = Field(default=RegistrySpec(), description="The model registry.")
    serving: ServingSpec | None = Field(
        default=None, description="The model server; left out: nothing is served."
    )
    storage: StorageSpec | None = Field(
        default=None, description="Access to `s3://`; left out: the worker's own."
    )
    vars: Variables = Field(default={}, description="Values for `${name}`.")
    env: tuple[str, ...] = Field(default=(), description="Environment variables that `${env.NAME}` may read.")
