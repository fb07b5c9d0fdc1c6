from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlretrain.data.dataset import read_dataset, write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.runtime.store import file_uri, local_path
from tests.fixtures_data import Write

JAN_2 = datetime(2013, 1, 2, tzinfo=UTC)
JAN_3 = datetime(2013, 1, 3, tzinfo=UTC)


def names(uris: list[str]) -> list[str]:
    return [local_path(uri).name for uri in uris]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_one_file(write: Write, suffix: str) -> None:
    path = write(f"a.{suffix}")
    dataset = resolve(str(path))
    assert (dataset.uri, dataset.format, dataset.rows) == (file_uri(path), suffix, 24)
    assert dataset.files[0].size == path.stat().st_size
    assert dataset.files[0].etag.startswith("sha256:")


def test_a_folder_with_folders_in_it_and_names_that_are_ignored(write: Write, tmp_path: Path) -> None:
    for name in ("d/b.parquet", "d/date=2013-01-02/a b%20ü.parquet", "d/.hidden.parquet", "d/_tmp/x.parquet"):
        write(name)
    (tmp_path / "d/README.md").write_text("not data")
    dataset = resolve(f"file://{tmp_path}/d")
    assert names([file.uri for file in dataset.files]) == ["b.parquet", "a b%20ü.parquet"]
    assert dataset.rows == 48


def test_a_glob(write: Write, tmp_path: Path) -> None:
    for name in ("2013-01.csv", "2013-02.csv", "2012-12.csv", "deep/2013-03.csv"):
        write(name)
    assert len(resolve(f"{tmp_path}/2013-*.csv").files) == 2
    assert len(resolve(f"{tmp_path}/**/2013-0[13].csv").files) == 2


def test_a_name_with_wildcards_in_it_is_that_file_alone(write: Write) -> None:
    odd, _ = write("a[1]*.parquet", 0, 3), write("a1x.parquet")
    assert resolve(str(odd)).rows == 3


def test_parquet_outside_the_window_is_left_out(write: Write, tmp_path: Path) -> None:
    for day in range(4):
        write(f"day{day}.parquet", day * 24, day * 24 + 24)
    dataset = resolve(str(tmp_path), time_column="at", start=JAN_2, end=JAN_3)
    assert names([file.uri for file in dataset.files]) == ["day1.parquet"]
    assert dataset.rows == 24


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("TIMESTAMP '2013-01-01' + i * INTERVAL 1 HOUR", 24),
        ("DATE '2013-01-01' + i::INT // 24", 24),
        ("(TIMESTAMP '2013-01-01' + i * INTERVAL 1 HOUR)::TIMESTAMP_NS", 24),
        ("strftime(TIMESTAMP '2013-01-01' + i * INTERVAL 1 HOUR, '%Y-%m-%dT%H:%M:%SZ')", 24),
        ("strftime(TIMESTAMP '2013-01-01' + i * INTERVAL 1 HOUR, '%Y-%m-%dT%H:%M:%S+02:00')", 24),
        ("'2013-01-02T00:00:00'", 96),
    ],
)
def test_every_kind_of_time(write: Write, suffix: str, expression: str, rows: int) -> None:
    path = write(f"a.{suffix}", query=f"SELECT i, {expression} AS at FROM range(96) AS rows(i)")
    assert resolve(str(path), time_column="at", start=JAN_2, end=JAN_3).rows == rows


def test_the_window_has_its_start_and_not_its_end(write: Write) -> None:
    path = write("a.parquet", query="SELECT unnest([TIMESTAMP '2013-01-02', TIMESTAMP '2013-01-03']) AS at")
    assert resolve(str(path), time_column="at", start=JAN_2, end=JAN_3).rows == 1


def test_the_same_data_has_the_same_fingerprint(write: Write, tmp_path: Path) -> None:
    write("a.parquet"), write("b.parquet", 24, 48)
    first, again = (resolve(str(tmp_path), time_column="at", start=JAN_2) for _ in range(2))
    whole = resolve(str(tmp_path), time_column="at")
    assert first.fingerprint == again.fingerprint != whole.fingerprint


def test_a_dataset_is_kept_as_json(write: Write, tmp_path: Path) -> None:
    dataset = resolve(str(write("a.csv")), time_column="at", start=JAN_2 - (JAN_3 - JAN_2))
    uri = file_uri(tmp_path / "runs/dataset.json")
    write_dataset(dataset, uri)
    assert read_dataset(uri) == dataset


def test_nothing_matches(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no data files here \(found nothing; allowed: \.parquet"):
        resolve(f"{tmp_path}/none/*.parquet")


def test_no_such_time_column(write: Write) -> None:
    for path in (write("a.parquet"), write("a.csv")):
        with pytest.raises(InvalidInput, match=r"no column 'aat' \(allowed: id, .*\)\. Did you mean 'at'\?"):
            resolve(str(path), time_column="aat")


@pytest.mark.parametrize("column", ["id", 'na"me'])
def test_a_time_column_without_times(write: Write, column: str) -> None:
    with pytest.raises(InvalidInput, match=r"holds no times|Conversion Error"):
        resolve(str(write("a.parquet")), time_column=column)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_empty_window_says_what_there_is(write: Write, suffix: str) -> None:
    path = write(f"a.{suffix}")
    with pytest.raises(
        InvalidInput, match=r"no rows in the window .*found 2013-01-01T00:00.* to 2013-01-01T23"
    ):
        resolve(str(path), time_column="at", start=JAN_2, end=JAN_3)


def test_no_rows_at_all(write: Write) -> None:
    with pytest.raises(InvalidInput, match="hold no rows"):
        resolve(str(write("a.parquet", 0, 0)))


def test_two_formats(write: Write, tmp_path: Path) -> None:
    write("a.parquet"), write("a.csv", 0, 3)
    with pytest.raises(InvalidInput, match="several formats"):
        resolve(str(tmp_path))
    assert resolve(str(tmp_path), format="csv").rows == 3


def test_a_damaged_file_is_named(write: Write, tmp_path: Path) -> None:
    write("a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 this is not it")
    with pytest.raises(InvalidInput, match=r"b\.parquet: not a Parquet file"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_missing_column_is_named_with_its_file(write: Write, tmp_path: Path, suffix: str) -> None:
    write(f"a.{suffix}")
    write(f"b.{suffix}", query="SELECT 1 AS id, 2.0 AS value, TIMESTAMP '2013-01-01' AS at")
    with pytest.raises(InvalidInput, match=rf"b\.{suffix}: column 'na\"me' is missing"):
        resolve(str(tmp_path))


def test_another_kind_of_values_is_named(write: Write, tmp_path: Path) -> None:
    write("a.parquet", query="SELECT 1 AS id")
    write("b.parquet", query="SELECT 'x' AS id")
    with pytest.raises(
        InvalidInput, match=r"column 'id' differs between files \(found text; allowed: number"
    ):
        resolve(str(tmp_path))


def test_numbers_may_be_wider_in_some_files(write: Write, tmp_path: Path) -> None:
    write("a.parquet", query="SELECT 1::INT AS id")
    write("b.parquet", query="SELECT 2.5::DOUBLE AS id")
    assert resolve(str(tmp_path)).rows == 2


def test_a_window_that_cannot_be(write: Write) -> None:
    path = str(write("a.parquet"))
    with pytest.raises(ConfigError, match="needs a time column"):
        resolve(path, start=JAN_2)
    with pytest.raises(ConfigError, match="window is empty"):
        resolve(path, time_column="at", start=JAN_3, end=JAN_2)
    with pytest.raises(ConfigError, match="unknown data format"):
        resolve(path, format="orc")
