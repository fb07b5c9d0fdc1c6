"""A job as SageMaker wants to be asked for it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec
from mlretrain.runtime.contract import dns_label
from mlretrain_provider.backends.sagemaker_environment import channels, environment
from mlretrain_provider.backends.sagemaker_options import Kind, SagemakerOptions, check, is_s3, wrong
from mlretrain_provider.backends.sagemaker_tags import tags_of

ENTRYPOINT = ("python", "-m", "mlretrain.runtime")
DAY_S = 24 * 3600
DEFAULT_RUNTIME_S = DAY_S
"""How long a job without a timeout may take, as in SageMaker itself."""

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html and
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingStoppingCondition.html
_LONGEST_RUNTIME_S: dict[Kind, int] = {"training": 28 * DAY_S, "processing": 9 * DAY_S}
_WITHOUT_GPU = re.compile(r"ml\.[cmrt]\d")


def training_request(spec: JobSpec, options: SagemakerOptions) -> dict[str, Any]:
    """The arguments of CreateTrainingJob. Raises ``ConfigError`` for what cannot work."""
    check(spec, options)
    folder = spec.request_uri.rpartition("/")[0]
    return {
        "TrainingJobName": dns_label(spec.name),
        "RoleArn": options.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": _image(spec, options),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": list(ENTRYPOINT),
        },
        "Environment": environment(spec, options, "training"),
        "ResourceConfig": _cluster(spec, options),
        "StoppingCondition": {"MaxRuntimeInSeconds": _runtime_s(spec, "training")},
        "OutputDataConfig": {"S3OutputPath": f"{folder}/sagemaker", **key("KmsKeyId", options.kms_key)},
        "Tags": tags_of(spec.labels, options.tags),
        "EnableInterContainerTrafficEncryption": options.encrypt_traffic,
        **_training_inputs(options),
        **vpc(options.subnets, options.security_group_ids),
        **_checkpoints(spec),
        **_spot(spec, options),
    }


def processing_request(spec: JobSpec, options: SagemakerOptions) -> dict[str, Any]:
    """The arguments of CreateProcessingJob. Raises ``ConfigError`` for what cannot work."""
    check(spec, options)
    return {
        "ProcessingJobName": dns_label(spec.name),
        "RoleArn": options.role_arn,
        "AppSpecification": {"ImageUri": _image(spec, options), "ContainerEntrypoint": list(ENTRYPOINT)},
        "Environment": environment(spec, options, "processing"),
        "ProcessingResources": {"ClusterConfig": _cluster(spec, options)},
        "StoppingCondition": {"MaxRuntimeInSeconds": _runtime_s(spec, "processing")},
        "NetworkConfig": {
            "EnableInterContainerTrafficEncryption": options.encrypt_traffic,
            **vpc(options.subnets, options.security_group_ids),
        },
        "Tags": tags_of(spec.labels, options.tags),
        **_processing_inputs(options),
    }


def _training_inputs(options: SagemakerOptions) -> dict[str, Any]:
    inputs = [
        {"ChannelName": name, "InputMode": "File", "DataSource": {"S3DataSource": _copied_to_each_node(uri)}}
        for name, (uri, _) in channels(options, "training").items()
    ]
    return {"InputDataConfig": inputs} if inputs else {}


def _processing_inputs(options: SagemakerOptions) -> dict[str, Any]:
    inputs = [
        {
            "InputName": name,
            "S3Input": {**_copied_to_each_node(uri), "LocalPath": path, "S3InputMode": "File"},
        }
        for name, (uri, path) in channels(options, "processing").items()
    ]
    return {"ProcessingInputs": inputs} if inputs else {}


def _copied_to_each_node(uri: str) -> dict[str, str]:
    return {"S3Uri": uri, "S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated"}


def _checkpoints(spec: JobSpec) -> dict[str, Any]:
    """A folder of its own for what a script keeps in ``/opt/ml/checkpoints``.

    SageMaker brings that folder and S3 into line. In ``checkpoint_uri`` itself it could put an old copy over
    what the step has written there since.
    """
    if spec.checkpoint_uri is None or not is_s3(spec.checkpoint_uri):
        return {}
    return {"CheckpointConfig": {"S3Uri": f"{spec.checkpoint_uri.rstrip('/')}/sagemaker"}}


def _image(spec: JobSpec, options: SagemakerOptions) -> str:
    image = spec.image or options.image
    if not image:
        raise ConfigError(
            "no container image",
            where="sagemaker.image",
            remedy="Set image in the stack, or train.environment.image, to an image in Amazon ECR.",
        )
    return image


def _cluster(spec: JobSpec, options: SagemakerOptions) -> dict[str, Any]:
    if not options.instance_type:
        raise ConfigError(
            "no instance type",
            where="sagemaker.instance_type",
            remedy="Set it in the stack's sagemaker section or in a class of resources: ml.m5.xlarge.",
        )
    if spec.resources.gpu and _WITHOUT_GPU.match(options.instance_type):
        raise ConfigError(
            f"{spec.resources.gpu} GPU wanted, but the instance type has none",
            where="sagemaker.instance_type",
            found=options.instance_type,
            allowed="a type with GPUs, such as ml.g5.xlarge",
        )
    return {
        "InstanceType": options.instance_type,
        "InstanceCount": spec.nodes,
        "VolumeSizeInGB": options.volume_gb,
        **key("VolumeKmsKeyId", options.volume_kms_key),
    }


def _runtime_s(spec: JobSpec, kind: Kind) -> int:
    if spec.timeout_s is None:
        return DEFAULT_RUNTIME_S
    runtime_s = max(1, math.ceil(spec.timeout_s))
    if runtime_s > _LONGEST_RUNTIME_S[kind]:
        raise ConfigError(
            f"a {kind} job cannot take so long",
            where="timeout",
            found=f"{runtime_s} s",
            allowed=f"{_LONGEST_RUNTIME_S[kind]} s",
        )
    return runtime_s


def _spot(spec: JobSpec, options: SagemakerOptions) -> dict[str, Any]:
    """What asks for spot instances, and how long the job may take: at work, and with all its waiting."""
    spot = options.spot
    if spot is None:
        return {}
    if set(spot) != {"max_wait_s"}:
        raise wrong("spot", ", ".join(sorted(spot)) or "nothing", "max_wait_s")
    if not _checkpoints(spec):
        raise ConfigError(
            "spot instances may go at any time, so the job needs a folder for checkpoints in S3",
            where="sagemaker.spot",
            found=repr(spec.checkpoint_uri),
            remedy="Set the stack's artifacts_uri to a folder in S3, or leave spot out.",
        )
    wait_s, runtime_s = math.ceil(float(spot["max_wait_s"])), _runtime_s(spec, "training")
    if spec.timeout_s is None:
        runtime_s = min(runtime_s, wait_s)
    if wait_s < runtime_s:
        raise wrong("spot.max_wait_s", str(wait_s), f"the job's timeout of {runtime_s} s, or more")
    return {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": runtime_s, "MaxWaitTimeInSeconds": wait_s},
    }


def vpc(subnets: Sequence[str], security_group_ids: Sequence[str]) -> dict[str, Any]:
    """The field of a request that names the VPC; none without subnets."""
    if not subnets:
        return {}
    return {"VpcConfig": {"Subnets": list(subnets), "SecurityGroupIds": list(security_group_ids)}}


def key(name: str, value: str | None) -> dict[str, str]:
    """The field of a request that names an encryption key; none without one."""
    return {name: value} if value else {}
