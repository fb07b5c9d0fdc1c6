"""Data as it comes: in what its rows are alike though nothing changes, and how it may change.

A scenario draws columns of ``windows`` windows in the order of time, of which the last is the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.random import Generator

Array = Any
Draw = Callable[["Generator", int, int, int], Iterator[Array]]
Change = Callable[["Generator", Array], Array]

DAY_S = 86_400
WEEK_S = 7 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Columns of one sort.

    :param draw: of a generator, rows of a window, windows and columns; numbers, or codes of categories.
    :param together: whether the columns depend on each other, and so are one data set; else each is one.
    :param categories: how many there are; 0 for numbers.
    :param window_s: seconds of data time in a window.
    """

    name: str
    draw: Draw
    categories: int = 0
    window_s: int = WEEK_S
    together: bool = False


def normal(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """Independent rows, the only case that textbooks have."""
    for _ in range(columns):
        yield random.standard_normal(rows * windows)


def cauchy(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """No mean and no variance."""
    for _ in range(columns):
        yield random.standard_cauchy(rows * windows)


def pareto(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """A mean, but no variance: sums of money, sizes of files."""
    for _ in range(columns):
        yield random.pareto(1.1, rows * windows)


def zeros(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """Nine rows in ten are 0."""
    for _ in range(columns):
        yield random.standard_exponential(rows * windows) * (random.random(rows * windows) < 0.1)


def outliers(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """One row in a hundred is a hundred times as wide."""
    for _ in range(columns):
        wide = random.random(rows * windows) < 0.01
        yield random.standard_normal(rows * windows) * (1 + 99 * wide)


def sessions(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """Twenty rows after one another belong together: half of the variance is between such sessions."""
    total = rows * windows
    for _ in range(columns):
        session = random.standard_normal(-(-total // 20)).repeat(20)[:total]
        yield (session + random.standard_normal(total)) / 2**0.5


def days(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """Every day has its own mean: a tenth of the variance is between the seven days of each window."""
    total = rows * windows
    for _ in range(columns):
        yield 0.3 * _spread(random.standard_normal(7 * windows), total) + random.standard_normal(total)


def shops(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """Forty shops with means of their own; how much each of them sells changes from week to week."""
    import numpy as np

    for _ in range(columns):
        share = random.gamma(4.0, size=(windows, 40))
        shop = np.concatenate([random.choice(40, rows, p=week / week.sum()) for week in share])
        yield random.standard_normal(40)[shop] + random.standard_normal(rows * windows)


def weekdays(random: Generator, rows: int, windows: int, columns: int) -> Iterator[Array]:
    """Windows of a day; Saturdays and Sundays differ by half a standard deviation, and hours by one."""
    import numpy as np

    total = rows * windows
    hour = np.sin(np.arange(total) * (2 * np.pi / rows))
    for _ in range(columns):
        weekend = _spread((np.arange(windows) + random.integers(7)) % 7 >= 5, total)
        yield 0.5 * weekend + hour + random.standard_normal(total)


def one_factor(
    random: Generator, rows: int, windows: int, columns: int, *, by_day: float = 0.0
) -> Iterator[Array]:
    """All columns follow one hidden figure, so that they are wrong together."""
    total = rows * windows
    factor = random.standard_normal(total)
    if by_day:
        factor += by_day * _spread(random.standard_normal(7 * windows), total)
    for _ in range(columns):
        yield factor + random.standard_normal(total) / 3


def uniform(random: Generator, rows: int, windows: int, columns: int, *, many: int) -> Iterator[Array]:
    """Categories as frequent as each other."""
    for _ in range(columns):
        yield random.integers(0, many, rows * windows, dtype="int16")


def zipf(random: Generator, rows: int, windows: int, columns: int, *, many: int) -> Iterator[Array]:
    """The second category is half as frequent as the first, the third a third …"""
    import numpy as np

    ends = (1 / np.arange(1, many + 1)).cumsum()
    table = np.searchsorted(ends / ends[-1], (np.arange(1 << 16) + 0.5) / (1 << 16)).astype("int16")
    for _ in range(columns):
        yield table[random.integers(0, 1 << 16, rows * windows, dtype="uint16")]


def _spread(values: Array, total: int) -> Array:
    """Each value for equally many of the rows."""
    import numpy as np

    return values[np.arange(total) * len(values) // total]


SCENARIOS = (
    Scenario(name="independent rows", draw=normal),
    Scenario(name="Cauchy", draw=cauchy),
    Scenario(name="Pareto 1.1", draw=pareto),
    Scenario(name="90 % zeros", draw=zeros),
    Scenario(name="1 % outliers", draw=outliers),
    Scenario(name="sessions of 20 rows", draw=sessions),
    Scenario(name="days", draw=days),
    Scenario(name="shops", draw=shops),
    Scenario(name="weekdays, windows of a day", draw=weekdays, window_s=DAY_S),
    Scenario(name="one factor", draw=one_factor, together=True),
    Scenario(name="one factor, days", draw=partial(one_factor, by_day=0.3), together=True),
    *(
        Scenario(name=f"{many} categories, {name}", draw=partial(draw, many=many), categories=many)
        for many in (50, 100, 500)
        for name, draw in (("uniform", uniform), ("Zipf", zipf))
    ),
)


def shift(random: Generator, column: Array, *, by: float) -> Array:
    """Moved by so many standard deviations."""
    return column + by * column.std()


def widen(random: Generator, column: Array, *, by: float) -> Array:
    """A standard deviation ``by`` times as large."""
    return column * by


def tilt(random: Generator, column: Array, *, by: float) -> Array:
    """That share of the rows of every other category has the next category instead."""
    return column + ((column % 2 == 0) & (random.random(len(column)) < by))


NONE = "none"
NUMERIC: dict[str, Change | None] = {
    NONE: None,
    "0.01 sd": partial(shift, by=0.01),
    "0.1 sd": partial(shift, by=0.1),
    "0.2 sd": partial(shift, by=0.2),
    "0.5 sd": partial(shift, by=0.5),
    "sd × 1.3": partial(widen, by=1.3),
}
CATEGORICAL: dict[str, Change | None] = {
    NONE: None,
    "tilt 2 %": partial(tilt, by=0.02),
    "tilt 10 %": partial(tilt, by=0.1),
    "tilt 20 %": partial(tilt, by=0.2),
    "tilt 50 %": partial(tilt, by=0.5),
}
