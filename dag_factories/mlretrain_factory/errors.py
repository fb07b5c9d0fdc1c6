"""Errors of YAML files: all of one file, in the order of its lines, each with its place and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlretrain.errors import ConfigError


class Position(NamedTuple):
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecError:
    """One fault of one file.

    :param path: dotted path of the key, such as ``monitor.drift.share``; empty for the file as a whole.
    """

    position: Position
    message: str
    remedy: str
    path: str = ""
    found: str | None = None
    allowed: str | None = None

    def __str__(self) -> str:
        place = f"{self.position}: {self.path}: " if self.path else f"{self.position}: "
        details = [f"found {self.found}"] if self.found else []
        details += [f"allowed: {self.allowed}"] if self.allowed else []
        evidence = f" ({'; '.join(details)})" if details else ""
        return f"{place}{self.message}{evidence}. {self.remedy}"


class SpecErrors(ConfigError):
    """Every fault found in one pipeline; ``str()`` has one line for each."""

    def __init__(self, errors: Iterable[SpecError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (error.position, error.path)))
        super().__init__("\n".join(str(error) for error in self.errors))

    def __reduce__(self) -> tuple[Any, ...]:
        return (SpecErrors, (self.errors,))


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """``Did you mean …?`` with the known name closest to ``name``, or ``otherwise``."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else otherwise
