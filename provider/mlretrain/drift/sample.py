"""A few thousand rows that stand for all, for what profiles cannot tell: how the columns go together.

Rows are drawn by a hash of what they hold, each as likely as any other, so that the same rows give the same
sample whatever their order and however they are split into files.
"""

from __future__ import annotations

import json
import math
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
_ALIKE = 2**19 - 1
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
    kept = _kept(relation, columns, time_column)
    if not kept:
        return _arrow()[0].table({})
    return source.query(_ROWS, _query(kept, rows)).to_arrow_table()


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
    """Of ``n`` equal rows, ``n`` times the share are drawn, a fraction by a hash of the row: up or down.

    A hash alone would draw all of them or none. Only rows that may be drawn are counted one by one, as the
    number of rows whose hash ends alike tells at once, so that the memory does not grow with the rows.
    """
    names = ", ".join(quote(name) for name, _ in kept)
    values = ", ".join(f"{sql} AS {quote(name)}" for name, sql in kept)
    time = f"{quote(TIME)}, " if any(name == TIME for name, _ in kept) else ""
    # More than are wanted, by four standard deviations of so many draws; what is too much is left out.
    wanted = rows + 4 * math.sqrt(rows)
    return f"""
        WITH hashed AS (SELECT *, hash({names}) AS h FROM (SELECT {values} FROM {_ROWS})),
        alike AS MATERIALIZED (SELECT h & {_ALIKE} AS ending, count(*) AS n FROM hashed GROUP BY ending),
        total AS MATERIALIZED (SELECT least(1, {wanted!r} / sum(n)) AS share FROM alike),
        likely AS (
            SELECT {names}, h, (hash(h, 1) >> 11) / pow(2, 53) AS chance, share, count(*) AS n
            FROM hashed JOIN alike ON h & {_ALIKE} = ending CROSS JOIN total
            WHERE (hash(h, 1) >> 11) / pow(2, 53) >= 1 - alike.n * share
            GROUP BY ALL
        ),
        drawn AS (SELECT *, unnest(range(floor(n * share + chance)::BIGINT)) AS i FROM likely)
        SELECT {names} FROM (FROM drawn ORDER BY hash(h, i) LIMIT {rows:d}) ORDER BY {time}h, i
    """  # noqa: S608


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra.of("pyarrow", "data") from error
    return pa, parquet
