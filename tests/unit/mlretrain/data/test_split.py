from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlretrain.data.dataset import Dataset
from mlretrain.data.read import connect, open_relation, read_frame
from mlretrain.data.resolve import resolve
from mlretrain.data.split import Holdout, Split, split
from mlretrain.errors import ConfigError, InvalidInput
from tests.fixtures_data import Write


def split_of(dataset: Dataset, holdout: Holdout, time_column: str | None = "at", seed: int = 0) -> Split:
    with connect() as con:
        return split(open_relation(con, dataset), holdout, time_column=time_column, seed=seed)


def ids(dataset: Dataset, where: str) -> list[int]:
    return [int(each) for each in read_frame(dataset, ["id"], where=where)["id"]]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_latest_rows_are_held_out(write: Write, suffix: str) -> None:
    dataset = resolve(str(write(f"a.{suffix}", 0, 100)))
    found = split_of(dataset, Holdout(by="time", fraction=0.2))
    assert found.cut == datetime(2013, 1, 4, 8, tzinfo=UTC)
    assert ids(dataset, found.train_where) == list(range(80))
    assert ids(dataset, found.holdout_where) == list(range(80, 100))
    assert (found.train_rows, found.holdout_rows) == (80, 20)


def test_rows_of_one_instant_stay_together(write: Write) -> None:
    query = "SELECT i AS id, DATE '2013-01-01' + (i // 30)::INT AS at FROM range(90) AS rows(i)"
    dataset = resolve(str(write("a.parquet", query=query)))
    found = split_of(dataset, Holdout(by="time", fraction=0.2))
    assert ids(dataset, found.holdout_where) == list(range(60, 90))


def test_rows_without_a_time_train(write: Write) -> None:
    query = (
        "SELECT i AS id, CASE WHEN i > 0 THEN DATE '2013-01-01' + i::INT END AS at FROM range(10) AS rows(i)"
    )
    dataset = resolve(str(write("a.parquet", query=query)))
    found = split_of(dataset, Holdout(by="time", fraction=0.2))
    assert sorted(ids(dataset, found.train_where) + ids(dataset, found.holdout_where)) == list(range(10))
    assert 0 in ids(dataset, found.train_where)


def test_random_rows_are_the_same_in_any_layout(write: Write, tmp_path: Path) -> None:
    write("one/a.parquet", 0, 1000)
    write("two/b.parquet", 0, 500), write("two/a.parquet", 500, 1000)
    one, two = resolve(str(tmp_path / "one")), resolve(str(tmp_path / "two"))
    holdout = Holdout(by="random", fraction=0.3)
    held = [ids(each, split_of(each, holdout, seed=7).holdout_where) for each in (one, two)]
    assert sorted(held[0]) == sorted(held[1])
    assert 230 < len(held[0]) < 370
    assert held[0] != ids(one, split_of(one, holdout, seed=8).holdout_where)


def test_every_row_is_on_one_side(write: Write) -> None:
    dataset = resolve(str(write("a.csv", 0, 200)))
    found = split_of(dataset, Holdout(by="random", fraction=0.5))
    assert sorted(ids(dataset, found.train_where) + ids(dataset, found.holdout_where)) == list(range(200))
    assert found.train_rows + found.holdout_rows == 200


def test_all_rows_at_one_time(write: Write) -> None:
    dataset = resolve(str(write("a.parquet", query="SELECT 1 AS id, DATE '2013-01-01' AS at FROM range(5)")))
    with pytest.raises(InvalidInput, match="all rows have the same time"):
        split_of(dataset, Holdout())
    with pytest.raises(InvalidInput, match="too few rows"):
        split_of(dataset, Holdout(by="random"))


def test_no_time_column_to_split_by(write: Write) -> None:
    with pytest.raises(ConfigError, match="needs a time column"):
        split_of(resolve(str(write("a.parquet"))), Holdout(), time_column=None)


def test_a_fraction_out_of_range() -> None:
    with pytest.raises(ConfigError, match="out of range"):
        Holdout(fraction=1.0)
