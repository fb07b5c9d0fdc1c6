"""The bars that people look at: two columns of numbers, counted in the cells of a grid, on one axis."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from mlretrain.drift.grid import CELLS, Grid
from mlretrain.drift.profile import ColumnProfile

BARS = 40
_TICKS, _DATES = 5, 3
_TAIL = 0.01
_CROWDED = 0.75
_LARGEST = 1e300
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_TIME_STEPS = (
    *(1.0, 5.0, 15.0, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY),
    *(2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY, 91 * _DAY, 182 * _DAY, 365 * _DAY, 1826 * _DAY, 3652 * _DAY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What a picture is drawn on.

    :param edges: ascending ends of the bars, drawn equally wide; the outermost bars hold all beyond them.
    :param ticks: places on the axis, from 0 to 1, and what is written there.
    :param even: whether the bars are equally wide, or wider away from the centre as the cells are.
    """

    edges: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]
    even: bool = True


def axis(columns: Sequence[ColumnProfile]) -> Axis | None:
    """An axis for columns of one kind, each with a grid; ``None`` if no column has a value.

    From the 1st to the 99th percentile of them all. Bars have round widths, which are those of the values
    where there are few. Where most rows would end in one bar, the bars follow the first column's cells.
    """
    spans = [list(_spans(each)) for each in columns if each.grid and each.valued]
    if not spans:
        return None
    low = min(_quantile(each, _TAIL)[0] for each in spans)
    high = max(_quantile(each, 1 - _TAIL)[1] for each in spans)
    time = columns[0].kind == "datetime"
    edges = _even_edges(spans, low, high, time=time)
    if edges is not None and not _crowded(columns[0], edges):
        return Axis(edges=edges, ticks=_even_ticks(edges, time=time))
    grid = next(each.grid for each in columns if each.grid and each.valued)
    edges = _cell_edges(grid, low, high)
    return Axis(edges=edges, ticks=_cell_ticks(edges, time=time), even=False)


def bars(column: ColumnProfile, axis: Axis) -> list[float]:
    """The share of the column's values in each bar; a cell's rows are spread evenly over it."""
    found = [0.0] * (len(axis.edges) - 1)
    if not column.grid or not column.valued:
        return found
    for low, high, rows in _spans(column):
        first, last = _bar(axis, low), _bar(axis, high)
        for i in range(first, last + 1):
            left = max(low, axis.edges[i]) if i > first else low
            right = min(high, axis.edges[i + 1]) if i < last else high
            found[i] += rows * ((right - left) / (high - low) if high > low else 1.0)
    total = math.fsum(found) or 1.0
    return [rows / total for rows in found]


def label(value: float, *, time: bool = False, step: float = 0.0) -> str:
    """A value on an axis, as short as it can be; seconds since 1970 as a date."""
    if time and abs(value) < 1e11:
        instant = datetime.fromtimestamp(value, UTC)
        return f"{instant:%d %b %H:%M}" if 0 < step < _DAY else f"{instant:%d %b %Y}"
    return f"{value:.3g}" if value and not 1e-4 <= abs(value) < 1e6 else f"{value:,.6g}"


def _spans(column: ColumnProfile) -> Iterator[tuple[float, float, int]]:
    """Each occupied cell's ends and rows; an open cell is taken as a point at its end."""
    for cell, rows in zip(column.cells, column.counts, strict=True):
        if column.grid and rows:
            low = _finite(column.grid.edge(max(cell, 1 - CELLS)))
            high = _finite(column.grid.edge(min(cell + 1, CELLS - 1)))
            yield low, max(low, high), rows


def _finite(x: float) -> float:
    return min(_LARGEST, max(-_LARGEST, x))


def _quantile(spans: Sequence[tuple[float, float, int]], share: float) -> tuple[float, float]:
    """The ends of the cell that holds the quantile."""
    wanted = share * sum(rows for _, _, rows in spans)
    seen = 0
    for low, high, rows in spans:
        seen += rows
        if seen >= wanted:
            return low, high
    return spans[-1][0], spans[-1][1]


def _even_edges(
    columns: Sequence[Sequence[tuple[float, float, int]]], low: float, high: float, *, time: bool
) -> tuple[float, ...] | None:
    spans = sorted({(a, b) for each in columns for a, b, _ in each if low <= a and b <= high})
    narrowest = min((b - a for a, b in spans), default=0.0)
    wanted = max((high - low) / (BARS - 2), narrowest)
    if not 1e-300 < wanted < 1e300 or wanted < 1e-13 * max(abs(low), abs(high)):
        return None
    step = _round_step(wanted, time=time, digits=range(1, 11))
    # Few values far apart: as wide as their distance, each value in the middle of its bar.
    gap = min((b[0] - a[0] for a, b in pairwise(spans) if b[0] > a[1]), default=0.0)
    discrete = gap and len(spans) <= BARS and not time
    if discrete:
        step = max(step, _round_step(gap * 0.75, time=False))
    offset = step / 2 if discrete else 0.5 if step >= 1 and not time else 0.0
    first = math.floor((low + offset) / step)
    count = math.ceil((high + offset) / step) - first
    pad = max(0, (5 - count + 1) // 2)
    return tuple(i * step - offset for i in range(first - pad, first + count + pad + 1))


def _round_step(wanted: float, *, time: bool, digits: Sequence[int] = (1, 2, 5, 10)) -> float:
    """The next round number that is not smaller."""
    if time:
        return next((step for step in _TIME_STEPS if step >= wanted), _round_step(wanted, time=False))
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(step * power for step in digits if step * power >= wanted * (1 - 1e-9))


def _even_ticks(edges: Sequence[float], *, time: bool) -> tuple[tuple[float, str], ...]:
    low, high = edges[0], edges[-1]
    step = _round_step((high - low) / (_DATES if time else _TICKS), time=time)
    values = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return tuple(
        (min(1.0, max(0.0, (x - low) / (high - low))), label(x, time=time, step=step)) for x in values
    )


def _crowded(column: ColumnProfile, edges: tuple[float, ...]) -> bool:
    """Whether one bar hides most of what the cells tell apart."""
    if not column.grid or not column.valued:
        return False
    fullest = max(bars(column, Axis(edges=edges, ticks=())))
    return fullest > _CROWDED and max(column.counts) / column.valued < fullest / 2


def _cell_edges(grid: Grid, low: float, high: float) -> tuple[float, ...]:
    cells = range(max(1 - CELLS, grid.cell(low)), min(CELLS - 1, grid.cell(high) + 1) + 1)
    edges = sorted({_finite(grid.edge(cell)) for cell in cells})
    stride = math.ceil((len(edges) - 1) / BARS) or 1
    chosen = [edges[0], *edges[1:-1][stride - 1 :: stride], *edges[1:][-1:]]
    width = max(1.0, abs(low) / 10)
    return tuple(chosen) if len(chosen) > 1 else (low - width, low + width)


def _cell_ticks(edges: Sequence[float], *, time: bool) -> tuple[tuple[float, str], ...]:
    last = len(edges) - 1
    places = sorted({round(last * share / 3) for share in range(4)})
    values = [edges[i] if time else float(f"{edges[i]:.2g}") for i in places]
    return tuple((i / last, label(value, time=time)) for i, value in zip(places, values, strict=True))


def _bar(axis: Axis, x: float) -> int:
    return min(len(axis.edges) - 2, max(0, bisect_right(axis.edges, x) - 1))
