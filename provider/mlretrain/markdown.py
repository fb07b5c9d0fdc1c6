"""Markdown that shows words as they are, wherever they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*\[\]<>|~]|(?<!\w)_|_(?!\w)|^[#+-])")


def literal(text: str) -> str:
    """``text`` on one line, so that nothing in it is taken for markup."""
    line = "".join(each for each in " ".join(text.split()) if each.isprintable())
    return _MARKUP.sub(r"\\\1", line)


def code(text: str) -> str:
    """``text`` on one line, in the letters of a machine; fit for a table's cell."""
    line = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{line}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows below a head; cells are Markdown already."""
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
