"""The same data reads the same from a folder and from S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from mlretrain.data.dataset import Dataset
from mlretrain.data.read import connect, open_relation, read_frame
from mlretrain.data.resolve import resolve
from mlretrain.data.split import Holdout, split
from mlretrain.errors import InvalidInput, TransientError
from mlretrain.runtime.store import open_store
from tests.fixtures_data import writer
from tests.fixtures_s3 import moto_server, s3_env
from tests.free_port import free_port

BUCKET = "data"
WINDOW = {
    "time_column": "at",
    "start": datetime(2013, 1, 2, tzinfo=UTC),
    "end": datetime(2013, 1, 4, tzinfo=UTC),
}

Upload = Callable[[Path], str]


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    with moto_server(BUCKET) as endpoint:
        yield s3_env(endpoint)


@pytest.fixture
def upload(env: dict[str, str], tmp_path: Path) -> Upload:
    """Copies a folder below a prefix of its own and returns its URI."""

    def copy(folder: Path) -> str:
        uri = f"s3://{BUCKET}/{tmp_path.name}"
        store = open_store(uri, env)
        for path in folder.rglob("*"):
            if path.is_file():
                store.write(path.relative_to(folder).as_posix(), path.read_bytes())
        return uri

    return copy


def flights(folder: Path, suffix: str) -> Path:
    write = writer(folder)
    for day in range(5):
        write(f"day {day}/ü%20{day}.{suffix}", day * 24, day * 24 + 24)
    write(f"_old/x.{suffix}")
    write(f".hidden.{suffix}")
    return folder


def held_out(dataset: Dataset, by: Holdout, env: dict[str, str] | None = None) -> pd.DataFrame:
    with connect() as con:
        where = split(open_relation(con, dataset, env), by, time_column="at", seed=3).holdout_where
    return read_frame(dataset, ["id", 'na"me'], where, env)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("below", ["", "/*/*.{suffix}", "/**/*[0-9].{suffix}", "/day 2/ü%20?.{suffix}"])
def test_files_rows_and_splits(
    tmp_path: Path, upload: Upload, env: dict[str, str], suffix: str, below: str
) -> None:
    folder = flights(tmp_path / "data", suffix)
    below = below.format(suffix=suffix)
    local = resolve(f"{folder}{below}", **WINDOW)  # type: ignore[arg-type]
    remote = resolve(f"{upload(folder)}{below}", **WINDOW, env=env)  # type: ignore[arg-type]
    assert [Path(file.uri).name.replace("%25", "%") for file in local.files] == [
        Path(file.uri).name for file in remote.files
    ]
    assert local.rows == remote.rows
    pd.testing.assert_frame_equal(read_frame(local), read_frame(remote, env=env))
    for holdout in (Holdout(by="time"), Holdout(by="random")):
        pd.testing.assert_frame_equal(held_out(local, holdout), held_out(remote, holdout, env))


def test_an_object_that_has_changed_is_named(tmp_path: Path, upload: Upload, env: dict[str, str]) -> None:
    uri = upload(flights(tmp_path / "data", "parquet"))
    dataset = resolve(uri, env=env)
    open_store(uri, env).write("day 1/ü%201.parquet", b"other")
    with pytest.raises(InvalidInput, match=r"ü%201\.parquet: the file has changed"):
        read_frame(dataset, env=env)


def test_a_damaged_object_is_named(tmp_path: Path, upload: Upload, env: dict[str, str]) -> None:
    uri = upload(flights(tmp_path / "data", "parquet"))
    open_store(uri, env).write("day 1/ü%201.parquet", b"PAR1 this is not it")
    with pytest.raises(InvalidInput, match=r"ü%201\.parquet: not a Parquet file"):
        resolve(uri, env=env)


def test_nothing_there(env: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="no data files here"):
        resolve(f"s3://{BUCKET}/nowhere/*.parquet", env=env)


def test_numbers_may_be_wider_in_some_objects(tmp_path: Path, upload: Upload, env: dict[str, str]) -> None:
    write = writer(tmp_path / "data")
    write("a.parquet", query="SELECT 1::INT AS id, 'x' AS s")
    write("b.parquet", query="SELECT 'y' AS s, 2.5::DOUBLE AS id")
    frame = read_frame(resolve(upload(tmp_path / "data"), env=env), ["id", "s"], env=env)
    assert frame.to_numpy().tolist() == [[1.0, "x"], [2.5, "y"]]


def test_an_endpoint_that_does_not_answer() -> None:
    with pytest.raises(TransientError, match="S3 does not answer"):
        resolve(f"s3://{BUCKET}/x", env=s3_env(f"http://127.0.0.1:{free_port()}"))
