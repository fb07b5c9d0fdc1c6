"""A few thousand rows that stand for all, for what profiles cannot tell: how the columns go together.

Rows are drawn by a hash of what they hold, each as likely as any other, so that the same rows give the same
sample whatever their order and however they are split into files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.data.time_window import TimeColumn, check_column, quote
from mlretrain.errors import ContractError, MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

ROWS = 5_000
TIME = "mlretrain_time"
"""The sample's column with each row's instant, whatever its name was."""

_ROWS, _NOTES = "mlretrain_rows", b"mlretrain"
_INTEGERS = ("tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint")
_TIMES = ("date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone")
_KEPT = {
    **dict.fromkeys((*_INTEGERS, *_TIMES, "float", "double", "boolean"), "{}"),
    **dict.fromkeys(("hugeint", "uhugeint", "bignum", "decimal"), "CAST({} AS DOUBLE)"),
    **dict.fromkeys(("varchar", "enum", "uuid"), "CAST({} AS VARCHAR)"),
}
"""How each type of column is kept; columns of other types are left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Rows that were drawn, with their instants in :data:`TIME` if these are known.

    :param noise: for some chunks of time, each as long as a monitored window, by how much the AUC exceeded
        one half with which a classifier told the chunk from the rest.
    """

    table: pa.Table
    noise: tuple[float, ...] = ()


def draw(
    relation: DuckDBPyRelation, columns: Iterable[str], *, rows: int = ROWS, time_column: str | None = None
) -> pa.Table:
    """At most ``rows`` rows of ``relation``, in the order of their time.

    :param columns: those to keep; nested and binary ones are left out.
    :raises InvalidInput: a column is not there.
    """
    source: Any = relation  # DuckDB annotates query() wrongly.
    drawn = source.query(_ROWS, _query(_kept(relation, columns, time_column), rows))
    return drawn.to_arrow_table()


def to_parquet(sample: Sample) -> bytes:
    """``sample`` as one Parquet file; equal samples give equal bytes."""
    pa, parquet = _arrow()
    notes = json.dumps({"noise": sample.noise})
    sink = pa.BufferOutputStream()
    parquet.write_table(sample.table.replace_schema_metadata({_NOTES: notes}), sink)
    return bytes(sink.getvalue().to_pybytes())


def from_parquet(data: bytes, where: str) -> Sample:
    """The sample that :func:`to_parquet` wrote. Raises :class:`ContractError` if it is none."""
    pa, parquet = _arrow()
    try:
        table = parquet.read_table(pa.BufferReader(data))
        notes = json.loads(table.schema.metadata[_NOTES])
        return Sample(table=table.replace_schema_metadata(None), noise=tuple(notes["noise"]))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ContractError(
            "not a sample of reference rows",
            where=where,
            found=str(error).strip().split("\n", 1)[0],
            remedy="Retrain through the pipeline: training keeps a new one.",
        ) from error


def _kept(
    relation: DuckDBPyRelation, columns: Iterable[str], time_column: str | None
) -> list[tuple[str, str]]:
    """Name and SQL of each column to keep."""
    where = "the rows to draw from"
    types = dict(zip(relation.columns, relation.types, strict=True))
    ids = {name: types[check_column(name, types, where)].id for name in columns}
    kept = [(name, _KEPT[kind].format(quote(name))) for name, kind in ids.items() if kind in _KEPT]
    if time_column is None:
        return kept
    return [(TIME, f"CAST({TimeColumn(relation, time_column, where).sql} AS TIMESTAMPTZ)"), *kept]


def _query(kept: Sequence[tuple[str, str]], rows: int) -> str:
    """Equal rows are told apart by their number, or a hash would draw all of them or none."""
    names = [quote(name) for name, _ in kept]
    values = ", ".join(f"{sql} AS {quote(name)}" for name, sql in kept) or "1 AS mlretrain_nothing"
    ordered = [name for name in names if name == quote(TIME)]
    row = f"hash({', '.join(names) or '1'})"
    return f"""
        WITH kept AS (SELECT {values} FROM {_ROWS}),
        counted AS MATERIALIZED (SELECT {row} AS h, count(*) AS n FROM kept GROUP BY h),
        numbered AS (SELECT h, hash(h, unnest(range(n))) AS draw FROM counted),
        drawn AS MATERIALIZED (
            SELECT h, count(*) AS n FROM (SELECT h FROM numbered ORDER BY draw LIMIT {rows:d}) GROUP BY h
        ),
        matched AS (
            SELECT keyed.*, n, row_number() OVER (PARTITION BY h) AS i
            FROM (SELECT *, {row} AS h FROM kept) AS keyed JOIN drawn USING (h)
        )
        SELECT {", ".join(names) or "NULL"} FROM matched WHERE i <= n ORDER BY {", ".join([*ordered, "h"])}
    """  # noqa: S608


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra.of("pyarrow", "data") from error
    return pa, parquet
