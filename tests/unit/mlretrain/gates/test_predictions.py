"""How far a version's predictions are from the champion's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.gates.predictions import PredictionLog, PredictionShift
from tests.fixtures_s3 import moto_server, s3_env

SHIFTED = datetime(2026, 3, 9, 6, tzinfo=UTC)
RANDOM = np.random.default_rng(7)


def put(
    folder: Path,
    version: str,
    predictions: Any,
    *,
    at: datetime = SHIFTED + timedelta(minutes=1),
    batch: int = 1,
    column: str = "prediction",
) -> None:
    """One file of the log, in the folder of its day."""
    rows = len(predictions)
    dated = folder / f"date={at:%Y-%m-%d}"
    dated.mkdir(parents=True, exist_ok=True)
    table = {
        column: list(predictions),
        "model_version": [version] * rows,
        "served_at": [at] * rows,
        "request_id": [f"{version}-{i // batch}" for i in range(rows)],
    }
    pq.write_table(pa.table(table), dated / f"part-{len(list(dated.iterdir()))}.parquet")


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    put(tmp_path, "1", RANDOM.beta(2, 5, 4000))
    return PredictionLog(f"file://{tmp_path}")


def shift(log: PredictionLog, **options: Any) -> PredictionShift:
    found = log.shift("2", "1", SHIFTED, **options)
    assert found is not None
    return found


def test_the_same_distribution_has_moved_by_nothing_certain(log: PredictionLog, tmp_path: Path) -> None:
    put(tmp_path, "2", RANDOM.beta(2, 5, 1000))

    found = shift(log)

    assert found.certain == 0.0
    assert found.effect < 0.1
    assert (found.rows, found.champion_rows) == (1000, 4000)


def test_another_distribution_has_moved(log: PredictionLog, tmp_path: Path) -> None:
    put(tmp_path, "2", RANDOM.beta(5, 2, 1000))

    found = shift(log)

    assert 0.5 < found.certain < found.effect <= 1.0


def test_few_predictions_say_little(log: PredictionLog, tmp_path: Path) -> None:
    put(tmp_path, "2", RANDOM.beta(2, 5, 20))

    found = shift(log)

    assert found.effect > 0.1
    assert found.certain == 0.0


def test_rows_of_one_request_say_less_than_rows_of_their_own(log: PredictionLog, tmp_path: Path) -> None:
    for version, batch in (("2", 1), ("3", 100)):
        put(tmp_path, version, RANDOM.beta(3, 5, 1000), batch=batch)

    alone, together = shift(log), log.shift("3", "1", SHIFTED)

    assert together is not None
    assert alone.certain > 0.05 > together.certain


def test_only_what_was_answered_since_the_shift_counts(log: PredictionLog, tmp_path: Path) -> None:
    put(tmp_path, "2", RANDOM.beta(5, 2, 500), at=SHIFTED - timedelta(seconds=1))
    put(tmp_path, "2", RANDOM.beta(5, 2, 500), at=SHIFTED - timedelta(days=1))
    (tmp_path / "date=2026-03-01").mkdir()
    (tmp_path / "date=2026-03-01" / "part-0.parquet").write_text("of a week ago, and not even read")
    put(tmp_path, "2", RANDOM.beta(2, 5, 500))

    assert shift(log).rows == 500


def test_what_was_mirrored_is_apart_from_what_was_served(log: PredictionLog, tmp_path: Path) -> None:
    put(tmp_path / ".mirrored", "2", RANDOM.beta(5, 2, 500))

    assert log.shift("2", "1", SHIFTED) is None
    assert shift(log, mirrored=True).certain > 0.5
    for uri in (f"file://{tmp_path}/", f"file://{tmp_path}/**/*.parquet", f"file://{tmp_path}/date=*/*"):
        assert shift(PredictionLog(uri), mirrored=True).rows == 500


@pytest.mark.parametrize(
    ("was", "now", "moved"),
    [
        (["a", "b"] * 500, ["a", "b"] * 100, False),
        (["a", "b"] * 500, ["a", "a", "a", "b"] * 100, True),
        ([True, False] * 500, [True] * 400, True),
        ([0, 1] * 500, [0, 1] * 100, False),
        ([0.5] * 1000, [None] * 200, True),
        ([0.5] * 1000, [0.5, float("nan")] * 200, True),
        ([0.5] * 1000, [0.5] * 200, False),
    ],
)
def test_classes_and_missing_predictions_move_too(tmp_path: Path, was: Any, now: Any, moved: bool) -> None:
    put(tmp_path, "1", was)
    put(tmp_path, "2", now)

    assert (shift(PredictionLog(f"file://{tmp_path}")).certain > 0.05) == moved


def test_predictions_of_another_kind_are_wholly_others(log: PredictionLog, tmp_path: Path) -> None:
    put(tmp_path / ".mirrored", "2", ["late", "in time"] * 50)

    assert shift(log, mirrored=True).certain == 1.0


def test_a_side_that_has_predicted_nothing_yet_is_not_measured(log: PredictionLog, tmp_path: Path) -> None:
    assert log.shift("2", "1", SHIFTED) is None
    assert log.shift("1", "2", SHIFTED) is None
    assert PredictionLog(f"file://{tmp_path}/elsewhere").shift("2", "1", SHIFTED) is None


def test_csv_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "prediction,model_version,at\n" + f"0.5,1,{SHIFTED.isoformat()}\n0.5,2,{SHIFTED.isoformat()}\n" * 9
    )

    found = PredictionLog(f"file://{tmp_path}/log.csv", time_column="at").shift("2", "1", SHIFTED)

    assert found is not None
    assert (found.rows, found.champion_rows) == (9, 9)


def test_something_else_than_a_log_is_said(tmp_path: Path) -> None:
    put(tmp_path, "1", [0.5], column="score")

    with pytest.raises(InvalidInput, match="there is no column 'prediction'"):
        PredictionLog(f"file://{tmp_path}").shift("2", "1", SHIFTED)


def test_options_are_those_of_the_yaml(tmp_path: Path) -> None:
    put(tmp_path, "1", [0.5])
    assert PredictionLog.of({"uri": f"file://{tmp_path}", "format": None}).uri == f"file://{tmp_path}"
    for options in ({}, {"uri": "file:///x", "window": "7d"}):
        with pytest.raises(ConfigError, match="no prediction log"):
            PredictionLog.of(options)


def test_a_log_in_s3_is_read_with_the_pipelines_access(log: PredictionLog, tmp_path: Path) -> None:
    import boto3

    put(tmp_path, "2", RANDOM.beta(5, 2, 500))
    put(tmp_path / ".mirrored", "2", RANDOM.beta(2, 5, 500))
    with moto_server("bucket") as endpoint:
        env = s3_env(endpoint)
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        for path in tmp_path.rglob("*.parquet"):
            client.upload_file(str(path), "bucket", f"log/{path.relative_to(tmp_path)}")
        remote = PredictionLog("s3://bucket/log", env=env)

        assert shift(remote) == shift(log)
        assert shift(remote, mirrored=True) == shift(log, mirrored=True)
