"""Models and endpoint configurations as SageMaker wants to be asked for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlretrain.ports import Traffic
from mlretrain.wire import digest
from mlretrain_provider.backends.sagemaker_request import key, vpc
from mlretrain_provider.targets.sagemaker_names import Names, variant_of
from mlretrain_provider.targets.sagemaker_options import EndpointOptions

Tags = list[dict[str, str]]

# What MLflow's own deployment to SageMaker sets: its image then makes the model's environment at the start.
_MLFLOW_IMAGE = {"MLFLOW_DEPLOYMENT_FLAVOR_NAME": "python_function", "SERVING_ENVIRONMENT": "SageMaker"}


def model_name(names: Names, version: str, fingerprint: str, options: EndpointOptions) -> str:
    """The name of the SageMaker model that is this version in this image, and nothing else."""
    made_of = (
        fingerprint,
        options.image,
        options.role_arn,
        options.subnets,
        options.security_group_ids,
        options.network_isolation,
        dict(options.env),
    )
    return names.model(version, digest(made_of))


def model_request(name: str, data_uri: str, options: EndpointOptions, tags: Tags) -> dict[str, Any]:
    """The arguments of CreateModel."""
    return {
        "ModelName": name,
        "ExecutionRoleArn": options.role_arn,
        "PrimaryContainer": {
            "Image": options.image,
            "ModelDataUrl": data_uri,
            "Environment": {**_MLFLOW_IMAGE, **options.env},
        },
        "EnableNetworkIsolation": options.network_isolation,
        "Tags": tags,
        **vpc(options.subnets, options.security_group_ids),
    }


def config_request(
    names: Names, traffic: Traffic, models: Mapping[str, str], options: EndpointOptions, tags: Tags
) -> dict[str, Any]:
    """The arguments of CreateEndpointConfig.

    A share of 1.0 is all requests, both of a variant and of a shadow: what a shadow gets is the ratio of its
    weight to that of the variant which it stands behind.

    :param models: the SageMaker model of each version.
    """
    content = {
        "ProductionVariants": _variants(traffic.weights, models, options),
        **(
            {"ShadowProductionVariants": _variants(traffic.mirrored, models, options)}
            if traffic.mirrored
            else {}
        ),
        **key("KmsKeyId", options.volume_kms_key),
    }
    return {
        "EndpointConfigName": names.config(traffic.generation, digest(content)),
        **content,
        "Tags": tags,
    }


def weights_request(endpoint: str, weights: Mapping[str, int]) -> dict[str, Any]:
    """The arguments of UpdateEndpointWeightsAndCapacities."""
    return {
        "EndpointName": endpoint,
        "DesiredWeightsAndCapacities": [
            {"VariantName": variant_of(version), "DesiredWeight": percent / 100}
            for version, percent in sorted(weights.items())
        ],
    }


def watched(options: EndpointOptions) -> dict[str, Any]:
    """The field of UpdateEndpoint that lets CloudWatch's alarms call the update off."""
    return {
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
                "TerminationWaitInSeconds": math.ceil(options.alarm_wait_s),
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": each} for each in options.alarms]},
        }
    }


def _variants(
    percents: Mapping[str, int], models: Mapping[str, str], options: EndpointOptions
) -> list[dict[str, Any]]:
    startup = options.startup_timeout_s and math.ceil(options.startup_timeout_s)
    return [
        {
            "VariantName": variant_of(version),
            "ModelName": models[version],
            "InstanceType": options.instance_type,
            "InitialInstanceCount": options.instance_count,
            "InitialVariantWeight": percent / 100,
            **({"ContainerStartupHealthCheckTimeoutInSeconds": startup} if startup else {}),
        }
        for version, percent in sorted(percents.items())
    ]
