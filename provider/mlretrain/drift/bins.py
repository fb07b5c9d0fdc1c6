"""Two profiles of a column in bins that both have, so that their shares can be compared."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from mlretrain.drift.grid import Grid
from mlretrain.drift.profile import ColumnProfile

GROUPS = 20
"""Bins of about equal weight in the reference for the measures that compare bin by bin."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows of the reference and of the current window, bin by bin.

    :param edges: for numbers, the lower ends of the bins, ascending and then the last one's upper end; the
        outermost may be infinite. Empty for categories, of which the last bin is all others.
    """

    reference: tuple[float, ...]
    current: tuple[float, ...]
    edges: tuple[float, ...] = ()

    def shares(self, pseudo_count: float = 0.0) -> list[tuple[float, float]]:
        """Both shares of each bin; ``pseudo_count`` rows are added to every bin of both."""
        totals = (math.fsum(side) + pseudo_count * len(side) for side in (self.reference, self.current))
        p_rows, q_rows = (total or 1.0 for total in totals)
        return [
            ((p + pseudo_count) / p_rows, (q + pseudo_count) / q_rows)
            for p, q in zip(self.reference, self.current, strict=True)
        ]

    def gaps(self) -> list[float]:
        """The difference of the cumulative shares at the upper end of each bin."""
        return list(accumulate(p - q for p, q in self.shares()))


@dataclass(frozen=True)
class Sides:
    """Two profiles of a column, brought into common bins once for all measures.

    :param reference: whose bins they are.
    """

    reference: ColumnProfile
    current: ColumnProfile

    @cached_property
    def fine(self) -> Pair:
        """In the finest bins that both have."""
        return align(self.reference, self.current)

    @cached_property
    def coarse(self) -> Pair:
        """In bins of about equal weight."""
        return group(self.fine)


def align(reference: ColumnProfile, current: ColumnProfile) -> Pair:
    """Both in the finest bins that the reference has."""
    if reference.listed:
        return Pair(_by_category(reference, reference), _by_category(current, reference))
    grid = reference.grid or Grid(center=0.0, scale=1.0)
    if current.grid == reference.grid:
        ours, theirs = (dict(zip(each.cells, each.counts, strict=True)) for each in (reference, current))
        cells = sorted({*ours, *theirs})
        return Pair(
            tuple(float(ours.get(cell, 0)) for cell in cells),
            tuple(float(theirs.get(cell, 0)) for cell in cells),
            (*(grid.edge(cell) for cell in cells), grid.edge(cells[-1] + 1)) if cells else (),
        )
    uppers = [grid.edge(cell + 1) for cell in reference.cells]
    below = [_rows_below(current, edge) for edge in uppers]
    moved = [b - a for a, b in zip([0.0, *below], [*below, float(current.valued)], strict=True)]
    return Pair(
        (*(float(each) for each in reference.counts), 0.0),
        tuple(moved),
        (*(grid.edge(cell) for cell in reference.cells), *uppers[-1:], math.inf) if uppers else (),
    )


def group(pair: Pair) -> Pair:
    """The same rows in about :data:`GROUPS` bins of equal weight in the reference; categories stay."""
    if not pair.edges:
        return pair
    least = math.fsum(pair.reference) / GROUPS
    ends, filled = [], 0.0
    for i, count in enumerate(pair.reference):
        alone = count >= least
        if alone and filled > 0:
            ends.append(i)
        filled += count
        if filled >= least:
            ends.append(i + 1)
            filled = 0.0
    ends = sorted({*ends, len(pair.reference)})
    starts = [0, *ends[:-1]]
    spans = list(zip(starts, ends, strict=True))
    ours, theirs = (tuple(math.fsum(side[a:b]) for a, b in spans) for side in (pair.reference, pair.current))
    return Pair(ours, theirs, (*(pair.edges[a] for a in starts), pair.edges[-1]))


def resolution(reference: ColumnProfile, current: ColumnProfile) -> float:
    """What moving rows between different grids may add to an effect: the largest share of a moved cell."""
    if reference.listed or current.grid == reference.grid or not current.valued:
        return 0.0
    return max(current.counts) / current.valued


def _by_category(column: ColumnProfile, reference: ColumnProfile) -> tuple[float, ...]:
    by_name = dict(zip(column.categories, column.counts, strict=True))
    listed = [float(by_name.get(name, 0)) for name in reference.categories]
    return (*listed, column.valued - math.fsum(listed))


def _rows_below(column: ColumnProfile, x: float) -> float:
    """Rows < ``x``, spread evenly within a cell."""
    grid = column.grid or Grid(center=0.0, scale=1.0)
    lowers = [grid.edge(cell) for cell in column.cells]
    i = bisect_right(lowers, x) - 1
    if i < 0:
        return 0.0
    low, high = lowers[i], grid.edge(column.cells[i] + 1)
    inside = (x - low) / (high - low) if 0 < high - low < math.inf else 0.5
    return math.fsum(column.counts[:i]) + min(1.0, inside) * column.counts[i]
