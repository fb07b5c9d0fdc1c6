"""How a database writes the few expressions that a profile needs; everything else in a scan is plain SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlretrain.drift.profile import Kind

_LARGEST, _LEAST = "1e150", "1e-150"
"""Squares of larger numbers overflow a double, and so no deviation exists; those of smaller ones vanish."""


class Source(Protocol):
    """A table whose aggregates can be asked for."""

    @property
    def dialect(self) -> Dialect:
        """How its database writes."""

    @property
    def table(self) -> str:
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
    :param text: the type of a text.
    :param collation: what makes texts sort by their bytes, whatever the database's language.
    :param epoch: seconds after 1970 of ``{}``.
    :param vectors: the types of numbers whose lists are vectors; other lists are left out.
    :param untyped: types of columns that hold nothing but nulls.
    :param whole: of a database in which arithmetic that overflows, or vanishes, is an error: the types of
        numbers that never do. Others are not tried out of bounds.
    :param columns: the query of a table's columns and their types, of which ``{}`` is the name, a string.
    :param opening: what is said first on a connection.
    """

    kinds: dict[str, Kind]
    double: str = "DOUBLE"
    text: str = "VARCHAR"
    collation: str = ""
    epoch: str = "epoch({})"
    seconds: tuple[str, ...] = ("time", "interval")
    vectors: tuple[str, ...] = ()
    untyped: tuple[str, ...] = ()
    whole: tuple[str, ...] | None = None
    columns: str = ""
    opening: tuple[str, ...] = ()

    def kind(self, type_name: str) -> Kind | None:
        """The kind of columns of a type; the longest beginning that fits says it."""
        if type_name.endswith("]"):
            element, *sizes = type_name.split("[")
            return "embedding" if element in self.vectors and len(sizes) == 1 else None
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
        if self.whole is None or type_name.startswith(self.whole):
            return value
        return (
            f"CASE WHEN {column} BETWEEN -{_LEAST} AND {_LEAST} THEN {self.number(0.0)} "
            f"WHEN {column} BETWEEN -{_LARGEST} AND {_LARGEST} THEN {value} "
            f"WHEN {column} IS NOT NULL THEN CAST('NaN' AS {self.double}) END"
        )

    def string(self, column: str) -> str:
        """A value as text."""
        return f"CAST({column} AS {self.text}){self.collation}"

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
    vectors=("float", "double"),
    untyped=("null",),
)

POSTGRES = Dialect(
    kinds={
        **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double"), "numeric"),
        **dict.fromkeys(("time", "interval"), "numeric"),
        **dict.fromkeys(("timestamp", "date"), "datetime"),
        **dict.fromkeys(("text", "character", "name", "citext", "enum", "uuid", "json"), "categorical"),
        "boolean": "boolean",
    },
    double="double precision",
    text="text",
    collation=' COLLATE "C"',
    epoch="NULLIF(NULLIF(date_part('epoch', {}), 'Infinity'), '-Infinity')",
    whole=("smallint", "integer", "bigint"),
    columns="""SELECT a.attname, CASE WHEN t.typtype = 'r' THEN 'range' WHEN t.typtype = 'e' THEN 'enum'
ELSE format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""",
    # Several queries see the same rows; what has no zone is UTC.
    opening=(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SET LOCAL TIME ZONE 'UTC'",
    ),
)
"""PostgreSQL's, and of databases that speak as it does; arrays, ranges and binary columns are left out."""
