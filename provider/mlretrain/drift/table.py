"""Tables as sources of profiles: the database aggregates, and only counts travel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from mlretrain.drift.dialect import DUCKDB, POSTGRES, Dialect, Source
from mlretrain.drift.scan import DuckdbSource
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.wire import utc

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DIALECTS: Mapping[str, Dialect] = MappingProxyType({"duckdb": DUCKDB, "postgres": POSTGRES})
"""By the type of a connection."""

_NAME = re.compile(r"[^\s.\"';]+(\.[^\s.\"';]+){0,2}")


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    def execute(self, sql: str, /) -> Any:
        """Run a statement."""

    def fetchall(self) -> list[Any]:
        """The rows of its answer."""


class Table(Protocol):
    """A table or view, whose rows are profiled window by window."""

    def window(self, time_column: str | None, start: datetime | None, end: datetime | None) -> Source:
        """The rows of [``start``, ``end``); raises :class:`InvalidInput` if the column holds no times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorTable:
    """A table behind a DB-API cursor, which is in a transaction of its own."""

    cursor: Cursor
    name: str
    dialect: Dialect

    @classmethod
    def open(cls, cursor: Cursor, name: str, dialect: Dialect) -> CursorTable:
        """The table of this name; the cursor has not been used before."""
        for statement in dialect.opening:
            cursor.execute(statement)
        return cls(cursor=cursor, name=quoted(name, dialect), dialect=dialect)

    def window(self, time_column: str | None, start: datetime | None, end: datetime | None) -> Source:
        types = self._types()
        where = self._where(types, time_column, start, end) if time_column else ""
        return _CursorSource(
            cursor=self.cursor,
            dialect=self.dialect,
            table=f"(SELECT * FROM {self.name}{where}) AS mlretrain_rows",  # noqa: S608
            columns=types,
        )

    def _types(self) -> dict[str, str]:
        self.cursor.execute(self.dialect.columns.format(self.dialect.literal(self.name)))
        types = {str(name): str(kind).lower() for name, kind in self.cursor.fetchall()}
        if not types:
            raise InvalidInput("there is no such table", found=self.name)
        return types

    def _where(
        self, types: Mapping[str, str], column: str, start: datetime | None, end: datetime | None
    ) -> str:
        found = types.get(column)
        if found is None:
            raise InvalidInput(f"there is no column {column!r}", where=self.name, allowed=", ".join(types))
        if self.dialect.kind(found) != "datetime":
            raise InvalidInput(
                f"column {column!r} holds no times", where=self.name, found=found, allowed="timestamp, date"
            )
        name = self.dialect.quote(column)
        bounds = [f"{name} {sign} {_instant(time)}" for sign, time in ((">=", start), ("<", end)) if time]
        return f" WHERE {' AND '.join(bounds)}" if bounds else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CursorSource:
    cursor: Cursor
    dialect: Dialect
    table: str
    columns: dict[str, str]

    def types(self) -> dict[str, str]:
        """Columns with their types' names."""
        return self.columns

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """The rows of an aggregate's answer."""
        self.cursor.execute(sql)
        return self.cursor.fetchall()


@dataclass(frozen=True, slots=True, kw_only=True)
class DuckdbTable:
    """A table or view of a DuckDB database, which speaks UTC."""

    con: DuckDBPyConnection
    name: str

    def window(self, time_column: str | None, start: datetime | None, end: datetime | None) -> Source:
        from mlretrain.data.time_window import TimeColumn
        from mlretrain.data.time_window import quote as quote_column

        relation = self.con.sql(f"FROM {quoted(self.name, DUCKDB)}")
        if time_column is None:
            return DuckdbSource(relation)
        time = TimeColumn(relation, time_column, self.name)
        window = time.within(start, end)
        relation = relation.filter(window) if window else relation
        return DuckdbSource(relation.select(f"* REPLACE ({time.sql} AS {quote_column(time_column)})"))


@contextmanager
def open_duckdb(path: str) -> Iterator[DuckDBPyConnection]:
    """A DuckDB that reads the database in a file, and never writes to it."""
    from mlretrain.data.read import connect

    with connect() as con:
        con.execute(f"ATTACH {DUCKDB.literal(path)} AS mlretrain_database (READ_ONLY)")
        con.execute("USE mlretrain_database")
        yield con


def quoted(name: str, dialect: Dialect) -> str:
    """A table's name as SQL, each of its parts quoted: upper and lower case are as they are written.

    :raises ConfigError: it is no name, or one of more than a catalog, a schema and a table.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("not the name of a table", found=name, allowed="schema.table, without quotes")
    return ".".join(dialect.quote(part) for part in name.split("."))


def _instant(time: datetime) -> str:
    """In UTC, which a database's own time zone is set to."""
    return f"CAST('{utc(time).replace(tzinfo=None).isoformat(sep=' ')}' AS timestamp)"
