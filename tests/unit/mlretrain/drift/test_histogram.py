"""Bars that people can read, whatever the numbers are."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlretrain.drift.grid import CELLS, Grid
from mlretrain.drift.histogram import BARS, axis, bars, label
from mlretrain.drift.profile import ColumnProfile, Kind
from tests.unit.mlretrain.drift.columns import numeric

NORMAL = NormalDist()
numbers = st.floats(-1e150, 1e150, allow_nan=False)


@st.composite
def columns(draw: st.DrawFn) -> ColumnProfile:
    grid = Grid(center=draw(numbers), scale=draw(st.floats(1e-150, 1e150)))
    tally = draw(st.dictionaries(st.integers(-CELLS, CELLS), st.integers(0, 10**12), max_size=20))
    cells = sorted(tally)
    counts = tuple(tally[cell] for cell in cells)
    return ColumnProfile(
        name="x", kind="numeric", n=sum(counts), grid=grid, cells=tuple(cells), counts=counts
    )


@given(columns(), columns(), st.sampled_from(["numeric", "datetime"]))
def test_any_numbers_fit_on_an_axis(one: ColumnProfile, other: ColumnProfile, kind: Kind) -> None:
    pair = [replace(each, kind=kind) for each in (one, other)]
    found = axis(pair)

    assert (found is None) == (one.n == other.n == 0)
    if found is not None:
        assert 1 <= len(found.edges) - 1 <= BARS
        assert all(a < b for a, b in pairwise(found.edges))
        assert all(0 <= place <= 1 for place, _ in found.ticks)
        for each in pair:
            shares = bars(each, found)
            assert math.isclose(sum(shares), 1 if each.n else 0, abs_tol=1e-9)
            assert min(shares) >= 0


def test_bars_are_round_and_labelled() -> None:
    column = numeric("x", [NORMAL.inv_cdf((i + 0.5) / 10_000) for i in range(10_000)])

    found = axis([column])

    assert found is not None
    assert found.even
    assert [text for _, text in found.ticks] == ["-2", "-1", "0", "1", "2"]
    shares = bars(column, found)
    assert shares.index(max(shares)) in range(len(shares) // 2 - 3, len(shares) // 2 + 3)


@pytest.mark.parametrize("most", [3, 12, 60])
def test_whole_numbers_do_not_alternate_between_full_and_empty_bars(most: int) -> None:
    column = numeric("x", [float(i % (most + 1)) for i in range(20 * (most + 1))])

    found = axis([column])

    assert found is not None
    inner = [share for share in bars(column, found) if share][1:-1]
    assert max(inner) < 1.7 * min(inner)


def test_each_of_a_few_values_has_a_bar() -> None:
    column = numeric("x", [float(i % 4) for i in range(400)])
    found = axis([column])
    assert found is not None
    assert Counter(round(share, 2) for share in bars(column, found))[0.25] == 4


def test_a_constant_is_one_bar() -> None:
    column = numeric("x", [5.0] * 100)
    found = axis([column])
    assert found is not None
    assert sorted(bars(column, found))[-2:] == [0.0, 1.0]


def test_bars_follow_the_cells_where_round_ones_would_hide_everything() -> None:
    reference = numeric("x", [i / 1000 for i in range(1000)])
    current = numeric("x", [float(i) for i in range(1000)], reference.grid)

    found = axis([reference, current])

    assert found is not None
    assert not found.even
    assert max(bars(reference, found)) < 0.3
    assert bars(current, found)[-1] > 0.8


def test_the_ends_hold_what_is_beyond_them() -> None:
    reference = numeric("x", [*[i / 100 for i in range(1000)], 1e9])
    found = axis([reference])
    assert found is not None
    assert found.edges[-1] < 20
    assert math.isclose(sum(bars(reference, found)), 1)


def test_instants_are_dates() -> None:
    start = datetime(2013, 7, 1, tzinfo=UTC).timestamp()
    month = replace(numeric("x", [start + i * 86400.0 for i in range(31)]), kind="datetime")
    day = replace(numeric("x", [start + i * 600.0 for i in range(144)]), kind="datetime")

    for column, text in ((month, "Jul 2013"), (day, "01 Jul 12:00")):
        found = axis([column])
        assert found is not None
        assert any(text in tick for _, tick in found.ticks), found.ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1 + 0.2, "0.3"), (12_345.0, "12,345"), (1.5e9, "1.5e+09"), (2e-5, "2e-05"), (-3.0, "-3")],
)
def test_labels_are_short(value: float, text: str) -> None:
    assert label(value) == text


def test_an_instant_out_of_all_calendars_is_a_number() -> None:
    assert label(1e300, time=True) == "1e+300"
