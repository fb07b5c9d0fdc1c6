"""The scans behind a profile: one small aggregate per column, answered in bounded memory by the database.

A column store reads each column once that way, which DuckDB does at twice the time of a bare scan.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlretrain.drift.dialect import DUCKDB, Dialect, Source
from mlretrain.drift.grid import CELLS, Grid
from mlretrain.drift.profile import FRESH, ColumnProfile, DriftProfile, Kind
from mlretrain.errors import InvalidInput

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_ROWS = "mlretrain_rows"
_MANY = 10_000
"""With more distinct values than this only the listed ones are grouped by, so that memory stays small."""
_LARGEST = 1e150
"""Squares of larger numbers overflow a double; cells beyond hold nothing that can be computed with."""
_ALL = 0
"""The only chunk of rows that are not told apart."""

Chunks = dict[int, ColumnProfile]
"""One column by time chunk."""


class DuckdbSource:
    """A DuckDB relation."""

    dialect = DUCKDB
    table = _ROWS

    def __init__(self, relation: DuckDBPyRelation) -> None:
        self._relation: Any = relation  # DuckDB annotates query() wrongly.

        types = zip(relation.columns, relation.types, strict=True)
        self._types = {name: _type_name(kind) for name, kind in types}
        self._kept: dict[str, DuckdbSource] = {}

    def types(self) -> dict[str, str]:
        """Columns with their types' names."""
        return self._types

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """The rows of an aggregate's answer."""
        rows: list[tuple[object, ...]] = self._relation.query(_ROWS, sql).fetchall()
        return rows

    def materialised(self, sql: str) -> DuckdbSource:
        """The rows of a query as a source of their own, in memory as long as this one lives."""
        from mlretrain.data.read import connect

        if sql not in self._kept:
            table = self._relation.query(_ROWS, sql).to_arrow_table()
            self._kept[sql] = DuckdbSource(connect().from_arrow(table))
        return self._kept[sql]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Profiles the chosen columns of one source.

    :param names: the columns, of kinds that can be profiled.
    :param origin: the instant, in seconds after 1970, from which time chunks are counted.
    """

    source: Source
    names: tuple[str, ...]
    time_column: str | None
    origin: float = 0.0

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        include: Sequence[str] | None,
        exclude: Sequence[str],
        time_column: str | None,
    ) -> Scan:
        """The scan of these columns. Raises :class:`InvalidInput` for one that does not exist."""
        types = source.types()
        missing = [each for each in (*(include or ()), time_column) if each is not None and each not in types]
        if missing:
            raise InvalidInput(
                "columns that are not in the data", found=", ".join(missing), allowed=", ".join(types)
            )
        known = source.dialect
        names = [name for name, kind in types.items() if known.kind(kind) or kind in known.untyped]
        wanted = [name for name in names if include is None or name in include]
        return cls(
            source=source,
            names=tuple(name for name in wanted if name not in (*exclude, time_column)),
            time_column=time_column,
        )

    @property
    def dialect(self) -> Dialect:
        """The source's."""
        return self.source.dialect

    def kind(self, name: str) -> Kind | None:
        """The kind of one of the columns by its type alone; ``None`` if it holds nothing but nulls."""
        return self.dialect.kind(self.source.types()[name])

    def extent(self) -> tuple[int, datetime | None, datetime | None]:
        """Rows, first and last instant."""
        return self._extent(chunk_s=None).get(_ALL, (0, None, None))

    def count(self, bins: Iterable[ColumnProfile]) -> DriftProfile:
        """The profile of all rows."""
        rows, start, end = self.extent()
        columns = [self.column(each, chunk_s=None).get(_ALL, each) for each in bins]
        return DriftProfile(rows=rows, columns=tuple(columns), start=start, end=end)

    def count_chunks(self, bins: Sequence[ColumnProfile], chunk_s: float) -> tuple[DriftProfile, ...]:
        """The profile of every time chunk with rows, oldest first."""
        extents = self._extent(chunk_s)
        counted = [(each, self.column(each, chunk_s)) for each in bins]
        return tuple(
            DriftProfile(
                rows=extents[chunk][0],
                columns=tuple(found.get(chunk, empty) for empty, found in counted),
                start=_instant(self.origin + chunk * chunk_s),
                end=_instant(self.origin + (chunk + 1) * chunk_s),
            )
            for chunk in sorted(extents)
        )

    def value(self, column: ColumnProfile) -> str:
        """The SQL of what is counted: a text to list, or a double for the grid."""
        name = self.dialect.quote(column.name)
        if column.listed:
            return self.dialect.string(name)
        return self.dialect.measure(name, column.kind, self.source.types()[column.name])

    def chunk(self, chunk_s: float | None) -> str:
        """The number of a row's time chunk, or the one that all rows share."""
        if not chunk_s:
            return str(_ALL)
        number = self.dialect.number
        return f"floor(({self._time()} - {number(self.origin)}) / {number(chunk_s)})"

    def _time(self) -> str:
        return self.dialect.epoch.format(self.dialect.quote(self.time_column or ""))

    def _extent(self, chunk_s: float | None) -> dict[int, tuple[int, datetime | None, datetime | None]]:
        """Rows, first and last instant of each chunk."""
        time = self.dialect.quote(self.time_column) if self.time_column else "NULL"
        first, last = (
            self.dialect.epoch.format(f"{end}({time})") if self.time_column else "NULL"
            for end in ("min", "max")
        )
        sql = f"SELECT {self.chunk(chunk_s)}, count(*), {first}, {last} FROM {self.source.table}"  # noqa: S608
        found: list[Any] = self.source.query(sql + (" GROUP BY 1" if chunk_s else ""))
        return {
            int(chunk): (int(rows), _instant(start), _instant(end))
            for chunk, rows, start, end in found
            if chunk is not None
        }

    def column(self, bins: ColumnProfile, chunk_s: float | None) -> Chunks:
        """One column by time chunk."""
        from mlretrain.drift.embedding import Embedding

        if bins.kind == "embedding":
            return Embedding(scan=self, name=bins.name, dimension=bins.dimension).count(bins, chunk_s)
        return self._listed(bins, chunk_s) if bins.listed else self._binned(bins, chunk_s)

    def _binned(self, bins: ColumnProfile, chunk_s: float | None) -> Chunks:
        grid = bins.grid or Grid(center=0.0, scale=1.0)
        number = self.dialect.number
        value = self.value(bins)
        share = f"d / ({number(grid.scale)} + abs(d))"
        empty = f"sum(CASE WHEN d = {number(-grid.center)} THEN 1 ELSE 0 END)" if bins.kind == "text" else "0"
        # A constant to group by would cost a tenth of the time.
        told, by = ("chunk", "1, 2") if chunk_s else (str(_ALL), "2")
        chunk = f"{self.chunk(chunk_s)} AS chunk, " if chunk_s else ""
        sql = (
            f"SELECT {told}, floor({share} * {CELLS}), count(*), sum(d), {empty} FROM ("  # noqa: S608
            f"SELECT {chunk}{value} - {number(grid.center)} AS d "
            f"FROM {self.source.table}) AS numbers GROUP BY {by}"
        )
        return {
            which: _numbers(replace(bins, grid=grid, distinct=None), rows)
            for which, rows in _by_chunk(self.source.query(sql)).items()
        }

    def _listed(self, bins: ColumnProfile, chunk_s: float | None) -> Chunks:
        """Rows per category; the most frequent values beyond them too where there are not too many."""
        value = self.value(bins)
        listed = self._in_list("v", bins)
        if (bins.distinct or 0) > _MANY:
            value = (
                f"CASE WHEN {self._in_list(value, bins)} THEN {value} WHEN {value} IS NOT NULL THEN '' END"
            )
        kept = len(bins.categories) + 1 + FRESH
        sql = (
            "SELECT chunk, v, n, d, t FROM ("  # noqa: S608
            "SELECT chunk, v, n, count(v) OVER w AS d, sum(n) OVER w AS t, row_number() OVER ("
            f"PARTITION BY chunk ORDER BY CASE WHEN v IS NULL OR {listed} THEN 0 ELSE 1 END, n DESC, v) AS r "
            f"FROM (SELECT {self.chunk(chunk_s)} AS chunk, {value} AS v, count(*) AS n "
            f"FROM {self.source.table} GROUP BY 1, 2) AS counted WINDOW w AS (PARTITION BY chunk)"
            f") AS ranked WHERE r <= {kept}"
        )
        found = _by_chunk(self.source.query(sql))
        return {chunk: self._categories(bins, rows) for chunk, rows in found.items()}

    def _in_list(self, value: str, bins: ColumnProfile) -> str:
        if not bins.categories:
            return "1 = 0"
        text = value if bins.salt is None else self.dialect.digest(value, bins.salt)
        return f"{text} IN ({', '.join(self.dialect.literal(each) for each in bins.categories)})"

    def _categories(self, bins: ColumnProfile, rows: list[Any]) -> ColumnProfile:
        tally = {value: int(n) for value, n, _, _ in rows if value is not None}
        by_name = dict(zip(digests(bins, list(tally)), tally.values(), strict=True))
        nulls = sum(int(n) for value, n, _, _ in rows if value is None)
        total = int(rows[0][3])
        counts = tuple(by_name.pop(each, 0) for each in bins.categories)
        fewer = (bins.distinct or 0) > _MANY
        fresh = () if fewer else tuple(sorted(by_name.items(), key=lambda each: (-each[1], each[0]))[:FRESH])
        return replace(
            bins,
            n=total,
            nulls=nulls,
            empty=tally.get("", 0) if not fewer else 0,
            distinct=bins.distinct if fewer else int(rows[0][2]),
            counts=counts,
            other=total - nulls - sum(counts),
            fresh=fresh,
        )


