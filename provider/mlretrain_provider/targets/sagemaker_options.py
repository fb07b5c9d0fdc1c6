"""The settings of SageMaker endpoints, and the orders that an endpoint can carry out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.ports import Traffic
from mlretrain_provider.backends.sagemaker_options import check_account, is_s3, wrong
from mlretrain_provider.targets.sagemaker_names import variant_of

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
MOST_VARIANTS = 10
MOST_ALARMS = 10
_ALARM_WAIT_S = (0, 3600)
_STARTUP_S = (60, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """The settings of ``SageMakerTarget``, which explains them."""

    role_arn: str
    image: str
    instance_type: str
    instance_count: int
    endpoint_prefix: str
    model_s3_uri: str
    kms_key: str | None
    volume_kms_key: str | None
    subnets: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    network_isolation: bool
    alarms: tuple[str, ...]
    alarm_wait_s: float
    startup_timeout_s: float | None
    env: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises :class:`~mlretrain.errors.ConfigError` for settings with which nothing can be served."""
        check_account(self.role_arn, self.subnets, self.security_group_ids)
        if not is_s3(self.model_s3_uri):
            raise ConfigError(
                "SageMaker takes models from S3 alone",
                where="serving.model_s3_uri",
                found=self.model_s3_uri,
                allowed="s3://<bucket>/<folder>",
                remedy="Set it, or the stack's artifacts_uri, to a folder in S3.",
            )
        if self.instance_count < 1:
            raise wrong("instance_count", str(self.instance_count), "1 or more")
        if len(self.alarms) > MOST_ALARMS:
            raise wrong("alarms", str(len(self.alarms)), f"at most {MOST_ALARMS}")
        _check_span("alarm_wait_s", self.alarm_wait_s, _ALARM_WAIT_S)
        if self.startup_timeout_s is not None:
            _check_span("startup_timeout_s", self.startup_timeout_s, _STARTUP_S)


def _check_span(option: str, seconds: float, allowed: tuple[int, int]) -> None:
    least, most = allowed
    if not least <= seconds <= most:
        raise wrong(option, f"{seconds:g} s", f"{least} s to {most} s")


def check_order(traffic: Traffic) -> None:
    """Raises :class:`~mlretrain.errors.InvalidInput` for traffic that is valid, but not on an endpoint.

    SageMaker mirrors the requests of one variant to one other:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
    """
    weights, mirrored = traffic.weights, traffic.mirrored
    for version in (*weights, *mirrored):
        variant_of(version)
    if mirrored and (len(weights), len(mirrored)) != (1, 1):
        raise _impossible("SageMaker mirrors the requests of one version, without standby, to one", traffic)
    if len(weights) > MOST_VARIANTS:
        raise _impossible(f"an endpoint has at most {MOST_VARIANTS} variants", traffic)


def _impossible(message: str, traffic: Traffic) -> InvalidInput:
    mirrored = f", mirrored {dict(traffic.mirrored)}" if traffic.mirrored else ""
    return InvalidInput(message, found=f"{dict(traffic.weights)}{mirrored}")
