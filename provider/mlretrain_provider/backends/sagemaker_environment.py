"""What a SageMaker job finds in its container: environment variables and input channels."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec
from mlretrain.runtime.requirements import REQUIREMENTS
from mlretrain_provider.backends.sagemaker_options import Kind, SagemakerOptions, is_s3, wrong

REQUEST = "MLRETRAIN_REQUEST_URI"

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html and
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html
_LONGEST_VALUE: dict[Kind, int] = {"training": 512, "processing": 256}
_MOST_VARIABLES = 100
_MOST_CHANNELS: dict[Kind, int] = {"training": 20, "processing": 10}
# Where SageMaker looks for a reason when a container fails: the FailureReason, the ExitMessage.
_FAILURE_FILE: dict[Kind, str] = {
    "training": "/opt/ml/output/failure",
    "processing": "/opt/ml/output/message",
}
_CHANNEL_FOLDER: dict[Kind, str] = {
    "training": "/opt/ml/input/data",
    "processing": "/opt/ml/processing/input",
}
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHORTER = {
    REQUIREMENTS: "Leave train.environment.requirements out: the image has the packages, or has not.",
    REQUEST: "Choose a shorter artifacts_uri.",
}
_STORAGE_CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


def environment(spec: JobSpec, options: SagemakerOptions, kind: Kind) -> dict[str, str]:
    """The variables that everybody may read. The role has the storage's credentials; other secrets stay out.

    Raises :class:`~mlretrain.errors.ConfigError` for secrets that the job has no other way to get, and for
    what SageMaker would refuse.
    """
    secret = sorted(set(spec.secrets) - _STORAGE_CREDENTIALS)
    if secret and not options.secrets_arn:
        raise ConfigError(
            "the job needs secrets, which everybody could read in a SageMaker environment",
            where="sagemaker.secrets_arn",
            found=", ".join(secret),
            remedy="Keep them in AWS Secrets Manager, as JSON from name to value, and set secrets_arn.",
        )
    folders = {
        f"SM_CHANNEL_{re.sub(r'[^A-Z0-9]', '_', name.upper())}": path
        for name, (_, path) in channels(options, kind).items()
    }
    env = {
        "PYTHONUNBUFFERED": "1",
        **folders,
        **spec.env,
        **options.env,
        **({"MLRETRAIN_SECRETS_ARN": options.secrets_arn} if options.secrets_arn else {}),
        "MLRETRAIN_FAILURE_FILE": _FAILURE_FILE[kind],
        REQUEST: spec.request_uri,
    }
    _check_environment(env, kind)
    return env


def _check_environment(env: Mapping[str, str], kind: Kind) -> None:
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise ConfigError("not a name that SageMaker takes", where="env", found=repr(name))
        if len(value) > _LONGEST_VALUE[kind]:
            raise ConfigError(
                f"too long for an environment variable of a {kind} job",
                where=f"env.{name}",
                found=f"{len(value)} characters",
                allowed=f"{_LONGEST_VALUE[kind]} characters",
                remedy=_SHORTER.get(name),
            )
    if len(env) > _MOST_VARIABLES:
        raise ConfigError(
            "too many environment variables", where="env", found=str(len(env)), allowed=str(_MOST_VARIABLES)
        )


def channels(options: SagemakerOptions, kind: Kind) -> dict[str, tuple[str, str]]:
    """Each channel's URI and its folder in the container."""
    for name, uri in options.channels.items():
        if not _CHANNEL.fullmatch(name):
            raise wrong("channels", repr(name), "letters, digits, dots, dashes and underscores")
        if not is_s3(uri):
            raise wrong(f"channels.{name}", repr(uri), "s3://<bucket>/<prefix>")
    if len(options.channels) > _MOST_CHANNELS[kind]:
        raise wrong("channels", str(len(options.channels)), f"{_MOST_CHANNELS[kind]} in a {kind} job")
    return {name: (uri, f"{_CHANNEL_FOLDER[kind]}/{name}") for name, uri in options.channels.items()}
