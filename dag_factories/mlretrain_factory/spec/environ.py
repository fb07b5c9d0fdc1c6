"""Environment variables of jobs, which everybody may read where the job is described: no secrets."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mlretrain_factory.spec.section import fault

_SECRET_NAME = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_KEY(_ID)?|SECRET_KEY|PRIVATE_KEY)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"  # an AWS access key
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?i:\b(password|passwd|pwd|secret|token)=[^\s&])"
    r"|://[^/\s:@]*:[^/\s@]+@"  # user and password in a URL
)
_REMEDY = (
    "Remove it from there; keep it in an Airflow connection, or give it to the job by "
    "`kubernetes.env_from_secrets` or `sagemaker.secrets_arn`."
)


def looks_secret(value: str) -> bool:
    """Whether a text holds a password, a key or a token."""
    return bool(_SECRET_VALUE.search(value))


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(name) and value) or looks_secret(value)


def _secret(name: str, at: tuple[str | int, ...]) -> PydanticCustomError:
    message = f"`{name}` looks like a secret, and everybody may read it there"
    return fault(message, at=at, remedy=_REMEDY, secret=True)


def _refuse_secrets(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            remedy = "Use letters, digits and underscores."
            raise fault("not a name of an environment variable", at=(name,), remedy=remedy, found=f"'{name}'")
        if _is_secret(name, text):
            raise _secret(name, (name,))
    return value


def refuse_secrets_below(value: Any, at: tuple[str | int, ...] = ()) -> Any:
    """``value``, a manifest, unless a ``{name, value}`` anywhere in it looks like a secret."""
    match value:
        case {"name": str(name), "value": str(text)} if _is_secret(name, text):
            raise _secret(name, (*at, "value"))
        case dict():
            for key, each in value.items():
                refuse_secrets_below(each, (*at, key))
        case list():
            for i, each in enumerate(value):
                refuse_secrets_below(each, (*at, i))
    return value


Environ = Annotated[dict[str, str], AfterValidator(_refuse_secrets)]
"""Environment variables by name; one that looks like a secret is refused."""
