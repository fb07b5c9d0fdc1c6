"""A classifier finds what no column shows, and does not take any week for another one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from duckdb import DuckDBPyConnection

from mlretrain.data.read import connect
from mlretrain.drift.domain import DomainShift, learn_noise, measure_domain
from mlretrain.drift.sample import Sample, draw
from mlretrain.drift.separation import delong
from mlretrain.wire import from_wire, to_wire

DAY_S = 86_400.0
ROWS = 800


@pytest.fixture
def con() -> Iterator[DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def _rows(n: int, days: int, *, seed: int, start: str = "2025-01-01", sign: int = 1) -> pd.DataFrame:
    """``x`` and ``y`` go together, or against each other; each by itself is always standard normal."""
    random = np.random.default_rng(seed)
    x, y = random.multivariate_normal([0, 0], [[1, 0.8 * sign], [0.8 * sign, 1]], n).T
    seconds = np.sort(random.uniform(0, days * DAY_S, n))
    return pd.DataFrame(
        {
            "time": pd.Timestamp(start) + pd.to_timedelta(seconds, unit="s"),
            "x": x,
            "y": y,
            "z": random.normal(size=n),
            "kind": random.choice(["a", "b", "c"], n),
        }
    )


def _clustered(frame: pd.DataFrame, size: float, seed: int) -> pd.DataFrame:
    """Every day has a level of its own."""
    day = frame["time"].dt.day_of_year
    return frame.assign(z=frame["z"] + size * np.random.default_rng(seed).normal(size=400)[day])


def _draw(con: DuckDBPyConnection, frame: pd.DataFrame) -> pa.Table:
    return draw(con.from_df(frame), ["x", "y", "z", "kind"], rows=ROWS, time_column="time")


def _reference(con: DuckDBPyConnection, frame: pd.DataFrame) -> Sample:
    table = _draw(con, frame)
    noise = learn_noise(con.from_df(frame), table, time_column="time", chunk_s=7 * DAY_S, rows=ROWS)
    return Sample(table=table, noise=noise)


def test_a_shift_that_no_column_shows_is_found_and_named(con: DuckDBPyConnection) -> None:
    reference = _reference(con, _rows(8_000, 90, seed=1))
    shift = measure_domain(reference, _draw(con, _rows(2_000, 7, seed=2, start="2025-04-01", sign=-1)))
    assert shift.drifted
    assert shift.auc is not None
    assert shift.auc > 0.8
    assert set(shift.columns) == {"x", "y"}
    assert str(shift).startswith("joint shift AUC 0.8")
    assert str(shift).endswith(("told by x, y", "told by y, x"))
    assert from_wire(DomainShift, to_wire(shift)) == shift


def test_unchanged_data_cannot_be_told_apart(con: DuckDBPyConnection) -> None:
    reference = _reference(con, _rows(8_000, 90, seed=1))
    shift = measure_domain(reference, _draw(con, _rows(2_000, 7, seed=2, start="2025-04-01")))
    assert shift.drifted is False
    assert shift.low is not None
    assert shift.high is not None
    assert shift.low < 0.5 < shift.high
    assert 0 <= shift.noise < 0.06
    assert "≤" in str(shift)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_days_that_differ_from_each_other_are_no_shift(con: DuckDBPyConnection, seed: int) -> None:
    every = _clustered(_rows(8_000, 97, seed=seed), 3.0, seed)
    is_past = every["time"] < pd.Timestamp("2025-04-01")
    shift = measure_domain(_reference(con, every[is_past]), _draw(con, every[~is_past]))
    assert shift.drifted is False
    assert shift.noise > 0.02


@pytest.mark.parametrize("timed", [True, False])
def test_a_set_beside_itself_has_an_auc_of_one_half(con: DuckDBPyConnection, timed: bool) -> None:
    table = _draw(con, _rows(3_000, 30, seed=1))
    table = table if timed else table.drop_columns("mlretrain_time")
    shift = measure_domain(Sample(table=table), table)
    assert (shift.auc, shift.low, shift.high, shift.drifted) == (0.5, 0.5, 0.5, False)


def test_the_same_seed_gives_the_same_measure(con: DuckDBPyConnection) -> None:
    reference = Sample(table=_draw(con, _rows(3_000, 30, seed=1)))
    window = _draw(con, _rows(2_000, 7, seed=2, sign=-1))
    assert measure_domain(reference, window, seed=4) == measure_domain(reference, window, seed=4)


def test_the_bounds_aredelongs() -> None:
    scores = np.array([1.0, 2, 3, 4, 5, 3, 4, 5, 6, 7])
    truth = np.array([False] * 5 + [True] * 5)
    auc, variance = delong(scores, truth)
    wins = (scores[5:, None] > scores[:5]) + 0.5 * (scores[5:, None] == scores[:5])
    above, below = wins.mean(axis=1), wins.mean(axis=0)
    assert auc == pytest.approx(wins.mean())
    assert variance == pytest.approx(np.var(above, ddof=1) / 5 + np.var(below, ddof=1) / 5)


def test_another_threshold_needs_no_other_measure() -> None:
    shift = DomainShift(auc=0.7, low=0.68, high=0.72, noise=0.02, rows=900)
    assert shift.judged(0.6).drifted is True
    assert shift.judged(0.66).drifted is False
    assert DomainShift(rows=1, note="1 row").judged(0.6).drifted is None


def _many(**columns: object) -> pa.Table:
    return pa.table({name: [value] * 200 for name, value in columns.items()})


@pytest.mark.parametrize(
    ("window", "note"),
    [
        (pa.table({"x": [1.0]}), "1 row, at least 50 are needed"),
        (pa.table({"x": pa.array([], pa.float64())}), "0 rows, at least 50 are needed"),
        (_many(x=1.0), "every column holds one value only"),
        (_many(y=1.0), "no column is in both the reference and the window"),
        (_many(x="one"), "no column is in both the reference and the window"),
    ],
)
def test_what_cannot_be_measured_says_why(window: pa.Table, note: str) -> None:
    shift = measure_domain(Sample(table=_many(x=1.0)), window)
    assert shift.auc is None
    assert shift.drifted is None
    assert shift.note == note
    assert str(shift) == f"joint shift not measured: {note}"


def test_a_window_without_any_value_beside_a_reference_without_any_says_nothing() -> None:
    nothing = pa.table({"x": pa.nulls(200, pa.float64())})
    assert measure_domain(Sample(table=nothing), nothing).note == "every column holds one value only"


def test_huge_infinite_and_missing_numbers_are_numbers_too() -> None:
    random = np.random.default_rng(1)
    usual = [*random.normal(size=300), *[1e308, -1e308, float("inf"), float("-inf"), float("nan")] * 20]
    shift = measure_domain(Sample(table=pa.table({"x": usual})), pa.table({"x": usual}))
    assert shift.auc == 0.5


def test_rare_values_beyond_what_trees_know_are_counted_together() -> None:
    random = np.random.default_rng(1)
    first, second = (pa.table({"shop": random.integers(0, 500, 2_000).astype(str)}) for _ in range(2))
    shift = measure_domain(Sample(table=first), second)
    assert shift.drifted is False


def test_a_reference_of_one_chunk_has_no_noise_to_learn(con: DuckDBPyConnection) -> None:
    frame = _rows(500, 5, seed=1)
    table = _draw(con, frame)
    noise = learn_noise(con.from_df(frame), table, time_column="time", chunk_s=365 * DAY_S, rows=ROWS)
    assert noise == ()
