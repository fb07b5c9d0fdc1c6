"""Secrets of a job whose environment everybody may read: fetched by the job itself, with its own role."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mlretrain.errors import ConfigError, MissingExtra, MlretrainError, TransientError

SECRETS_ARN = "MLRETRAIN_SECRETS_ARN"
"""The environment variable that says where they are: a secret of AWS Secrets Manager, a JSON object."""
FETCHED = "MLRETRAIN_FETCHED"
"""The environment variable that names them, with commas between, so that their values stay out of logs."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFUSED = {
    "AccessDeniedException": "Let the job's role do secretsmanager:GetSecretValue on it.",
    "DecryptionFailure": "Let the job's role do kms:Decrypt with the key of the secret.",
    "InvalidRequestException": "Restore it, or name another one.",
    "ResourceNotFoundException": "Create it, or name another one.",
    "ValidationException": "Write the ARN of a secret.",
}


def fetch_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of the secret that :data:`SECRETS_ARN` names, and :data:`FETCHED`; without one ``{}``.

    :raises ConfigError: there is no such secret, the role may not read it, or it is no JSON object of names
        and values. None of these says what is in it.
    :raises TransientError: AWS does not answer.
    """
    arn = env.get(SECRETS_ARN)
    if not arn:
        return {}
    secrets = _variables(_secret_string(arn, env), arn)
    return {**secrets, FETCHED: ",".join(sorted(secrets))}


def _secret_string(arn: str, env: Mapping[str, str]) -> str | None:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError
    except ImportError:
        raise MissingExtra.of("boto3", "amazon") from None
    try:
        client = boto3.client("secretsmanager", region_name=_region(arn) or env.get("AWS_REGION"))
        answer: dict[str, Any] = client.get_secret_value(SecretId=arn)
    except ClientError as error:
        raise _translate(error, arn) from error
    except (NoCredentialsError, NoRegionError) as error:
        raise ConfigError(
            "Secrets Manager cannot be asked",
            where=arn,
            found=str(error),
            remedy="Write its whole ARN, and give the job a role.",
        ) from error
    except BotoCoreError as error:
        raise TransientError("Secrets Manager does not answer", where=arn, found=str(error)) from error
    return answer.get("SecretString")


def _translate(error: Any, arn: str) -> MlretrainError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _REFUSED:
        return ConfigError("the secret cannot be read", where=arn, found=code, remedy=_REFUSED[code])
    return TransientError("Secrets Manager failed", where=arn, found=code)


def _variables(text: str | None, arn: str) -> dict[str, str]:
    try:
        content = json.loads(text or "")
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _shape(arn, "something else")
    wrong = sorted(
        name
        for name, value in content.items()
        if not _NAME.fullmatch(name) or isinstance(value, bool) or not isinstance(value, str | int | float)
    )
    if wrong:
        raise _shape(arn, f"wrong names or values: {', '.join(wrong)}")
    return {name: str(value) for name, value in content.items()}


def _shape(arn: str, found: str) -> ConfigError:
    allowed = "a JSON object from names of environment variables to texts"
    return ConfigError("the secret has another shape", where=arn, found=found, allowed=allowed)


def _region(arn: str) -> str | None:
    parts = arn.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 3 else None
