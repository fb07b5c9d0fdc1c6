"""Errors as HTTP answers: ``{"error": what went wrong, "remedy": what to do}`` and the status that fits."""

from __future__ import annotations

from typing import Any

from mlretrain.errors import MlretrainError, Superseded, TransientError
from mlretrain.serving.router import LoadFailed, NotReady, UnknownModel

STATUS: tuple[tuple[type[MlretrainError], int], ...] = (
    (NotReady, 503),
    (TransientError, 502),
    (UnknownModel, 404),
    (LoadFailed, 422),
    (Superseded, 409),
)
"""The first that fits; any other error is the caller's: 400."""


def status_of(error: MlretrainError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 400)


def body_of(error: MlretrainError) -> dict[str, Any]:
    """The JSON body of an error."""
    details = [f"found {error.found}"] if error.found else []
    details += [f"allowed: {error.allowed}"] if error.allowed else []
    text = f"{error.message} ({'; '.join(details)})" if details else error.message
    return {"error": text, "remedy": error.remedy}
