"""How a database writes the few expressions that a profile needs; everything else in a scan is plain SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlretrain.drift.profile import Kind

_LARGEST = "1e150"
"""Squares of larger numbers overflow a double, so no standard deviation exists."""


class Source(Protocol):
    """A table whose aggregates can be asked for."""

    dialect: Dialect
    table: str
    """What stands after ``FROM``."""

    def types(self) -> dict[str, str]:
        """Its columns with their types' names, lower case, in order."""

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """The rows of an aggregate's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """DuckDB's own; others replace what they write differently.

    :param kinds: by the beginning of a type's name, the kind of its columns; others are left out.
    :param double: the type of a double.
    :param epoch: seconds after 1970 of ``{}``.
    :param untyped: types of columns that hold nothing but nulls.
    :param guarded: whether arithmetic that overflows is an error, so that it must not be tried.
    """

    kinds: dict[str, Kind]
    double: str = "DOUBLE"
    text: str = "VARCHAR"
    epoch: str = "epoch({})"
    seconds: tuple[str, ...] = ("time", "interval")
    untyped: tuple[str, ...] = ()
    guarded: bool = False

    def kind(self, type_name: str) -> Kind | None:
        """The kind of columns of a type; the longest beginning that fits says it."""
        fitting = [start for start in self.kinds if type_name.startswith(start)]
        return self.kinds[max(fitting, key=len)] if fitting else None

    def quote(self, name: str) -> str:
        """An identifier."""
        return '"' + name.replace('"', '""') + '"'

    def literal(self, text: str) -> str:
        """A string."""
        return "'" + text.replace("'", "''") + "'"

    def number(self, value: float) -> str:
        """A double."""
        return f"CAST('{value!r}' AS {self.double})"

    def measure(self, column: str, kind: Kind, type_name: str) -> str:
        """The double that is counted in a grid: the number, the instant, or the text's length."""
        if kind == "text":
            return f"CAST(length({self.string(column)}) AS {self.double})"
        if kind == "datetime" or type_name.startswith(self.seconds):
            return f"CAST({self.epoch.format(column)} AS {self.double})"
        value = f"CAST({column} AS {self.double})"
        if not self.guarded:
            return value
        return (
            f"CASE WHEN abs({value}) < {_LARGEST} THEN {value} WHEN {column} IS NOT NULL THEN {self.nan} END"
        )

    @property
    def nan(self) -> str:
        """Not a number."""
        return f"CAST('NaN' AS {self.double})"

    def string(self, column: str) -> str:
        """A value as text."""
        return f"CAST({column} AS {self.text})"

    def digest(self, text: str, salt: str) -> str:
        """The digest that stands for a sensitive value: 16 hex digits of a salted MD5, as everywhere."""
        return f"substr(md5({self.literal(salt)} || {text}), 1, 16)"


DUCKDB = Dialect(
    kinds={
        **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "hugeint"), "numeric"),
        **dict.fromkeys(("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"), "numeric"),
        **dict.fromkeys(("float", "double", "decimal", "bignum", "time", "interval"), "numeric"),
        **dict.fromkeys(("timestamp", "date"), "datetime"),
        **dict.fromkeys(("varchar", "enum", "uuid"), "categorical"),
        "boolean": "boolean",
    },
    untyped=("null",),
)
