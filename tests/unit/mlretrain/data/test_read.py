from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlretrain.data.read import connect, open_relation, read_frame
from mlretrain.data.resolve import resolve
from mlretrain.errors import InvalidInput
from tests.fixtures_data import Write


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_frame_of_chosen_columns_in_the_window(write: Write, suffix: str) -> None:
    path = write(f"a.{suffix}", 0, 48)
    start = datetime(2013, 1, 2, tzinfo=UTC)
    dataset = resolve(str(path), time_column="at", start=start)
    frame = read_frame(dataset, ['na"me', "id"])
    assert list(frame.columns) == ['na"me', "id"]
    assert frame["id"].tolist() == list(range(24, 48))
    assert frame['na"me'][0] == "it's 24"


def test_rows_come_in_the_order_of_files_and_rows(write: Write, tmp_path: Path) -> None:
    for number in (2, 0, 1):
        write(f"{number}.parquet", number * 1000, number * 1000 + 1000)
    dataset = resolve(str(tmp_path))
    assert read_frame(dataset, ["id"])["id"].tolist() == list(range(3000))


def test_a_relation_streams_within_a_memory_limit(write: Write) -> None:
    dataset = resolve(str(write("a.parquet", 0, 5000)))
    with connect(memory_limit="64MB") as con:
        assert open_relation(con, dataset).aggregate("sum(id)").fetchall() == [(12_497_500,)]


def test_the_folders_of_a_partitioned_log_are_no_columns(write: Write, tmp_path: Path) -> None:
    write("log/date=2013-01-01/part.parquet")
    assert "date" not in read_frame(resolve(str(tmp_path / "log"))).columns


def test_a_naive_time_is_utc_whatever_the_connection_says(write: Write) -> None:
    query = "SELECT '2013-01-01T12:00:00' AS at UNION ALL SELECT '2013-01-01T12:00:00-05:00'"
    dataset = resolve(
        str(write("a.csv", query=query)), time_column="at", end=datetime(2013, 1, 1, 13, tzinfo=UTC)
    )
    with connect() as con:
        con.execute("SET TimeZone = 'America/New_York'")
        assert open_relation(con, dataset).aggregate("count(*)").fetchall() == [(1,)]


def test_a_file_that_has_changed_is_named(write: Write) -> None:
    path = write("a.parquet")
    dataset = resolve(str(path))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"a\.parquet: the file has changed since"):
        read_frame(dataset)


def test_a_file_that_is_gone_is_named(write: Write) -> None:
    path = write("a.parquet")
    dataset = resolve(str(path))
    path.unlink()
    with pytest.raises(InvalidInput, match=r"a\.parquet: the file is gone"):
        read_frame(dataset)


def test_an_unknown_column(write: Write) -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'value'"):
        read_frame(resolve(str(write("a.csv"))), ["valeu"])
    with pytest.raises(InvalidInput, match="no column"):
        read_frame(resolve(str(write("a.csv"))), ['id" FROM x; DROP TABLE y; --'])
