"""Quantities with units: durations."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

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
