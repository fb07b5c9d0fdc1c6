"""A job as SageMaker wants to be asked for it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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
    request: dict[str, Any] = {
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
        "OutputDataConfig": {"S3OutputPath": f"{folder}/sagemaker", **_key("KmsKeyId", options.kms_key)},
        "Tags": tags_of(spec.labels, options.tags),
        "EnableInterContainerTrafficEncryption": options.encrypt_traffic,
    }
    inputs = channels(options, "training")
    if inputs:
        request["InputDataConfig"] = [
            {
                "ChannelName": name,
                "InputMode": "File",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for name, (uri, _) in inputs.items()
        ]
    if options.subnets:
        request["VpcConfig"] = _vpc(options)
    if spec.checkpoint_uri is not None and is_s3(spec.checkpoint_uri):
        # A folder of its own: SageMaker keeps it equal to /opt/ml/checkpoints, and must not bring an old copy
        # of what the step writes itself below checkpoint_uri.
        request["CheckpointConfig"] = {"S3Uri": f"{spec.checkpoint_uri.rstrip('/')}/sagemaker"}
    if options.spot is not None:
        request["EnableManagedSpotTraining"] = True
        request["StoppingCondition"] = _patience(spec, options.spot)
    return request


def processing_request(spec: JobSpec, options: SagemakerOptions) -> dict[str, Any]:
    """The arguments of CreateProcessingJob. Raises ``ConfigError`` for what cannot work."""
    check(spec, options)
    network: dict[str, Any] = {"EnableInterContainerTrafficEncryption": options.encrypt_traffic}
    if options.subnets:
        network["VpcConfig"] = _vpc(options)
    request: dict[str, Any] = {
        "ProcessingJobName": dns_label(spec.name),
        "RoleArn": options.role_arn,
        "AppSpecification": {"ImageUri": _image(spec, options), "ContainerEntrypoint": list(ENTRYPOINT)},
        "Environment": environment(spec, options, "processing"),
        "ProcessingResources": {"ClusterConfig": _cluster(spec, options)},
        "StoppingCondition": {"MaxRuntimeInSeconds": _runtime_s(spec, "processing")},
        "NetworkConfig": network,
        "Tags": tags_of(spec.labels, options.tags),
    }
    inputs = channels(options, "processing")
    if inputs:
        request["ProcessingInputs"] = [
            {
                "InputName": name,
                "S3Input": {
                    "S3Uri": uri,
                    "LocalPath": path,
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                },
            }
            for name, (uri, path) in inputs.items()
        ]
    return request


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
        **_key("VolumeKmsKeyId", options.volume_kms_key),
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


def _patience(spec: JobSpec, spot: Mapping[str, Any]) -> dict[str, int]:
    """The times that a job on spot instances may take: at work, and with all its waiting."""
    if set(spot) != {"max_wait_s"}:
        raise wrong("spot", ", ".join(sorted(spot)) or "nothing", "max_wait_s")
    if spec.checkpoint_uri is None or not is_s3(spec.checkpoint_uri):
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
    return {"MaxRuntimeInSeconds": runtime_s, "MaxWaitTimeInSeconds": wait_s}


def _vpc(options: SagemakerOptions) -> dict[str, list[str]]:
    return {"Subnets": list(options.subnets), "SecurityGroupIds": list(options.security_group_ids)}


def _key(name: str, value: str | None) -> dict[str, str]:
    return {name: value} if value else {}
