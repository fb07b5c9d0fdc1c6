"""The cells in which numbers are counted: fine where most of the data is, wider and wider away from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CELLS = 128
"""Cells on each side of the centre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Cells for any number: ``cell(x) = ⌊CELLS · d / (scale + |d|)⌋`` with ``d = x − center``.

    A cell at the centre is ``scale / CELLS`` wide, one at distance ``d`` (1 + |d| / scale)² times as much;
    the outermost are open. So no outlier can spoil the resolution, and 2 · CELLS counts are enough for any
    data. It takes no more than arithmetic, which every SQL database computes alike.
    """

    center: float
    scale: float

    def cell(self, x: float) -> int:
        """The cell that a finite ``x`` is in."""
        distance = x - self.center
        return min(CELLS - 1, math.floor(distance / (self.scale + abs(distance)) * CELLS))

    def edge(self, cell: int) -> float:
        """The lower end of a cell, which is the upper end of the one below; infinite beyond the last."""
        if abs(cell) >= CELLS:
            return math.copysign(math.inf, cell)
        share = cell / CELLS
        return self.center + self.scale * share / (1 - abs(share))


def choose_grid(quartiles: Sequence[float], widest: float) -> Grid:
    """A grid for data with these quartiles (lower, median, upper), its figures rounded.

    :param widest: a spread to fall back on where the quartiles agree; 0 for constant data.
    """
    low, median, high = quartiles
    spread = 1.5 * (high - low) or widest or abs(median) or 1.0
    scale = _round(spread, 2 - math.ceil(math.log10(spread)))
    step = scale / 16
    return Grid(center=_round(round(median / step) * step, 12), scale=scale)


def _round(x: float, digits: int) -> float:
    return round(x, digits) if -300 < digits < 300 else x
