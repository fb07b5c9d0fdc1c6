"""Heavy work on the past, done once however many replays ask for it, by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from mlretrain.wire import digest

T = TypeVar("T")

_bench: Any = None
"""What this process works on; set once, when the process starts."""


class Workshop:
    """Methods of a bench, called in other processes, whose results are remembered.

    :param bench: anything that can be pickled.
    :param jobs: how many processes; 0: this one, for few and small things.
    :param log: where the processes' output goes.
    """

    def __init__(self, bench: Any, *, jobs: int, log: Path | None = None) -> None:
        self._bench = bench
        self._others = set(multiprocessing.active_children())
        self._known: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        self._pool = (
            ProcessPoolExecutor(
                jobs,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(bench, _threads(jobs), log),
            )
            if jobs
            else None
        )

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        self._pool.shutdown(wait=error is None, cancel_futures=True)
        if error is not None:
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()

    def start(self, method: Callable[..., T], *arguments: Any) -> Future[T]:
        """Begin ``method`` of the bench, unless that has been asked for before.

        :param arguments: as they travel on the wire; equal ones are the same work.
        """
        key = digest([method.__name__, *arguments])
        with self._lock:
            if key not in self._known:
                self._known[key] = self._submit(method.__name__, arguments)
            return self._known[key]

    def call(self, method: Callable[..., T], *arguments: Any) -> T:
        """The result of :meth:`start`; raises what the method raises."""
        return self.start(method, *arguments).result()

    def _submit(self, name: str, arguments: tuple[Any, ...]) -> Future[Any]:
        if self._pool is not None:
            return self._pool.submit(_call, name, arguments)
        done: Future[Any] = Future()
        done.set_result(getattr(self._bench, name)(*arguments))
        return done


def _threads(jobs: int) -> str:
    """How many threads a process may use, so that all together do not use more than there are processors."""
    return str(max(1, (os.cpu_count() or 1) // jobs))


def _start(bench: Any, threads: str, log: Path | None) -> None:
    """Prepare a process: Ctrl-C is its parent's affair, and its output is not the parent's."""
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = threads
    if log is not None:
        sys.stdout = sys.stderr = log.open("a", buffering=1)
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)
    _bench = bench


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_bench, name)(*arguments)
