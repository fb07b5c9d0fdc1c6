"""Quantities with units: durations, sizes of memory, and shares of processors."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from mlretrain_factory.spec.section import fault

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_PATTERN = r"(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?"
_LONGEST = timedelta(days=36_500)


def parse_duration(value: Any) -> timedelta:
    """``90d``, ``2h`` or ``1h30m`` as a length of time above zero."""
    parts = re.findall(r"(\d{1,6})([wdhms])", value) if isinstance(value, str) else []
    if not parts or not re.fullmatch(_PATTERN, str(value)):
        raise fault(
            "not a duration",
            remedy="Write a number and a unit, such as `7d`.",
            found=f"'{value}'",
            allowed="s, m, h, d, w",
        )
    length = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    if not timedelta() < length <= _LONGEST:
        raise fault("a duration out of range", remedy="Correct the number.", allowed="above 0, up to 36500d")
    return length


def format_duration(length: timedelta) -> str:
    """``length`` as it would be written in YAML."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_PATTERN}$", "examples": ["7d", "90m"]}),
]
"""A length of time, written ``7d``, ``90m`` or ``1h30m``."""


_BYTES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SIZE_PATTERN = r"(\d{1,9}(?:\.\d{1,6})?)(Ki|Mi|Gi|Ti|k|M|G|T)"
_LARGEST = 1024 * _BYTES["Ti"]


def parse_size(value: Any) -> int:
    """``4Gi`` or ``500M`` as a number of bytes above zero."""
    match = re.fullmatch(_SIZE_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise fault(
            "not a size",
            remedy="Write a number and a unit, such as `4Gi`.",
            found=f"'{value}'",
            allowed=", ".join(_BYTES),
        )
    size = int(float(match[1]) * _BYTES[match[2]])
    if not 0 < size <= _LARGEST:
        raise fault("a size out of range", remedy="Correct the number.", allowed="above 0, up to 1024Ti")
    return size


def parse_cpu(value: Any) -> float:
    """``0.5``, ``4`` or ``500m`` as a number of cores above zero."""
    cores: float | None = None
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}m", value):
        cores = int(value[:-1]) / 1000
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        cores = float(value)
    if cores is None or not 0 < cores <= 4096:
        raise fault(
            "not a number of cores",
            remedy="Write a number such as `0.5`, or thousandths such as `500m`.",
            found=f"'{value}'",
            allowed="above 0, up to 4096",
        )
    return cores


def at_least(shortest: timedelta) -> AfterValidator:
    """Refuses a shorter duration."""

    def check(value: timedelta) -> timedelta:
        if value < shortest:
            raise fault(
                "too short",
                remedy="Raise it.",
                found=f"'{format_duration(value)}'",
                allowed=f"at least {format_duration(shortest)}",
            )
        return value

    return AfterValidator(check)


Size = Annotated[
    int,
    PlainValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE_PATTERN}$", "examples": ["512Mi", "4Gi"]}),
]
"""An amount of memory, written ``512Mi`` or ``4Gi``; bytes inside."""

Cpu = Annotated[
    float,
    PlainValidator(parse_cpu),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^\d+m$"}],
            "examples": [0.5, "500m"],
        }
    ),
]
"""A number of cores, written ``0.5`` or ``500m``."""
