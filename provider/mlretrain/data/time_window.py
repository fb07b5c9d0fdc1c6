"""Columns and instants as SQL: quoting that cannot be escaped from, and comparisons in UTC."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlretrain.errors import InvalidInput
from mlretrain.wire import utc

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_NAIVE = ("TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S", "DATE")
_ZONED = ("TIMESTAMP WITH TIME ZONE",)


def quote(name: str) -> str:
    """``name`` as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """``text`` as a SQL string."""
    return "'" + text.replace("'", "''") + "'"


def check_column(name: str, columns: Iterable[str], where: str) -> str:
    """``name`` if it is one of ``columns``; else :class:`InvalidInput` with the nearest one."""
    known = list(columns)
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1)
    raise InvalidInput(
        f"there is no column {name!r}",
        where=where,
        allowed=", ".join(known),
        remedy=f"Did you mean {nearest[0]!r}?" if nearest else None,
    )


class TimeColumn:
    """The column of a relation that holds each row's time; what has no zone is UTC.

    :raises InvalidInput: there is no such column, or it holds no times.
    """

    def __init__(self, relation: DuckDBPyRelation, name: str, where: str) -> None:
        check_column(name, relation.columns, where)
        kind = str(relation.types[relation.columns.index(name)])
        if kind not in (*_NAIVE, *_ZONED, "VARCHAR"):
            raise InvalidInput(
                f"column {name!r} holds no times",
                where=where,
                found=kind,
                allowed="timestamp, date, ISO text",
            )
        self._zoned = kind not in _NAIVE
        # Text is read in the connection's time zone, which is UTC here.
        self.sql = f"CAST({quote(name)} AS TIMESTAMPTZ)" if kind == "VARCHAR" else quote(name)

    def at_or_after(self, time: datetime, of: str | None = None) -> str:
        """The predicate that a row's time, or the aggregate ``of`` such times, is not before ``time``."""
        return f"{of or self.sql} >= {self._instant(time)}"

    def before(self, time: datetime, of: str | None = None) -> str:
        """The predicate that a row's time, or the aggregate ``of`` such times, is before ``time``."""
        return f"{of or self.sql} < {self._instant(time)}"

    def within(self, start: datetime | None, end: datetime | None) -> str | None:
        """The predicate of [``start``, ``end``); ``None`` if it holds for every row."""
        parts: Sequence[str] = [
            *([self.at_or_after(start)] if start else []),
            *([self.before(end)] if end else []),
        ]
        return " AND ".join(parts) or None

    def _instant(self, time: datetime) -> str:
        naive = utc(time).replace(tzinfo=None).isoformat(sep=" ")
        return f"TIMESTAMPTZ '{naive}+00'" if self._zoned else f"TIMESTAMP '{naive}'"


def from_epoch_us(value: int) -> datetime:
    """The instant ``value`` microseconds after 1970, in UTC."""
    seconds, micros = divmod(value, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
