"""Lengths of time as people write them in a DAG: seconds, or a number with a unit."""

from __future__ import annotations

import re
from datetime import timedelta

from mlretrain.errors import ConfigError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(value: float | str, where: str) -> timedelta:
    """The time that ``90``, ``"90"``, ``"90d"``, ``"12h"``, ``"30m"``, ``"45s"`` or ``"2w"`` says.

    Raises :class:`~mlretrain.errors.ConfigError` naming ``where`` it was said.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", str(value))
    if match is None:
        raise ConfigError(
            "not a length of time",
            where=where,
            found=repr(value),
            allowed="seconds, or a number with one of s, m, h, d, w, such as '90d'",
        )
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2] or "s"])
