"""Copies of answered requests for versions that serve nothing, so that nobody waits for them or sees them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlretrain.serving.columns import row_count
from mlretrain.serving.compare import compare
from mlretrain.serving.metrics import ServerMetrics
from mlretrain.serving.predictions import Prediction, PredictionLog
from mlretrain.serving.router import Router, Served
from mlretrain.serving.scoring import CALL, Call
from mlretrain.serving.stats import StatsLog

if TYPE_CHECKING:
    from starlette.types import Message, Scope

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""Copies that are answered at the same time; so many of the threads that answer callers may be taken."""

PATIENCE_S = 0.1
"""How long a copy waits for a moment in which no caller does; where none comes, few copies are answered."""

LOOK_S = 0.005

CAPACITY_BYTES = 8_000_000
"""How much may wait; a copy for which there is no room is dropped."""

OVERHEAD_BYTES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copied:
    """A request as its caller sent it, and what the caller got.

    :param scope: the request as MLflow's app expects it.
    :param at: when it was answered.
    :param code: the status of the answer.
    :param predictions: what was served, if anything was.
    """

    model: str
    request_id: str
    scope: Scope
    body: bytes
    at: datetime
    code: int
    predictions: Any

    @property
    def size(self) -> int:
        """Bytes that it takes to wait, roughly."""
        return len(self.body) + OVERHEAD_BYTES


class Mirror:
    """Asks mirrored versions what was asked already, counts and logs what they say, and compares it.

    Whatever happens here reaches no caller: copies are taken after the answer is sent, wait in memory up to
    ``capacity_bytes`` and are dropped beyond, which is counted; no more than :data:`AT_ONCE` are answered at
    a time, and only when no caller waits for the processor, as long as such moments come. A mirrored version
    that refuses what the served one has answered is at fault, whatever the status.
    """

    def __init__(
        self,
        *,
        router: Router,
        stats: StatsLog,
        metrics: ServerMetrics,
        log: PredictionLog,
        capacity_bytes: int | None = None,
    ) -> None:
        self._router = router
        self._stats = stats
        self._metrics = metrics
        self._log = log
        self._capacity_bytes = CAPACITY_BYTES if capacity_bytes is None else capacity_bytes
        self._waiting: deque[tuple[Copied, Served]] = deque()
        self._waiting_bytes = 0
        self._work = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to answer copies; in the event loop."""
        self._workers = [asyncio.ensure_future(self._answer_all()) for _ in range(AT_ONCE)]

    def stop(self) -> None:
        """Answer no more; what waits is dropped."""
        for worker in self._workers:
            worker.cancel()
        for copied, served in self._waiting:
            self._metrics.mirror_dropped(copied.model, served.version)
        self._waiting.clear()

    def offer(self, copied: Copied, turn: Sequence[Served]) -> None:
        """Queue a request for the versions whose turn it is."""
        for served in turn:
            if self._waiting_bytes + copied.size > self._capacity_bytes:
                self._metrics.mirror_dropped(copied.model, served.version)
                continue
            self._waiting.append((copied, served))
            self._waiting_bytes += copied.size
            self._work.set()

    async def _answer_all(self) -> None:
        while True:
            await self._work.wait()
            if not self._waiting:
                self._work.clear()
                continue
            copied, served = self._waiting.popleft()
            self._waiting_bytes -= copied.size
            if self._mirrored(copied, served):
                await self._quiet()
            if not self._mirrored(copied, served):
                self._metrics.mirror_dropped(copied.model, served.version)
                continue
            try:
                with served.answering():
                    await self._answer(copied, served)
            except Exception:
                logger.exception("a copy for %s version %s is lost", copied.model, served.version)
                self._metrics.mirror_dropped(copied.model, served.version)

    def _mirrored(self, copied: Copied, served: Served) -> bool:
        return served.version in self._router.traffic(copied.model).mirrored

    async def _quiet(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while self._router.busy and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)

    async def _answer(self, copied: Copied, served: Served) -> None:
        started = time.perf_counter()
        code, call = await _ask(copied, served)
        seconds = time.perf_counter() - started
        refused = code >= 400 and copied.code == 200
        self._stats.record(copied.model, served.version, 500 if refused else code, seconds)
        self._metrics.mirrored(copied.model, served.version, code, seconds)
        if call.failure is not None:
            logger.error(
                "%s version %s failed on a copy, request id %s",
                copied.model,
                served.version,
                copied.request_id,
                exc_info=call.failure,
            )
        if code == 200 and call.rows is not None:
            self._compare(copied, served, call)

    def _compare(self, copied: Copied, served: Served, call: Call) -> None:
        self._log.add(
            Prediction(
                model=copied.model,
                version=served.version,
                served_at=copied.at,
                request_id=copied.request_id,
                rows=call.rows,
                predictions=call.predictions,
                mirrored=True,
            )
        )
        if copied.code == 200:
            found = compare(copied.predictions, call.predictions, row_count(call.rows))
            self._stats.compared(copied.model, served.version, found)
            self._metrics.compared(copied.model, served.version, found)


async def _ask(copied: Copied, served: Served) -> tuple[int, Call]:
    """The status that a caller would have got, and what became of the request inside MLflow's app."""
    call = Call()
    codes: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": copied.body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            codes.append(message["status"])

    token = CALL.set(call)
    try:
        await served.app(copied.scope, receive, send)
    except Exception as error:  # noqa: BLE001 - the user's model, or MLflow writing its predictions as JSON
        call.failure = call.failure or error
    finally:
        CALL.reset(token)
    return (500 if call.failure is not None or not codes else codes[0]), call
