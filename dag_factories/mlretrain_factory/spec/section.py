"""What all sections share: unknown keys are errors, types are exact, and a fault says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A mapping of the YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def fault(
    message: str,
    *,
    remedy: str,
    at: tuple[str | int, ...] = (),
    found: str | None = None,
    allowed: str | None = None,
    secret: bool = False,
) -> PydanticCustomError:
    """The error that a validator raises.

    :param at: keys from the validated value down to the one at fault.
    :param secret: nothing of the value may be shown, not even as it is written.
    """
    context: dict[str, Any] = {"message": message, "remedy": remedy, "at": at, "secret": secret}
    context |= {"found": found, "allowed": allowed}
    return PydanticCustomError("fault", "{message}", context)


def refuse(remedy: str) -> BeforeValidator:
    """Refuses a key of a later version, whatever its value; ``remedy`` says what to do instead."""

    def check(value: Any) -> Any:
        if value is not None:
            raise fault("not supported by this version", remedy=remedy, found="a value")
        return value

    return BeforeValidator(check)


def text(
    accepts: Callable[[str], bool], message: str, remedy: str, *, secret: bool = False
) -> AfterValidator:
    """Checks a text; ``message`` and ``remedy`` say what is wrong with one that is not accepted."""

    def check(value: str) -> str:
        if not accepts(value):
            raise fault(message, remedy=remedy, found=None if secret else f"'{value}'", secret=secret)
        return value

    return AfterValidator(check)


def _is_uri(value: str) -> bool:
    return value.startswith(("file:///", "s3://", "{{"))


Uri = Annotated[str, text(_is_uri, "not a place that can be read", "Write `file:///…` or `s3://…`.")]
"""A place of data or artifacts."""


def is_entrypoint(value: str) -> bool:
    """Whether a text is ``package.module:name``."""
    module, _, name = value.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


Entrypoint = Annotated[
    str,
    text(is_entrypoint, "not an entry point", "Write `package.module:name`, such as `flights.train:train`."),
]
"""``package.module:name``; never imported while a DAG is parsed."""