def _type_name(kind: Any) -> str:
    """A type's name in lower case; for lists with that of their elements, for others without parameters."""
    return str(kind).lower() if kind.id in ("list", "array") else str(kind.id)


def digests(column: ColumnProfile, values: Sequence[str]) -> list[str]:
    """The values as they are kept: for a sensitive column what :meth:`Dialect.digest` computes too."""
    if column.salt is None:
        return list(values)
    salted = (f"{column.salt}{value}".encode() for value in values)
    return [hashlib.md5(each, usedforsecurity=False).hexdigest()[:16] for each in salted]


def _by_chunk(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[Any]]:
    """The rest of each row by its first figure; rows without a time belong to no chunk."""
    found: dict[int, list[Any]] = {}
    for chunk, *rest in rows:
        if chunk is not None:
            found.setdefault(int(chunk), []).append(rest)
    return found


def _numbers(bins: ColumnProfile, rows: list[Any]) -> ColumnProfile:
    """The profile from (cell, rows, sum of distances from the centre, empty texts).

    The cell is null or NaN for rows without a usable number.
    """
    grid = bins.grid or Grid(center=0.0, scale=1.0)
    nulls = sum(int(n) for cell, n, _, _ in rows if cell is None)
    found = sorted((int(cell), int(n), d) for cell, n, d, _ in rows if cell is not None and cell == cell)
    kept = [(cell, n, d) for cell, n, d in found if abs(d / n) < _LARGEST]
    nonfinite = sum(int(n) for cell, n, *_ in rows if cell is not None) - sum(n for _, n, _ in kept)
    counts: dict[int, int] = {}
    for cell, n, _ in kept:
        # What is too far away to be told from infinity by the division is in the last cell too.
        counts[min(cell, CELLS - 1)] = counts.get(min(cell, CELLS - 1), 0) + n
    total = sum(counts.values())
    mean, sd = _mean_and_sd([(n, d) for _, n, d in kept], total)
    return replace(
        bins,
        n=nulls + nonfinite + total,
        nulls=nulls,
        nonfinite=nonfinite,
        empty=sum(int(empty or 0) for *_, empty in rows),
        cells=tuple(counts),
        counts=tuple(counts.values()),
        mean=_stable(grid.center + mean, grid.scale),
        sd=_stable(sd, grid.scale),
    )


def _mean_and_sd(sums: Sequence[tuple[int, float]], total: int) -> tuple[float, float]:
    """From rows and sums per cell; what rows differ within a cell is left out of the deviation."""
    if not total or not all(math.isfinite(each) for _, each in sums):
        return math.nan, math.nan
    mean = math.fsum(each / total for _, each in sums)
    return mean, math.hypot(*((each / n - mean) * math.sqrt(n / total) for n, each in sums))


def _stable(x: float, scale: float) -> float | None:
    """``x`` to nine digits of the larger of itself and ``scale``: threads add up in any order."""
    if not math.isfinite(x):
        return None
    largest = max(abs(x), scale)
    return round(x, 9 - math.floor(math.log10(largest))) if largest > 1e-290 else x


def _instant(epoch: Any) -> datetime | None:
    """``None`` too for what no calendar of Python holds."""
    try:
        return None if epoch is None else datetime.fromtimestamp(float(epoch), UTC)
    except (OverflowError, ValueError):
        return None
