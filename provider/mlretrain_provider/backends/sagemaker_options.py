"""The settings of SageMaker jobs; what cannot work together is refused before money is spent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec

Kind = Literal["training", "processing"]

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@/-]+")
_TRAINING_STEPS = {"train", "trial"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SagemakerOptions:
    """The settings of ``SagemakerBackend``, which explains them."""

    role_arn: str
    image: str | None = None
    instance_type: str | None = None
    job: str = "auto"
    volume_gb: int = 30
    spot: Mapping[str, Any] | None = None
    subnets: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    kms_key: str | None = None
    volume_kms_key: str | None = None
    encrypt_traffic: bool = False
    network_isolation: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets_arn: str | None = None


def kind_of(spec: JobSpec, options: SagemakerOptions) -> Kind:
    """Whether the job is a training job or a processing job."""
    match options.job:
        case "training":
            return "training"
        case "processing":
            return "processing"
        case "auto":
            return "training" if spec.labels.get("step") in _TRAINING_STEPS else "processing"
        case other:
            raise wrong("job", repr(other), "auto, training, processing")


def check(spec: JobSpec, options: SagemakerOptions) -> None:
    """Raises :class:`~mlretrain.errors.ConfigError` for a job that cannot work with these settings."""
    check_account(options.role_arn, options.subnets, options.security_group_ids)
    if not is_s3(spec.request_uri):
        raise ConfigError(
            "a SageMaker job cannot read its request",
            found=spec.request_uri,
            allowed="s3://<bucket>/<key>",
            remedy="Set the stack's artifacts_uri to a folder in S3.",
        )
    if options.network_isolation:
        raise ConfigError(
            "an isolated job cannot reach S3, where its request is and its report belongs",
            where="sagemaker.network_isolation",
            remedy="Set subnets and security_group_ids of a VPC whose only way out is an S3 endpoint.",
        )


def check_account(role_arn: str, subnets: Sequence[str], security_group_ids: Sequence[str]) -> None:
    """Raises :class:`~mlretrain.errors.ConfigError` for what can be no role, or half a VPC."""
    if not _ROLE.fullmatch(role_arn):
        raise wrong("role_arn", repr(role_arn), "arn:aws:iam::<account>:role/<name>")
    if bool(subnets) != bool(security_group_ids):
        raise ConfigError(
            "a VPC needs both, subnets and security_group_ids",
            where="sagemaker",
            found="subnets only" if subnets else "security_group_ids only",
        )


def is_s3(uri: str) -> bool:
    """Whether a SageMaker job can reach the URI."""
    return uri.startswith("s3://")


def wrong(option: str, found: str, allowed: str) -> ConfigError:
    """The error for an option that cannot be used."""
    return ConfigError("cannot be used", where=f"sagemaker.{option}", found=found, allowed=allowed)
