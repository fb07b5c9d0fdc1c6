"""Sections of a stack as the arguments of what they describe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel


def written(section: BaseModel) -> dict[str, Any]:
    """The keys that were written, nested sections too."""
    values = {name: getattr(section, name) for name in sorted(section.model_fields_set)}
    return {name: written(each) if isinstance(each, BaseModel) else each for name, each in values.items()}


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as backends and targets take them: JSON, seconds in ``*_s``; ``null`` means the default."""
    taken: dict[str, Any] = {}
    for name, value in options.items():
        match value:
            case None:
                continue
            case timedelta():
                taken[f"{name}_s"] = value.total_seconds()
            case Mapping():
                is_section = any(isinstance(each, timedelta) for each in value.values())
                taken[name] = plain(value) if is_section else dict(value)
            case tuple():
                taken[name] = list(value)
            case _:
                taken[name] = value
    return taken
