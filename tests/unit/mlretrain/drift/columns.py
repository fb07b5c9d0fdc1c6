"""Column profiles made from values, without a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev, quantiles

from mlretrain.drift.grid import Grid, choose_grid
from mlretrain.drift.profile import ColumnProfile


def numeric(name: str, values: Sequence[float], grid: Grid | None = None) -> ColumnProfile:
    """The profile of finite numbers, in ``grid`` or in one of their own."""
    if grid is None:
        low, median, high = quantiles(values, n=4) if len(values) > 1 else [*values] * 3
        grid = choose_grid((low, median, high), widest=max(values) - min(values))
    cells = Counter(grid.cell(value) for value in values)
    return ColumnProfile(
        name=name,
        kind="numeric",
        n=len(values),
        grid=grid,
        cells=tuple(sorted(cells)),
        counts=tuple(cells[cell] for cell in sorted(cells)),
        mean=fmean(values),
        sd=pstdev(values),
    )


def categorical(name: str, counts: dict[str, int], other: int = 0, nulls: int = 0) -> ColumnProfile:
    """The profile of these categories."""
    return ColumnProfile(
        name=name,
        kind="categorical",
        n=sum(counts.values()) + other + nulls,
        nulls=nulls,
        categories=tuple(counts),
        counts=tuple(counts.values()),
        other=other,
    )
