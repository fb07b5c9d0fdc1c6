"""The evidence of a decision as one table: aligned text for a log, Markdown for the people who decide.

Names of slices and what functions say come from data and users' code: they neither break the table nor pass
for markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from mlretrain.verdict import Check

MANY = 30
"""Checks of slices that a Markdown table shows one by one."""

WORST = 5
"""Of more, so many that hold are shown of each condition."""

_CELL = 120
_HEAD = ("check", "observed", "required", "holds", "note")
_MARKUP = re.compile(r"([\\`*\[\]<>|~]|(?<!\w)_|_(?!\w))")


def families(checks: Sequence[Check]) -> dict[str, list[Check]]:
    """The checks that are one of many alike, by their condition, in order: the worst first."""
    found: dict[str, list[Check]] = {}
    for check in checks:
        if check.one_of is not None:
            found.setdefault(check.one_of, []).append(check)
    return found


def text(checks: Sequence[Check]) -> list[str]:
    """All checks, a line for each below a line of headings, in columns of equal width."""
    rows = [_HEAD, *(_row(check, yes="yes", no="NO") for check in checks)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def markdown(checks: Sequence[Check]) -> str:
    """The checks as a table that stays small enough for a note, a tag or an approval's page.

    Where there are more than :data:`MANY` of slices, it shows those that fail, up to as many, and the worst
    that hold, and says below how many more there are.
    """
    shown = _shown(checks)
    rows = [_HEAD, ("---",) * len(_HEAD), *(_cells(checks[i]) for i in shown)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    hidden = [checks[i] for i in range(len(checks)) if i not in shown]
    failed = sum(not check.passed for check in hidden)
    if not hidden:
        return table
    counts = [f"{failed} **fail**"] * bool(failed) + [f"{len(hidden) - failed} hold"] * (failed < len(hidden))
    return f"{table}\n{len(hidden)} more checks of slices: {', '.join(counts)}.\n"


def _shown(checks: Sequence[Check]) -> list[int]:
    """The positions of what a small table has."""
    sliced = [i for i, check in enumerate(checks) if check.one_of is not None]
    if len(sliced) <= MANY:
        return list(range(len(checks)))
    kept = {i for i, check in enumerate(checks) if check.one_of is None}
    kept.update([i for i in sliced if not checks[i].passed][:MANY])
    for _, family in groupby(sliced, key=lambda i: checks[i].one_of):
        kept.update([i for i in family if checks[i].passed][:WORST])
    return sorted(kept)


def _row(check: Check, *, yes: str, no: str) -> tuple[str, ...]:
    said = (check.name, check.observed, check.required, yes if check.passed else no, check.note or "")
    return tuple(map(_plain, said))


def _cells(check: Check) -> tuple[str, ...]:
    name, observed, required, _, note = (_MARKUP.sub(r"\\\1", cell) for cell in _row(check, yes="", no=""))
    return name, observed, required, "yes" if check.passed else "**no**", note


def _plain(words: str) -> str:
    """On one line, without control characters, and not too long."""
    line = "".join(each for each in " ".join(words.split()) if each.isprintable())
    return line if len(line) <= _CELL else line[: _CELL - 1] + "…"
