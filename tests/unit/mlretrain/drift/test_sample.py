"""A sample is decided by what the rows hold, and stands for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from duckdb import DuckDBPyConnection

from mlretrain.data.read import connect
from mlretrain.drift.sample import TIME, Sample, draw, from_parquet, to_parquet
from mlretrain.errors import ContractError, InvalidInput


@pytest.fixture
def con() -> Iterator[DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.fixture
def rides() -> pd.DataFrame:
    random, n = np.random.default_rng(5), 6_000
    return pd.DataFrame(
        {
            "time": pd.date_range("2025-01-01", periods=n, freq="13min"),
            "minutes": random.gamma(2, 8, n),
            "zone": random.choice(["north", "south", "harbour"], n),
            "shared": random.random(n) < 0.2,
        }
    )


def test_neither_the_order_of_rows_nor_their_files_change_the_sample(
    con: DuckDBPyConnection, rides: pd.DataFrame, tmp_path: Path
) -> None:
    shuffled = rides.sample(frac=1, random_state=3)
    for name, part in {"a": shuffled[:1000], "b": shuffled[1000:1001], "c": shuffled[1001:]}.items():
        part.to_parquet(tmp_path / f"{name}.parquet")
    columns = ["minutes", "zone", "shared"]
    split = con.read_parquet([str(tmp_path / f"{name}.parquet") for name in "cab"], union_by_name=True)
    whole = con.from_df(rides)
    drawn = [draw(each, columns, rows=500, time_column="time") for each in (whole, split)]
    assert drawn[0].num_rows == 500
    assert drawn[0].equals(drawn[1])
    assert drawn[0].column_names == [TIME, *columns]


def test_the_sample_is_spread_over_the_whole_time(con: DuckDBPyConnection, rides: pd.DataFrame) -> None:
    times = draw(con.from_df(rides), ["zone"], rows=600, time_column="time")[TIME].to_pandas()
    assert times.is_monotonic_increasing
    per_tenth = np.histogram(times.astype("int64"), bins=10)[0]
    assert per_tenth.min() > 35


def test_rows_that_are_all_alike_are_drawn_as_often_as_others(con: DuckDBPyConnection) -> None:
    flags = con.sql("SELECT range < 9000 AS flag FROM range(10000)")
    drawn = draw(flags, ["flag"], rows=1000)["flag"].to_pandas()
    assert len(drawn) == 1000
    assert 0.87 < drawn.mean() < 0.93


def test_fewer_rows_than_asked_for_are_all_kept(con: DuckDBPyConnection, rides: pd.DataFrame) -> None:
    few = rides[:7]
    assert draw(con.from_df(few), ["zone"], rows=500, time_column="time").num_rows == 7


def test_only_the_columns_asked_for_are_kept_and_of_those_only_plain_ones(con: DuckDBPyConnection) -> None:
    relation = con.sql("SELECT 1.5::DECIMAL(9,2) AS price, [1, 2] AS vector, 'x' AS email, uuid() AS id")
    table = draw(relation, ["price", "vector", "id"])
    assert table.column_names == ["price", "id"]
    assert [str(each) for each in table.schema.types] == ["double", "string"]


def test_a_column_that_is_not_there_is_named(con: DuckDBPyConnection, rides: pd.DataFrame) -> None:
    with pytest.raises(InvalidInput, match=r"no column 'zones'.*Did you mean 'zone'"):
        draw(con.from_df(rides), ["zones"])


def test_a_kept_sample_comes_back_with_its_noise(con: DuckDBPyConnection, rides: pd.DataFrame) -> None:
    table = draw(con.from_df(rides), ["zone", "minutes"], rows=100, time_column="time")
    sample = Sample(table=table, noise=(0.01, 0.2))
    data = to_parquet(sample)
    back = from_parquet(data, "s3://b/sample.parquet")
    assert back.table.equals(table)
    assert back.noise == (0.01, 0.2)
    assert to_parquet(back) == data


@pytest.mark.parametrize("data", [b"", b"PAR1 cut short", b"{}"])
def test_something_else_is_no_sample(data: bytes) -> None:
    with pytest.raises(ContractError, match=r"s3://b/sample\.parquet: not a sample"):
        from_parquet(data, "s3://b/sample.parquet")
