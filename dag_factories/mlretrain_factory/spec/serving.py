"""Where models are served: one typed section for each target of ours; the same words as its options."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag, WithJsonSchema, model_validator

from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.backend import (
    AbsolutePath,
    Image,
    InstanceType,
    KubernetesObject,
    RoleArn,
    S3Uri,
)
from mlretrain_factory.spec.environ import Environ, refuse_secrets_below
from mlretrain_factory.spec.quantity import Cpu, Duration, Size
from mlretrain_factory.spec.section import Section, fault

TARGETS = ("local", "kubernetes", "kserve", "sagemaker", "batch")
"""Targets that have a section of their own."""

_KUBERNETES = "Airflow connection of type `kubernetes`; left out: `kubernetes_default`."


@cache
def third_parties() -> frozenset[str]:
    """Targets that other packages have registered; read once, for it takes milliseconds."""
    from importlib.metadata import entry_points

    return frozenset(point.name for point in entry_points(group="mlretrain.targets"))


def _check_target(value: str) -> str:
    known = sorted({*TARGETS, *third_parties()})
    if value not in known:
        raise fault(
            "unknown target",
            remedy=nearest(value, known, "Choose one of these, or install the package that adds it."),
            found=f"'{value}'",
            allowed=", ".join(known),
        )
    return value


class LocalServingSpec(Section):
    """`target: local`: the model server of this package, `mlretrain serve`."""

    target: Literal["local"] = Field(default="local", description="Left out: `local`.")
    conn_id: str = Field(min_length=1, description="Airflow connection of type `mlretrain_model_server`.")


class ServingResourcesSpec(Section):
    """What one replica may use."""

    cpu: Cpu | None = Field(default=None, description="Cores.")
    memory: Size | None = Field(default=None, description="Memory, such as `1Gi`.")
    gpu: int | None = Field(default=None, ge=0, le=64, description="Accelerators.")


class ClusterServingSpec(Section):
    """What both targets on a cluster have."""

    target: str
    conn_id: str | None = Field(default=None, min_length=1, description=_KUBERNETES)
    namespace: str | None = Field(default=None, description="Left out: the connection's, else `default`.")
    image: Image | None = Field(
        default=None,
        description="Image of the model server, with what the models need; left out: the stack's.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="Left out: Kubernetes' own rule."
    )
    image_pull_secrets: tuple[str, ...] = Field(default=(), description="Names of registry secrets.")
    replicas: int | None = Field(default=None, ge=1, le=1000, description="Pods of a version; left out: `1`.")
    port: int | None = Field(
        default=None, ge=1, le=65_535, description="Port of the servers; left out: `8080`."
    )
    resources: ServingResourcesSpec | None = Field(default=None, description="What one pod may use.")
    gpu_resource: str | None = Field(
        default=None, description="What `gpu` asks for; left out: `nvidia.com/gpu`."
    )
    service_account: str | None = Field(default=None, description="Left out: the namespace's default.")
    env_secret: str | None = Field(
        default=None,
        description="A Secret whose entries become environment variables: `MLFLOW_TRACKING_URI`, S3's keys.",
    )
    env: Environ = Field(default={}, description="Further environment variables; no secrets.")
    volumes: tuple[KubernetesObject, ...] = Field(default=(), description="Volumes of the pods.")
    volume_mounts: tuple[KubernetesObject, ...] = Field(default=(), description="Where they are mounted.")
    labels: dict[str, str] = Field(default={}, description="Further labels of what is created.")
    annotations: dict[str, str] = Field(default={}, description="Annotations of the pods.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node must have.")
    tolerations: tuple[KubernetesObject, ...] = Field(default=(), description="Taints that are accepted.")
    priority_class: str | None = Field(default=None, description="Priority class of the pods.")
    pod_template: Annotated[KubernetesObject, AfterValidator(refuse_secrets_below)] = Field(
        default={}, description="`metadata` and `spec` laid over the pods; lists are merged by `name`."
    )
    command: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="What starts a server; left out: `python -m mlretrain.serving`.",
    )
    log_dir: AbsolutePath | None = Field(
        default=None,
        description="Folder of the prediction log in a pod; below a volume, if it is to be kept.",
    )
    drain: Duration | None = Field(
        default=None, description="How long a pod answers after it was told to end; left out: `5s`."
    )
    ready_timeout: Duration | None = Field(
        default=None, description="How long a version may take to be ready; left out: `10m`."
    )


class KubernetesServingSpec(ClusterServingSpec):
    """`target: kubernetes`: a Deployment for each version, behind a Service or a Gateway."""

    target: Literal["kubernetes"] = Field(description="`kubernetes`.")
    max_replicas: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="Pods whose numbers are the shares of traffic; left out: `10`.",
    )
    gateway: str | None = Field(
        default=None,
        description="A Gateway, `namespace/name`, that splits and mirrors requests; left out: numbers of "
        "pods do.",
    )
    hostnames: tuple[str, ...] = Field(
        default=(), description="What the route answers to; empty: everything."
    )


class KserveServingSpec(ClusterServingSpec):
    """`target: kserve`: one InferenceService."""

    target: Literal["kserve"] = Field(description="`kserve`.")


class SagemakerServingSpec(Section):
    """`target: sagemaker`: an endpoint with a variant for each version."""

    target: Literal["sagemaker"] = Field(description="`sagemaker`.")
    conn_id: str | None = Field(
        default=None, min_length=1, description="Airflow connection of type `aws`; left out: `aws_default`."
    )
    role_arn: RoleArn = Field(description="IAM role of the containers; it reads the models.")
    image: Image = Field(description="Image of the containers, in ECR: one that serves MLflow's models.")
    instance_type: InstanceType = Field(description="Such as `ml.m5.large`.")
    instance_count: int | None = Field(
        default=None, ge=1, le=1000, description="Instances of a version; left out: `1`."
    )
    endpoint_prefix: str | None = Field(
        default=None, description="Before the model's name in the endpoint's; left out: nothing."
    )
    model_s3_uri: S3Uri | None = Field(
        default=None,
        description="Folder of the packed models; left out: `<artifacts_uri>/<pipeline>/sagemaker`.",
    )
    kms_key: str | None = Field(default=None, description="Key of the packed models.")
    volume_kms_key: str | None = Field(default=None, description="Key of the instances' disks.")
    subnets: tuple[str, ...] = Field(default=(), description="Subnets of the VPC; left out: no VPC.")
    security_group_ids: tuple[str, ...] = Field(default=(), description="Security groups in the VPC.")
    network_isolation: bool = Field(
        default=False, description="Containers reach nothing; the image brings all that a model needs."
    )
    env: Environ = Field(default={}, description="Environment variables of the containers; no secrets.")
    tags: dict[str, str] = Field(default={}, description="Further tags.")
    alarms: tuple[str, ...] = Field(
        default=(), max_length=10, description="CloudWatch alarms that call an update off."
    )
    alarm_wait: Duration | None = Field(
        default=None, description="How long they are watched after all requests have moved; left out: `5m`."
    )
    ready_timeout: Duration | None = Field(
        default=None, description="The longest wait for one change of an endpoint; left out: `1h`."
    )
    startup_timeout: Duration | None = Field(
        default=None, description="How long a container may take to start; left out: AWS's own time."
    )

    @model_validator(mode="after")
    def _is_in_a_vpc_or_not(self) -> SagemakerServingSpec:
        if bool(self.subnets) != bool(self.security_group_ids):
            given, other = ("subnets", "security_group_ids")[:: 1 if self.subnets else -1]
            raise fault(f"`{given}` need `{other}`", at=(given,), remedy=f"Add `{other}`.")
        return self


class BatchServingSpec(Section):
    """`target: batch`: a scoring DAG, and no server."""

    target: Literal["batch"] = Field(description="`batch`.")


class OtherServingSpec(Section):
    """A third party's target."""

    target: Annotated[
        str,
        AfterValidator(_check_target),
        WithJsonSchema({"type": "string", "not": {"enum": list(TARGETS)}}),
    ] = Field(description="An entry point of the group `mlretrain.targets`.")
    conn_id: str | None = Field(default=None, min_length=1, description="Its Airflow connection.")
    options: dict[str, JsonValue] = Field(default={}, description="Its own options.")


ServingSpec = (
    LocalServingSpec
    | KubernetesServingSpec
    | KserveServingSpec
    | SagemakerServingSpec
    | BatchServingSpec
    | OtherServingSpec
)


def _target(value: Any) -> str:
    target = value.get("target", "local") if isinstance(value, Mapping) else getattr(value, "target", "local")
    return target if target in TARGETS else "other"


Serving = Annotated[
    Annotated[LocalServingSpec, Tag("local")]
    | Annotated[KubernetesServingSpec, Tag("kubernetes")]
    | Annotated[KserveServingSpec, Tag("kserve")]
    | Annotated[SagemakerServingSpec, Tag("sagemaker")]
    | Annotated[BatchServingSpec, Tag("batch")]
    | Annotated[OtherServingSpec, Tag("other")],
    Discriminator(_target),
]
"""A mapping of the section that its `target` names."""
