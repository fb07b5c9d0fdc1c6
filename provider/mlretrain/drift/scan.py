"""The scans behind a profile: SQL aggregates of DuckDB in, column profiles out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlretrain.drift.metrics import learnt_noise
from mlretrain.drift.profile import ColumnProfile, DriftProfile, Kind
from mlretrain.errors import InvalidInput

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_ROWS = "mlretrain_rows"
_SAMPLE_ROWS, _SAMPLE_CELLS, _SAMPLE_SEED = 50_000, 4_000_000, 20130101
"""A sample of 50,000 rows puts a quantile within 0.5 % of its rank; bins need no better, counts are exact."""
_LARGEST = "1e150"
"""Squares of larger numbers overflow a double, so no standard deviation exists."""
_MOMENTS = (("minimum", "min"), ("maximum", "max"), ("mean", "avg"), ("sd", "stddev_pop"))
_TEXT_LENGTH, _TEXT_DISTINCT = 24, 0.5
"""Strings are free text when they are longer than this on average and mostly distinct."""

_KIND_BY_TYPE: dict[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "hugeint"), "numeric"),
    **dict.fromkeys(("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"), "numeric"),
    **dict.fromkeys(("float", "double", "decimal", "bignum", "time", "interval"), "numeric"),
    **dict.fromkeys(("timestamp", "date", "timestamp_s", "timestamp_ms", "timestamp_ns"), "datetime"),
    "timestamp with time zone": "datetime",
    **dict.fromkeys(("varchar", "enum", "uuid"), "categorical"),
    "boolean": "boolean",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column to scan: its SQL value and the bins or categories to count in; none if it is new."""

    name: str
    kind: Kind
    sql_type: str
    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None

    @property
    def binned(self) -> bool:
        return self.kind in ("numeric", "datetime", "text")

    @property
    def raw(self) -> str:
        """The column as it is."""
        return _quote(self.name)

    @property
    def value(self) -> str:
        quoted = self.raw
        if self.kind == "text":
            return f"length(CAST({quoted} AS VARCHAR))::DOUBLE"
        if not self.binned:
            return f"CAST({quoted} AS VARCHAR)"
        if self.sql_type == "interval" or self.sql_type.startswith("time"):
            return f"epoch({quoted})::DOUBLE"
        return f"epoch({quoted})::DOUBLE" if self.kind == "datetime" else f"CAST({quoted} AS DOUBLE)"

    @property
    def usable(self) -> str:
        """The value where it can be counted, else null."""
        if not self.binned:
            return self.value
        return f"CASE WHEN isfinite({self.value}) AND abs({self.value}) < {_LARGEST} THEN {self.value} END"


