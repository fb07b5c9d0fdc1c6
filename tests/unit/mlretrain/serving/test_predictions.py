import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlretrain.serving.predictions import Prediction, PredictionLog

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def prediction(number: int, *, at: datetime = NOON, model: str = "m") -> Prediction:
    rows = pd.DataFrame({"n": [number]})
    return Prediction(
        model=model, version="7", served_at=at, request_id=str(number), rows=rows, predictions=[number / 2]
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/date=*/part-*.parquet"))


def numbers(folder: Path) -> list[int]:
    return sorted(n for file in files(folder) for n in pq.ParquetFile(file).read()["n"].to_pylist())


class Counts:
    def __init__(self) -> None:
        self.logged: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def log(self, folder: Path, **options: Any) -> PredictionLog:
        return PredictionLog(
            folder,
            logged=lambda model, rows: self.logged.update({model: rows}),
            dropped=lambda model, rows: self.dropped.update({model: rows}),
            **options,
        )


def test_a_flush_puts_every_row_on_disk_once(tmp_path: Path) -> None:
    counts = Counts()
    log = counts.log(tmp_path)
    for number in range(10):
        log.add(prediction(number))
    log.flush()
    log.flush()

    assert numbers(tmp_path) == list(range(10))
    assert counts.logged == {"m": 10}
    assert [file.parent.relative_to(tmp_path).as_posix() for file in files(tmp_path)] == ["m/date=2026-03-02"]
    assert list(tmp_path.rglob("*.tmp")) == []


def test_days_and_models_have_files_of_their_own(tmp_path: Path) -> None:
    log = Counts().log(tmp_path)
    log.add(prediction(1))
    log.add(prediction(2, at=NOON + timedelta(days=1)))
    log.add(prediction(3, model="a b"))
    log.flush()

    assert [file.parent.relative_to(tmp_path).as_posix() for file in files(tmp_path)] == [
        "a b/date=2026-03-02",
        "m/date=2026-03-02",
        "m/date=2026-03-03",
    ]


def test_a_full_log_drops_and_counts(tmp_path: Path) -> None:
    counts = Counts()
    log = counts.log(tmp_path, capacity_rows=3)
    for number in range(5):
        log.add(prediction(number))
    log.flush()

    assert numbers(tmp_path) == [0, 1, 2]
    assert counts.dropped == {"m": 2}


def test_what_could_not_be_written_waits_for_the_next_flush(tmp_path: Path) -> None:
    counts = Counts()
    folder = tmp_path / "log"
    folder.write_text("a file where the folder should be")
    log = counts.log(folder)
    log.add(prediction(1))
    with pytest.raises(OSError, match="log"):
        log.flush()
    folder.unlink()
    log.add(prediction(2))
    log.flush()

    assert numbers(folder) == [1, 2]
    assert counts.logged == {"m": 2}


def test_enough_rows_are_written_without_being_asked(tmp_path: Path) -> None:
    written = threading.Event()
    log = PredictionLog(
        tmp_path,
        logged=lambda model, rows: written.set(),
        dropped=lambda model, rows: None,
        flush_rows=5,
        flush_s=3600,
    )
    log.start()
    for number in range(5):
        log.add(prediction(number))

    assert written.wait(30)
    log.close()
    assert numbers(tmp_path) == list(range(5))


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    log = Counts().log(tmp_path, flush_s=3600)
    log.start()
    log.add(prediction(1))
    log.close()

    assert numbers(tmp_path) == [1]


def test_many_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    log = Counts().log(tmp_path, flush_rows=100, flush_s=3600)
    log.start()

    def add(first: int) -> None:
        for i in range(500):
            log.add(prediction(first + i))

    threads = [threading.Thread(target=add, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    log.flush()
    for thread in threads:
        thread.join()
    log.close()

    assert numbers(tmp_path) == sorted(1000 * i + j for i in range(4) for j in range(500))


def test_a_restarted_log_keeps_the_types_of_its_columns(tmp_path: Path) -> None:
    first = Counts().log(tmp_path)
    first.add(prediction(1))
    first.flush()
    second = Counts().log(tmp_path)
    nothing = pd.DataFrame({"n": [None]})
    second.add(
        Prediction(model="m", version="7", served_at=NOON, request_id="2", rows=nothing, predictions=[1])
    )
    second.flush()

    schemas = [pq.read_schema(file) for file in files(tmp_path)]
    assert schemas[0] == schemas[1]
    assert schemas[1].field("prediction").type == pa.float64()


def test_a_request_that_is_no_table_does_not_hold_up_the_others(tmp_path: Path) -> None:
    counts = Counts()
    log = counts.log(tmp_path)
    twice = pd.DataFrame([[1, 2]], columns=["n", "n"])
    log.add(prediction(1))
    log.add(Prediction(model="m", version="7", served_at=NOON, request_id="2", rows=twice, predictions=[1]))
    log.add(prediction(3))
    log.flush()

    assert numbers(tmp_path) == [1, 3]
    assert counts.dropped == {"m": 1}
