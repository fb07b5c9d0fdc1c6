"""Where jobs run, and how: one typed section for each backend of ours; the same words as its options."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.environ import Environ, refuse_secrets_below
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, fault, text

OURS = ("local", "kubernetes", "sagemaker")
"""Backends that have a section of their own."""


@cache
def third_parties() -> frozenset[str]:
    """Backends that other packages have registered; read once, for it takes milliseconds."""
    from importlib.metadata import entry_points

    return frozenset(point.name for point in entry_points(group="mlretrain.backends"))


def _check_backend(value: str) -> str:
    if value in OURS:
        return value
    known = sorted({*OURS, *third_parties()})
    if value not in known:
        raise fault(
            "unknown backend",
            remedy=nearest(value, known, "Choose one of these, or install the package that adds it."),
            found=f"'{value}'",
            allowed=", ".join(known),
        )
    return value


BackendName = Annotated[str, AfterValidator(_check_backend)]
"""One of ours, or an entry point of the group ``mlretrain.backends``."""

_IMAGE = re.compile(r"[a-z0-9][a-z0-9._-]*(:\d+)?(/[a-z0-9._-]+)*(:[\w.-]{1,128})?(@sha256:[0-9a-f]{64})?")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")


def is_image(value: str) -> bool:
    """Whether a text can name a container image."""
    return bool(_IMAGE.fullmatch(value))


Image = Annotated[
    str,
    text(
        is_image,
        "not a container image",
        "Write `registry/name:tag`, such as `registry.example/team/flights:3`.",
    ),
]
"""A container image: ``registry/name:tag``."""

AbsolutePath = Annotated[
    str, text(lambda value: value.startswith("/"), "not an absolute path", "Start it with `/`.")
]
S3Uri = Annotated[
    str, text(lambda value: value.startswith("s3://"), "not a place in S3", "Write `s3://bucket/path`.")
]
RoleArn = Annotated[
    str,
    text(
        lambda value: bool(_ROLE.fullmatch(value)),
        "not the ARN of a role",
        "Write `arn:aws:iam::<account>:role/<name>`.",
    ),
]
InstanceType = Annotated[
    str,
    text(
        lambda value: bool(re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", value)),
        "not a SageMaker instance type",
        "Write one such as `ml.m5.xlarge`.",
    ),
]
KubernetesObject = dict[str, JsonValue]
"""A part of a manifest, in Kubernetes' own words."""


class LocalSpec(Section):
    """Jobs as processes of the worker's machine."""

    grace: Duration | None = Field(
        default=None, description="Time between asking a job to stop and killing it; left out: `10s`."
    )
    state_dir: AbsolutePath | None = Field(
        default=None, description="Folder of the jobs' logs and states; left out: a private temporary one."
    )
    environments_dir: AbsolutePath | None = Field(
        default=None, description="Folder of the virtual environments made for `train.environment`."
    )


class KubernetesSpec(Section):
    """One Kubernetes Job per step."""

    conn_id: str | None = Field(
        default=None, description="Airflow connection of type `kubernetes`; left out: `kubernetes_default`."
    )
    namespace: str | None = Field(default=None, description="Left out: the connection's, else `default`.")
    image: Image | None = Field(default=None, description="Image of the jobs; left out: the stack's.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="Left out: Kubernetes' own rule."
    )
    image_pull_secrets: tuple[str, ...] = Field(default=(), description="Names of registry secrets.")
    service_account: str | None = Field(default=None, description="Left out: the namespace's default.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node must have.")
    tolerations: tuple[KubernetesObject, ...] = Field(default=(), description="Taints that are accepted.")
    labels: dict[str, str] = Field(default={}, description="Further labels of the job and its pods.")
    annotations: dict[str, str] = Field(default={}, description="Annotations of the pods.")
    env: Environ = Field(default={}, description="Environment variables of the jobs; no secrets.")
    env_from_secrets: tuple[str, ...] = Field(
        default=(), description="Secrets whose entries become environment variables."
    )
    env_from_config_maps: tuple[str, ...] = Field(
        default=(), description="Config maps whose entries become environment variables."
    )
    volumes: tuple[KubernetesObject, ...] = Field(default=(), description="Volumes of the pod.")
    volume_mounts: tuple[KubernetesObject, ...] = Field(default=(), description="Where they are mounted.")
    pod_template: Annotated[KubernetesObject, AfterValidator(refuse_secrets_below)] = Field(
        default={}, description="`metadata` and `spec` laid over the pod; lists are merged by `name`."
    )
    queue: str | None = Field(
        default=None, description="Kueue's LocalQueue, which decides when a job starts."
    )
    priority_class: str | None = Field(default=None, description="Priority class of the pods.")
    gpu_resource: str | None = Field(
        default=None, description="What `gpu` asks for; left out: `nvidia.com/gpu`."
    )
    command: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Command of the container; left out: the step's runner."
    )
    ttl: Duration | None = Field(
        default=None, description="How long an ended job stays to be looked at; left out: `1d`."
    )
    grace: Duration | None = Field(
        default=None, description="Time a job has to stop before it is killed; left out: `30s`."
    )
    startup_timeout: Duration | None = Field(
        default=None, description="How long a pod may take to start; left out: `10m`."
    )


class SpotSpec(Section):
    """Spare capacity: cheaper, and may be taken away; a training goes on from its checkpoints."""

    max_wait: Duration | None = Field(
        default=None, description="How long a training may wait for capacity in all; left out: `4h`."
    )


class SagemakerSpec(Section):
    """One SageMaker training or processing job per step."""

    conn_id: str | None = Field(
        default=None, description="Airflow connection of type `aws`; left out: `aws_default`."
    )
    role_arn: RoleArn | None = Field(
        default=None, description="IAM role of the jobs; it reads and writes the artifacts."
    )
    image: Image | None = Field(default=None, description="Image of the jobs, in ECR; left out: the stack's.")
    instance_type: InstanceType | None = Field(
        default=None, description="Such as `ml.m5.xlarge`; it decides about cores, memory and GPUs."
    )
    job: Literal["auto", "training", "processing"] | None = Field(
        default=None, description="Left out, or `auto`: training jobs train, processing jobs do the rest."
    )
    volume_gb: int | None = Field(
        default=None, ge=1, le=16_384, description="Disk of an instance, in GB; left out: `30`."
    )
    spot: SpotSpec | None = Field(
        default=None, description="Train on spare capacity, such as `{max_wait: 4h}`."
    )
    subnets: tuple[str, ...] = Field(default=(), description="Subnets of the VPC; left out: no VPC.")
    security_group_ids: tuple[str, ...] = Field(default=(), description="Security groups in the VPC.")
    kms_key: str | None = Field(default=None, description="Key of the outputs.")
    volume_kms_key: str | None = Field(default=None, description="Key of the instances' disks.")
    encrypt_traffic: bool = Field(default=False, description="Encrypt what several nodes say to each other.")
    network_isolation: bool = Field(
        default=False, description="Refused: an isolated job cannot reach its request."
    )
    tags: dict[str, str] = Field(default={}, description="Further tags of the jobs.")
    channels: dict[str, S3Uri] = Field(
        default={}, description="Further S3 prefixes by name, copied to `SM_CHANNEL_<NAME>`."
    )
    env: Environ = Field(default={}, description="Environment variables of the jobs; no secrets.")
    secrets_arn: str | None = Field(
        default=None, description="A secret of Secrets Manager, JSON of names and values, read by the job."
    )
    log_lines: int | None = Field(
        default=None, ge=0, le=10_000, description="Last lines of the log in an error; left out: `50`."
    )
