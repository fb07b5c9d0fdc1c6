"""What a set of rows looks like, column by column, in a few kilobytes: the reference for drift.

The bins are part of a profile's definition. A reference chooses them: edges at the quantiles of its own
data, one bin for each value that fills a whole quantile, and open bins beyond its smallest and largest
value. A current window is counted in the reference's bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

PROFILE_VERSION = 1
BINS = 32
TOP_CATEGORIES = 100

Kind = Literal["numeric", "categorical", "boolean", "datetime", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """One column.

    :param n: rows, of which ``nulls`` are null and ``nonfinite`` NaN, infinite or beyond ±1e150.
    :param edges: ascending; bin ``i`` holds ``edges[i-1] < x <= edges[i]``, the outer bins are open. Numbers
        as they are, datetimes as epoch seconds, text as its length.
    :param counts: rows per bin (one more than edges) or per category.
    :param categories: the most frequent values; ``other`` rows have a value that is not among them.
    :param distinct: number of distinct values, estimated.
    :param noise: by metric, the effect that this column shows between its own time chunks and the rest.
    """

    name: str
    kind: Kind
    n: int
    nulls: int
    nonfinite: int = 0
    distinct: int | None = None
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    other: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    sd: float | None = None
    noise: Mapping[str, float] = field(default_factory=dict)

    @property
    def valued(self) -> int:
        """Rows that have a usable value."""
        return self.n - self.nulls - self.nonfinite

    @property
    def missing_rate(self) -> float:
        """Share of rows without a usable value; 0 of no rows."""
        return (self.nulls + self.nonfinite) / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftProfile:
    """All columns of a set of rows; ``start`` and ``end`` are its first and last instant, if known.

    :param chunks: time chunks that the noise was learnt from.
    """

    version: int = PROFILE_VERSION
    rows: int
    columns: tuple[ColumnProfile, ...]
    start: datetime | None = None
    end: datetime | None = None
    chunks: int = 0

    def column(self, name: str) -> ColumnProfile | None:
        """The column of that name; ``None`` if there is none."""
        return next((each for each in self.columns if each.name == name), None)


def build_profile(
    con: DuckDBPyConnection,
    relation: DuckDBPyRelation,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    time_column: str | None = None,
    chunk_s: float | None = None,
    bins: int = BINS,
    top: int = TOP_CATEGORIES,
    reference: DriftProfile | None = None,
) -> DriftProfile:
    """The profile of a relation, in bounded memory: one scan with a ``reference``, two without.

    The same rows in the same order give the same profile. Columns of nested or binary types are left out.

    :param include: the columns to profile; all if left out. ``time_column`` is never profiled.
    :param time_column: gives ``start`` and ``end``.
    :param chunk_s: length of a time chunk in seconds, best that of the monitored windows; the noise of each
        column is learnt from how far its chunks differ from the rest.
    :param bins: quantile bins of a numeric column.
    :param top: categories that are counted one by one.
    :param reference: count in the bins and categories of this profile, to be compared with it.
    """
    from mlretrain.drift.scan import Scan

    return Scan(con, relation, bins=bins, top=top, reference=reference).profile(
        include=include, exclude=exclude, time_column=time_column, chunk_s=chunk_s
    )


def with_prediction(
    reference: DriftProfile, predictions: DriftProfile, column: str = "prediction"
) -> DriftProfile:
    """``reference`` with the column of predictions from another profile, to compare a window with both."""
    prediction = predictions.column(column)
    others = tuple(each for each in reference.columns if each.name != column)
    return replace(reference, columns=(*others, prediction) if prediction else others)
