"""What a set of rows looks like, column by column, in a few kilobytes: what drift is measured on.

The bins are part of a profile's definition. A reference chooses them from its own data; a window is counted
in its reference's bins. Profiles that were counted in the same bins merge into the profile of all their
rows, in any order; none holds a row, nor a single value beyond the most frequent categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Literal

from mlretrain.drift.grid import Grid
from mlretrain.errors import ContractError

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

    from mlretrain.drift.dialect import Source

PROFILE_VERSION = 2
TOP_CATEGORIES = 100
_MOMENT = 1e-3
FRESH = 5
"""Values that are not among the categories, kept by name."""

Kind = Literal["numeric", "categorical", "boolean", "datetime", "text", "embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """One column.

    :param n: rows, of which ``nulls`` are null and ``nonfinite`` NaN, infinite or too large to compute with.
    :param empty: rows with an empty text.
    :param distinct: at least so many distinct values, where they were counted.
    :param grid: of numbers as they are, datetimes as epoch seconds, text by its length.
    :param cells: the occupied cells of the grid, ascending.
    :param counts: rows per occupied cell or per category.
    :param categories: the most frequent values of the reference; ``other`` rows have a value not among them.
    :param fresh: the most frequent of the other values with their rows.
    :param salt: not ``None`` for a sensitive column, whose values are kept as digests with this salt.
    :param noise: by metric, the effect that this column shows between its own time chunks and the rest.
    :param parts: what an embedding is made of: its norm and its projections.
    :param centroid: an embedding's mean vector.
    :param dimension: of an embedding's vectors.
    """

    name: str
    kind: Kind
    n: int = 0
    nulls: int = 0
    nonfinite: int = 0
    empty: int = 0
    distinct: int | None = None
    grid: Grid | None = None
    cells: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    other: int = 0
    fresh: tuple[tuple[str, int], ...] = ()
    salt: str | None = None
    mean: float | None = None
    sd: float | None = None
    noise: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[ColumnProfile, ...] = ()
    centroid: tuple[float, ...] = ()
    dimension: int | None = None

    @property
    def valued(self) -> int:
        """Rows that have a usable value."""
        return self.n - self.nulls - self.nonfinite

    @property
    def missing_rate(self) -> float:
        """Share of rows without a usable value; 0 of no rows."""
        return (self.nulls + self.nonfinite) / self.n if self.n else 0.0

    @property
    def listed(self) -> bool:
        """Whether values are counted by category, not in the cells of a grid."""
        return self.kind in ("categorical", "boolean")

    @property
    def bins(self) -> object:
        """What must be equal for two profiles of the column to merge."""
        parts = tuple(part.bins for part in self.parts)
        return self.name, self.kind, self.grid, self.categories, self.salt, self.dimension, parts


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftProfile:
    """All columns of a set of rows; ``start`` and ``end`` are its first and last instant, if known.

    :param chunks: time chunks that the noise was learnt from; ``chunk_rows`` is their median size.
    """

    version: int = PROFILE_VERSION
    rows: int
    columns: tuple[ColumnProfile, ...]
    start: datetime | None = None
    end: datetime | None = None
    chunks: int = 0
    chunk_rows: int = 0

    def column(self, name: str) -> ColumnProfile | None:
        """The column of that name; ``None`` if there is none."""
        return next((each for each in self.columns if each.name == name), None)


def build_profile(
    relation: DuckDBPyRelation,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    time_column: str | None = None,
    chunk_s: float | None = None,
    top: int = TOP_CATEGORIES,
    sensitive: Sequence[str] = (),
    reference: DriftProfile | None = None,
) -> DriftProfile:
    """The profile of a relation, in bounded memory; every column is read once, or thrice without a reference.

    The same rows in any order give the same counts. Columns of binary types are left out, and of nested types
    all but lists of floats, which are embeddings.

    :param include: the columns to profile; all if left out. ``time_column`` is never profiled.
    :param time_column: gives ``start`` and ``end``.
    :param chunk_s: length of a time chunk in seconds, best that of the monitored windows; the noise of each
        column is learnt from how far its chunks differ from the rest.
    :param top: categories that are counted one by one.
    :param sensitive: columns of which no value is kept, only digests.
    :param reference: count in the bins and categories of this profile, to be compared with it.
    :raises InvalidInput: a column does not exist.
    """
    from mlretrain.drift.scan import DuckdbSource

    return profile_source(
        DuckdbSource(relation),
        include=include,
        exclude=exclude,
        time_column=time_column,
        chunk_s=chunk_s,
        top=top,
        sensitive=sensitive,
        reference=reference,
    )


def profile_source(
    source: Source,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    time_column: str | None = None,
    chunk_s: float | None = None,
    top: int = TOP_CATEGORIES,
    sensitive: Sequence[str] = (),
    reference: DriftProfile | None = None,
) -> DriftProfile:
    """:func:`build_profile` of anything that answers aggregates, such as a table in a database."""
    from mlretrain.drift.choose import Choice
    from mlretrain.drift.noise import with_noise
    from mlretrain.drift.scan import Scan

    scan = Scan.of(source, include=include, exclude=exclude, time_column=time_column)
    bins = Choice(scan=scan, top=top, sensitive=sensitive).bins(reference)
    if chunk_s is None or time_column is None or reference is not None:
        return scan.count(bins)
    _, start, end = scan.extent()
    # Counted back from just after the last row, so that only the oldest chunk can be cut short.
    origin = end.timestamp() + _MOMENT if end else 0.0
    chunks = replace(scan, origin=origin).count_chunks(bins, chunk_s)
    if not chunks:
        return scan.count(bins)
    return with_noise(replace(merge(chunks), start=start, end=end), chunks)


def profile_chunks(
    relation: DuckDBPyRelation,
    *,
    time_column: str,
    chunk_s: float,
    origin: datetime | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    top: int = TOP_CATEGORIES,
    sensitive: Sequence[str] = (),
    reference: DriftProfile | None = None,
) -> tuple[DriftProfile, ...]:
    """The profile of each time chunk that has rows, oldest first, all in the same bins, so that they merge.

    Chunk ``i`` is [``i`` · ``chunk_s``, (``i`` + 1) · ``chunk_s``) after ``origin``, 1970 if left out, as
    its ``start`` and ``end`` say. Rows without a time are left out. The rest is as in :func:`build_profile`.
    """
    from mlretrain.drift.choose import Choice
    from mlretrain.drift.scan import DuckdbSource, Scan

    scan = Scan.of(DuckdbSource(relation), include=include, exclude=exclude, time_column=time_column)
    scan = replace(scan, origin=origin.timestamp() if origin else 0.0)
    return scan.count_chunks(Choice(scan=scan, top=top, sensitive=sensitive).bins(reference), chunk_s)


def merge(profiles: Iterable[DriftProfile]) -> DriftProfile:
    """The profile of all rows together; what was learnt about noise is left behind.

    Associative and commutative (means and deviations within rounding).

    :raises ContractError: no profile, or profiles that were counted in different bins.
    """
    every = list(profiles)
    if not every:
        raise ContractError("no profile to merge")
    for each in every[1:]:
        if [one.bins for one in each.columns] != [one.bins for one in every[0].columns]:
            raise ContractError(
                "profiles counted in different bins cannot be merged",
                found=_difference(every[0], each),
                remedy="Profile both with the same reference.",
            )
    return DriftProfile(
        rows=sum(each.rows for each in every),
        columns=tuple(
            reduce(_together, columns) for columns in zip(*(each.columns for each in every), strict=True)
        ),
        start=min((each.start for each in every if each.start), default=None),
        end=max((each.end for each in every if each.end), default=None),
    )


def _difference(one: DriftProfile, other: DriftProfile) -> str:
    names = {each.name: each.bins for each in one.columns}
    others = {each.name: each.bins for each in other.columns}
    return ", ".join(sorted(name for name in {*names, *others} if names.get(name) != others.get(name)))


def _together(one: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    if one.listed:
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        cells: tuple[int, ...] = ()
    else:
        tally = dict(zip(one.cells, one.counts, strict=True))
        for cell, count in zip(other.cells, other.counts, strict=True):
            tally[cell] = tally.get(cell, 0) + count
        cells = tuple(sorted(tally))
        counts = tuple(tally[cell] for cell in cells)
    mean, sd = _moments(one, other)
    return replace(
        one,
        n=one.n + other.n,
        nulls=one.nulls + other.nulls,
        nonfinite=one.nonfinite + other.nonfinite,
        empty=one.empty + other.empty,
        distinct=max((each for each in (one.distinct, other.distinct) if each is not None), default=None),
        cells=cells,
        counts=counts,
        other=one.other + other.other,
        fresh=(),
        mean=mean,
        sd=sd,
        noise={},
        parts=tuple(_together(a, b) for a, b in zip(one.parts, other.parts, strict=True)),
        centroid=_centroid(one, other),
    )


def _moments(one: ColumnProfile, other: ColumnProfile) -> tuple[float | None, float | None]:
    """Mean and deviation of both (Chan, Golub & LeVeque 1979)."""
    if one.mean is None or one.sd is None:
        return other.mean, other.sd
    if other.mean is None or other.sd is None:
        return one.mean, one.sd
    n, m = one.valued, other.valued
    share = m / (n + m)
    apart = other.mean - one.mean
    variance = (1 - share) * one.sd**2 + share * other.sd**2 + share * (1 - share) * apart**2
    return one.mean + share * apart, variance**0.5


def _centroid(one: ColumnProfile, other: ColumnProfile) -> tuple[float, ...]:
    if not one.centroid or not other.centroid:
        return one.centroid or other.centroid
    share = other.valued / (one.valued + other.valued)
    return tuple(a + share * (b - a) for a, b in zip(one.centroid, other.centroid, strict=True))


def with_prediction(
    reference: DriftProfile, predictions: DriftProfile, column: str = "prediction"
) -> DriftProfile:
    """``reference`` with the column of predictions from another profile, to compare a window with both."""
    prediction = predictions.column(column)
    others = tuple(each for each in reference.columns if each.name != column)
    return replace(reference, columns=(*others, prediction) if prediction else others)