class Scan:
    """Profiles one relation.

    :param reference: the profile whose bins and categories are counted in.
    """

    def __init__(
        self,
        con: DuckDBPyConnection,
        relation: DuckDBPyRelation,
        *,
        bins: int,
        top: int,
        reference: DriftProfile | None,
    ) -> None:
        self._con = con
        self._relation: Any = relation  # DuckDB annotates query() wrongly.
        self._bins = bins
        self._top = top
        self._reference = reference

    def profile(
        self,
        *,
        include: Sequence[str] | None,
        exclude: Sequence[str],
        time_column: str | None,
        chunk_s: float | None,
    ) -> DriftProfile:
        """One pass to choose the bins, unless a reference has chosen them, and one to count."""
        self._expect([*(include or ()), *([time_column] if time_column else [])])
        columns = [each for each in self._columns() if include is None or each.name in include]
        columns = [each for each in columns if each.name not in (*exclude, time_column)]
        columns = self._from_reference(columns) if self._reference else self._from_sample(columns)
        chunked = chunk_s if chunk_s and time_column and self._reference is None else None
        rows = self._count(columns, time_column, chunked)
        whole = next(row for row in rows if row["chunk"] is None)
        profiles = [_read(column, whole, i) for i, column in enumerate(columns)]
        chunks = _full_chunks([row for row in rows if row["chunk"] is not None])
        if len(chunks) >= 2:
            profiles = [
                replace(
                    profile,
                    noise=learnt_noise(profile, [_read(column, chunk, i) for chunk in chunks]),
                )
                for i, (column, profile) in enumerate(zip(columns, profiles, strict=True))
            ]
        return DriftProfile(
            rows=whole["rows"],
            columns=tuple(profiles),
            start=_instant(whole["first"]),
            end=_instant(whole["last"]),
            chunks=len(chunks) if len(chunks) >= 2 else 0,
        )

    def _expect(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self._relation.columns]
        if missing:
            raise InvalidInput(
                "columns that are not in the data",
                found=", ".join(missing),
                allowed=", ".join(self._relation.columns),
            )

    def _columns(self) -> list[_Column]:
        pairs = zip(self._relation.columns, self._relation.types, strict=True)
        return [
            _Column(name=name, kind=_KIND_BY_TYPE[kind.id], sql_type=kind.id)
            for name, kind in pairs
            if kind.id in _KIND_BY_TYPE
        ]

    def _from_reference(self, columns: Sequence[_Column]) -> list[_Column]:
        """The columns with the reference's bins; one that has changed its kind, or is new, has none."""
        return [self._like(each, self._reference.column(each.name)) for each in columns if self._reference]

    def _like(self, column: _Column, known: ColumnProfile | None) -> _Column:
        strings = ("categorical", "text")
        if known is None or (known.kind != column.kind and not {known.kind, column.kind} <= {*strings}):
            return column
        same = replace(column, kind=known.kind)
        return replace(same, edges=known.edges) if same.binned else replace(same, categories=known.categories)

    def _from_sample(self, columns: Sequence[_Column]) -> list[_Column]:
        if not columns:
            return []
        size = max(_SAMPLE_CELLS // len(columns), 2_000)
        values = ", ".join(f"{column.usable} AS v{i}" for i, column in enumerate(columns))
        wanted = ", ".join(self._sampled(column, f"v{i}") for i, column in enumerate(columns))
        with _one_thread(self._con):
            found = self._relation.query(
                _ROWS,
                f"SELECT {wanted} FROM (SELECT {values} FROM {_ROWS} "  # noqa: S608
                f"USING SAMPLE reservoir({min(size, _SAMPLE_ROWS)} ROWS) REPEATABLE ({_SAMPLE_SEED}))",
            ).fetchall()
        return [self._chosen(column, each) for column, each in zip(columns, found[0], strict=True)]

    def _sampled(self, column: _Column, value: str) -> str:
        if not column.binned:
            return f"histogram({value})"
        ranks = ", ".join(str(i / self._bins) for i in range(self._bins + 1))
        return f"quantile_disc({value}, [{ranks}])"

    def _chosen(self, column: _Column, found: Any) -> _Column:
        if column.binned:
            return replace(column, edges=choose_edges(found or ()))
        counts: dict[str, int] = found or {}
        rows, length = sum(counts.values()), sum(len(value) * n for value, n in counts.items())
        if rows and len(counts) > _TEXT_DISTINCT * rows and length > _TEXT_LENGTH * rows:
            lengths = sorted(float(len(value)) for value, n in counts.items() for _ in range(n))
            ranks = [lengths[round(i * (rows - 1) / self._bins)] for i in range(self._bins + 1)]
            return replace(column, kind="text", edges=choose_edges(ranks))
        ranked = sorted(counts, key=lambda value: (-counts[value], value))
        return replace(column, categories=tuple(ranked[: self._top]))

    def _count(
        self, columns: Sequence[_Column], time_column: str | None, chunk_s: float | None
    ) -> list[dict[str, Any]]:
        time = f"epoch({_quote(time_column)})" if time_column else "NULL"
        wanted = [
            "count(*) AS rows",
            "min(mlretrain_time) AS first",
            "max(mlretrain_time) AS last",
            *(
                f"{sql} AS {name}{i}"
                for i, column in enumerate(columns)
                for name, sql in _aggregates(column, i)
            ),
        ]
        # Once per row here: a FILTER for each aggregate costs five times as much.
        values = [f"{column.usable} AS v{i}, {column.raw} AS p{i}" for i, column in enumerate(columns)]
        values.append(f"{time} AS mlretrain_time")
        if chunk_s:
            values.append(f"floor({time} / {chunk_s!r}) AS mlretrain_chunk")
            # The total's row has no chunk; rows without a time share chunk -1.
            wanted.append(
                "CASE grouping(mlretrain_chunk) WHEN 0 THEN coalesce(mlretrain_chunk, -1) END AS chunk"
            )
            tail = "GROUP BY GROUPING SETS ((mlretrain_chunk), ()) ORDER BY mlretrain_chunk"
        else:
            wanted.append("NULL AS chunk")
            tail = ""
        found = self._relation.query(
            _ROWS,
            f"SELECT {', '.join(wanted)} FROM (SELECT {', '.join(values)} FROM {_ROWS}) {tail}",  # noqa: S608
        )
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def choose_edges(quantiles: Sequence[float]) -> tuple[float, ...]:
    """The edges for these quantiles, of which the first is the minimum and the last the maximum.

    A value that fills a whole quantile gets a bin of its own, as does the minimum, so that the first bin
    holds only what is smaller than all that was seen.
    """
    edges = set(quantiles)
    alone = {a for a, b in pairwise(quantiles) if a == b} | set(quantiles[:1])
    edges |= {math.nextafter(value, -math.inf) for value in alone}
    return tuple(sorted(edges))


def _aggregates(column: _Column, i: int) -> Iterator[tuple[str, str]]:
    value, raw = f"v{i}", f"p{i}"
    yield "present", f"count({raw})"
    if column.binned:
        yield "usable", f"count({value})"
        for name, function in _MOMENTS:
            yield name, f"{function}({value})"
        if column.edges:
            edges = ", ".join(f"'{edge!r}'" for edge in column.edges)
            yield "counts", f"histogram({value}, [{edges}]::DOUBLE[])"
    elif column.categories:
        # DuckDB counts all that is not listed under the key '', hence the prefix.
        listed = ", ".join(_literal(f"={each}") for each in column.categories)
        yield "counts", f"histogram_exact('=' || {value}, [{listed}])"
    yield "distinct", f"approx_count_distinct({raw})"


def _read(column: _Column, row: dict[str, Any], i: int) -> ColumnProfile:
    present = row[f"present{i}"]
    found = row.get(f"counts{i}") or {}
    profile = ColumnProfile(
        name=column.name,
        kind=column.kind,
        n=row["rows"],
        nulls=row["rows"] - present,
        distinct=row[f"distinct{i}"],
    )
    if not column.binned:
        listed = column.categories or ()
        counts = tuple(found.get(f"={each}", 0) for each in listed)
        return replace(profile, categories=listed, counts=counts, other=present - sum(counts))
    usable = row[f"usable{i}"]
    edges = column.edges or ()
    below = tuple(found.get(edge, 0) for edge in edges)
    mean, sd = row[f"mean{i}"], row[f"sd{i}"]
    digits = _stable_digits(mean, sd)
    return replace(
        profile,
        nonfinite=present - usable,
        edges=edges,
        counts=(*below, usable - sum(below)),
        minimum=row[f"minimum{i}"],
        maximum=row[f"maximum{i}"],
        mean=None if mean is None else round(mean, digits),
        sd=None if sd is None else round(sd, digits),
    )


def _stable_digits(mean: float | None, sd: float | None) -> int:
    """Decimals that do not depend on the order in which DuckDB's threads add up: nine of the larger one."""
    scale = max(abs(mean or 0.0), sd or 0.0)
    return 9 - math.floor(math.log10(scale)) if scale else 0


def _full_chunks(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks that are not cut short by the data's ends or by gaps: at least half the median's rows."""
    if not rows:
        return []
    median = sorted(row["rows"] for row in rows)[len(rows) // 2]
    return [row for row in rows if 2 * row["rows"] >= median]


@contextmanager
def _one_thread(con: DuckDBPyConnection) -> Iterator[None]:
    """With several threads DuckDB's reservoir depends on which of them comes first."""
    found = con.execute("SELECT current_setting('threads')").fetchone()
    con.execute("SET threads = 1")
    try:
        yield
    finally:
        con.execute(f"SET threads = {int(found[0]) if found else 1}")


def _instant(epoch: float | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
