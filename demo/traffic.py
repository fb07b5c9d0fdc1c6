"""Passengers' questions: each flight goes to the model server as a request, in order of departure."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from demo.flights import KNOWN_AT_DEPARTURE
from demo.services import call

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

FIELDS = ["flight_id", "sched_dep_time", *KNOWN_AT_DEPARTURE]
ROWS_PER_REQUEST = 25
CLIENTS = 2


@dataclass(kw_only=True)
class Traffic:
    """A stream of flights that only moves forward.

    :param flights: rows with :data:`FIELDS`, in order of ``sched_dep_time``.
    :param url: the invocations URL of the model.
    """

    flights: pd.DataFrame
    url: str
    sent: int = 0
    requests: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def _take(self, end: pd.Timestamp | None) -> pd.DataFrame | None:
        with self._turn:
            rows = self.flights.iloc[self.sent : self.sent + ROWS_PER_REQUEST]
            if end is not None:
                rows = rows[rows["sched_dep_time"] < end]
            if rows.empty:
                return None
            self.sent += len(rows)
            self.requests += 1
            return rows

    def _send(self, rows: pd.DataFrame) -> None:
        asked = rows[FIELDS].astype({"sched_dep_time": str}).astype(object)
        columns = asked.where(asked.notna(), None)
        call(self.url, {"dataframe_split": {"columns": FIELDS, "data": columns.to_numpy().tolist()}})

    def send_until(self, end: pd.Timestamp) -> None:
        """Send every flight that leaves before ``end``, as fast as the server answers."""

        def client() -> None:
            while (rows := self._take(end)) is not None:
                self._send(rows)

        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(client) for _ in range(CLIENTS)]:
                done.result()

    @contextmanager
    def going_on(self, requests_per_s: float) -> Iterator[None]:
        """Keep the stream going at a steady rate while the block runs; a failed request raises at its end."""
        over = threading.Event()

        def stream() -> None:
            while not over.is_set() and (rows := self._take(None)) is not None:
                started = time.monotonic()
                self._send(rows)
                over.wait(max(0.0, 1 / requests_per_s - (time.monotonic() - started)))

        with ThreadPoolExecutor(1) as pool:
            streaming = pool.submit(stream)
            try:
                yield
            finally:
                over.set()
            streaming.result()
