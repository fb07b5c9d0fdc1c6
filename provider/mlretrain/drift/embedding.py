"""Embeddings: vectors as a few numbers each, which are profiled as any number is.

Of a vector remain its norm and its shares in eight fixed directions. Two clouds that differ at all differ in
most directions (Cramér & Wold 1936), so eight that were drawn before any data was seen tell most that differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from mlretrain.drift.profile import ColumnProfile
from mlretrain.drift.scan import Chunks, DuckdbSource, Scan

DIRECTIONS = 8
LARGEST_DIMENSION = 4096
"""Longer vectors are no embeddings; none of them counts as usable."""
FOLD_BEYOND, FOLDED = 512, 256
"""A centroid of more dimensions than the first is kept folded into as many as the second."""

_LARGEST = "1e60"
"""The largest square of a norm that anything can be computed with in single precision."""
_TIME = "mlretrain_time"


def part_names(column: str) -> list[str]:
    """The names of an embedding's parts: its norm and its projections."""
    return [f"{column}.norm", *(f"{column}.p{i}" for i in range(DIRECTIONS))]


def directions(dimension: int) -> list[list[int]]:
    """The signs of vectors that all profiles of this dimension are projected on, divided by √dimension.

    Signs do as well as Gaussian directions (Achlioptas 2003), and are written shorter.
    """
    drawn = random.Random(dimension)  # noqa: S311 - the same for everybody is the point
    return [[1 if bit == "1" else -1 for bit in _bits(drawn, dimension)] for _ in range(DIRECTIONS)]


def fold(centroid: Sequence[float]) -> tuple[float, ...]:
    """A mean vector, of more than :data:`FOLD_BEYOND` dimensions in :data:`FOLDED`.

    Each dimension is added, with a sign, to one of the :data:`FOLDED`, both drawn once for the dimension.
    Distances between centroids stay what they are but for some 1/√128 of them (Charikar et al. 2002).
    """
    if len(centroid) <= FOLD_BEYOND:
        return tuple(centroid)
    drawn = random.Random(-len(centroid))  # noqa: S311
    folded = [0.0] * FOLDED
    for sign, value in zip(_bits(drawn, len(centroid)), centroid, strict=True):
        folded[drawn.randrange(FOLDED)] += value if sign == "1" else -value
    return tuple(folded)


def _bits(drawn: random.Random, n: int) -> str:
    return f"{drawn.getrandbits(n):0{n}b}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """One column of lists of numbers.

    A vector of another dimension, with a null, NaN or infinite element, or too long to compute with, counts
    as not finite. Norms are rounded to four digits and shares of it to four decimals, so that the same model
    on other hardware gives the same profile.

    :param dimension: of the usable vectors.
    """

    scan: Scan
    name: str
    dimension: int | None

    @classmethod
    def first_seen(cls, scan: Scan, name: str) -> Embedding:
        """The column with the dimension that most of its vectors have."""
        column, table = scan.dialect.quote(name), scan.source.table
        found: list[Any] = scan.source.query(
            f"SELECT len({column}), count(*) FROM {table} "  # noqa: S608
            f"WHERE len({column}) BETWEEN 1 AND {LARGEST_DIMENSION} "
            "GROUP BY 1 ORDER BY 2 DESC, 1 DESC LIMIT 1"
        )
        return cls(scan=scan, name=name, dimension=int(found[0][0]) if found else None)

    def parts(self) -> Scan:
        """The scan of what remains of each vector, some forty bytes that are kept in memory meanwhile."""
        # Only DuckDB's dialect knows of vectors.
        source = cast("DuckdbSource", self.scan.source)
        return Scan(
            source=source.materialised(self._parts()),
            names=tuple(part_names(self.name)),
            time_column=self.scan.time_column and _TIME,
            origin=self.scan.origin,
        )

    def count(self, bins: ColumnProfile, chunk_s: float | None) -> Chunks:
        """Profiles by time chunk."""
        scan = self.parts()
        parts = [scan.column(part, chunk_s) for part in bins.parts]
        means = self._sums(chunk_s)
        return {
            chunk: replace(
                bins,
                n=norm.n,
                nulls=norm.nulls,
                nonfinite=norm.nonfinite,
                parts=tuple(counted[chunk] for counted in parts),
                centroid=_centroid(means.get(chunk, ()), norm),
            )
            for chunk, norm in parts[0].items()
        }

    def _parts(self) -> str:
        """The query of each row's parts: null without a vector, NaN of an unusable one."""
        quote, dimension = self.scan.dialect.quote, self.dimension or 1
        length = math.sqrt(dimension)
        shares = [
            f"round(array_inner_product(v, {signs}::{self._array}) / (root * {length!r}), 4)"
            for signs in directions(dimension)
        ]
        parts = ["norm", *(f"CASE WHEN root > 0 THEN norm * {share} ELSE norm END" for share in shares)]
        named = zip(parts, part_names(self.name), strict=True)
        columns = [_TIME, *(f"CAST({part} AS FLOAT) AS {quote(name)}" for part, name in named)]
        return (
            f"SELECT {', '.join(columns)} FROM (SELECT *, "  # noqa: S608
            "CASE WHEN root > 0 THEN round(root, CAST(3 - floor(log10(root)) AS INTEGER)) "
            "WHEN given IS NULL THEN NULL WHEN root = 0 THEN 0 ELSE 'NaN'::DOUBLE END AS norm "
            f"FROM ({self._vectors()}))"
        )

    def _sums(self, chunk_s: float | None) -> dict[int, list[float]]:
        """The sum of the usable vectors of each chunk."""
        chunk = replace(self.scan, time_column=_TIME).chunk(chunk_s)
        found: list[Any] = self.scan.source.query(
            "SELECT chunk, i, sum(x) FROM ("  # noqa: S608
            "SELECT chunk, generate_subscripts(v, 1) AS i, unnest(v) AS x FROM ("
            f"SELECT {chunk} AS chunk, CAST(v AS DOUBLE[]) AS v FROM ({self._vectors()}) "
            "WHERE root IS NOT NULL)"
            ") GROUP BY ALL ORDER BY ALL"
        )
        sums: dict[int, list[float]] = {}
        for number, _, x in found:
            if number is not None:
                sums.setdefault(int(number), []).append(float(x))
        return sums

    def _vectors(self) -> str:
        """The query of each row's time, vector ``v`` and its length ``root``; both null if it is unusable."""
        quote = self.scan.dialect.quote
        time = quote(self.scan.time_column) if self.scan.time_column else "NULL"
        # An array has one size, and the cast to it leaves no null element behind where DuckDB would look.
        fits = "list_count(given) = len(given)" if self.dimension else "1 = 0"
        return (
            f"SELECT *, CASE WHEN square < {_LARGEST} THEN sqrt(square) END AS root FROM ("  # noqa: S608
            f"SELECT *, array_inner_product(v, v) AS square FROM ("
            f"SELECT *, CASE WHEN {fits} THEN TRY_CAST(given AS {self._array}) END AS v FROM ("
            f"SELECT {time} AS {_TIME}, CAST({quote(self.name)} AS DOUBLE[]) AS given "
            f"FROM {self.scan.source.table})))"
        )

    @property
    def _array(self) -> str:
        return f"DOUBLE[{self.dimension or 1}]"


def _centroid(sums: Sequence[float], norm: ColumnProfile) -> tuple[float, ...]:
    """The mean vector to six digits of the mean norm: threads add up in any order."""
    digits = 6 - math.ceil(math.log10(norm.mean)) if norm.mean else 6
    return tuple(round(each, digits) for each in fold([x / norm.valued for x in sums]))
