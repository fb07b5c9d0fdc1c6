"""Lists and names in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def listed(parts: Sequence[str], last: str) -> str:
    """``a, b or c``."""
    *before, end = parts
    return f"{', '.join(before)} {last} {end}" if before else end


def named(names: Sequence[str], last: str) -> str:
    """The same of names, each as code."""
    return listed([f"`{name}`" for name in names], last)
