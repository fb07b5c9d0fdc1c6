"""Every answered row in Parquet: what was asked, what was predicted, by which version, when.

Files are ``<folder>/<model>/date=YYYY-MM-DD/part-<time>-<random>.parquet``; they appear whole, by a
rename, and never change. Until then rows wait in memory: a server killed by other than SIGTERM loses those.

What mirrored versions predicted, which nobody was given, is in ``<folder>/<model>/.mirrored/date=…`` in the
same form: readers of the log pass over names with a leading dot, so that only what was served is monitored.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlretrain.serving.columns import row_count, to_table

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

FLUSH_ROWS = 10_000
FLUSH_S = 10.0
CAPACITY_ROWS = 500_000
MIRRORED = ".mirrored"
"""The folder of what was not served."""

Count = Callable[[str, int], None]
"""``(model, rows)``"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """One answered request: its rows as MLflow parsed them and what the model gave back.

    :param mirrored: whether it was a copy, whose answer nobody got.
    """

    model: str
    version: str
    served_at: datetime
    request_id: str
    rows: Any
    predictions: Any
    mirrored: bool = False

    @property
    def folder(self) -> str:
        """Where it is kept, below the log's folder."""
        return f"{quote(self.model, safe=' ')}/{MIRRORED}" if self.mirrored else quote(self.model, safe=" ")


class PredictionLog:
    """Takes predictions without ever making the caller wait, and writes them in the background.

    :param flush_rows: rows after which a file is written.
    :param flush_s: seconds after which a file is written, however few its rows.
    :param capacity_rows: rows that may wait; beyond, predictions are dropped and counted in ``dropped``.
    :param logged: told of rows that are on disk.
    :param dropped: told of rows that are lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        logged: Count,
        dropped: Count,
        flush_rows: int = FLUSH_ROWS,
        flush_s: float = FLUSH_S,
        capacity_rows: int = CAPACITY_ROWS,
    ) -> None:
        self._folder = folder
        self._logged = logged
        self._dropped = dropped
        self._flush_rows = flush_rows
        self._flush_s = flush_s
        self._capacity_rows = capacity_rows
        self._waiting: deque[tuple[Prediction, int]] = deque()
        self._waiting_rows = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._schemas: dict[str, pa.Schema] = {}
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Begin to write in the background."""
        self._thread.start()

    def add(self, prediction: Prediction) -> None:
        """Queue one answered request."""
        rows = row_count(prediction.rows)
        with self._lock:
            full = self._waiting_rows + rows > self._capacity_rows
            if not full:
                self._waiting.append((prediction, rows))
                self._waiting_rows += rows
        if full:
            self._dropped(prediction.model, rows)
        if self._waiting_rows >= self._flush_rows:
            self._wake.set()

    def flush(self) -> None:
        """Returns when every prediction queued so far is on disk. Raises ``OSError`` if that cannot be."""
        with self._writing:
            with self._lock:
                waiting, self._waiting = self._waiting, deque()
            groups: dict[tuple[str, str], list[Prediction]] = {}
            for each, _ in waiting:
                groups.setdefault((each.folder, f"{each.served_at:%Y-%m-%d}"), []).append(each)
            try:
                while groups:
                    key = next(iter(groups))
                    self._write(*key, groups[key])
                    del groups[key]
            finally:
                left = [(each, row_count(each.rows)) for group in groups.values() for each in group]
                with self._lock:
                    self._waiting.extendleft(reversed(left))
                    self._waiting_rows = sum(rows for _, rows in self._waiting)

    def close(self) -> None:
        """Write what is left and stop."""
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(self._flush_s)
            self._wake.clear()
            try:
                self.flush()
            except Exception:
                logger.exception("predictions cannot be written to %s; they wait in memory", self._folder)
                self._closed.wait(self._flush_s)

    def _write(self, folder: str, date: str, predictions: list[Prediction]) -> None:
        import pyarrow.parquet as pq

        table = self._table(folder, predictions)
        if table is None:
            return
        dated = self._folder / folder / f"date={date}"
        dated.mkdir(parents=True, exist_ok=True)
        name = f"part-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.parquet"
        temporary = dated / f".{name}.tmp"
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(dated / name)
        self._schemas[folder] = table.schema
        self._logged(predictions[0].model, table.num_rows)

    def _table(self, folder: str, predictions: list[Prediction]) -> pa.Table | None:
        """The predictions as a table; those that fit in none are dropped and counted."""
        schema = self._schema(folder)
        try:
            return to_table(predictions, schema)
        except Exception as error:  # noqa: BLE001 - a request may hold anything that a model accepts
            fitting = [each for each in predictions if _fits(each, schema)]
            fitting = fitting if len(fitting) < len(predictions) else []
            lost = sum(row_count(each.rows) for each in predictions if each not in fitting)
            logger.warning("%d rows asked of %s cannot be logged: %s", lost, folder, error)
            self._dropped(predictions[0].model, lost)
        return self._table(folder, fitting) if fitting else None

    def _schema(self, folder: str) -> pa.Schema | None:
        """The columns that the files of this folder have so far, also those from before a restart."""
        import pyarrow.parquet as pq

        if folder not in self._schemas:
            files = sorted((self._folder / folder).glob("date=*/part-*.parquet"))
            if not files:
                return None
            self._schemas[folder] = pq.read_schema(files[-1])
        return self._schemas[folder]


def _fits(prediction: Prediction, schema: pa.Schema | None) -> bool:
    try:
        to_table([prediction], schema)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
