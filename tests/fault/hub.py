"""Processes that take turns by a fake clock, and can die anywhere."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

LONGEST_CALL_S = 0.4


class Process:
    """One process, or one thread, of the simulated world.

    :param kind: what it does, for the names of its points: ``worker``, ``trigger``, ``record``, …
    """

    def __init__(self, hub: Hub, kind: str, work: Callable[[], None], parent: Process | None = None) -> None:
        self.kind = kind
        self.parent = parent
        self.children: list[Process] = []
        self.alive = True
        self.frozen_until = 0.0
        self.turn = 0
        self.ended_at: float | None = None
        self._signals: list[Callable[[], None]] = []
        self._interrupt: BaseException | None = None
        self._hub = hub
        self._work = work
        self.stack: greenlet = greenlet(self._run, parent=hub.stack)
        if parent is not None:
            parent.children.append(self)

    def _run(self) -> None:
        try:
            self._work()
        except GreenletExit:
            pass
        finally:
            if self.alive:
                self.alive = False
                self.ended_at = self._hub.now

    def kill(self) -> None:
        """SIGKILL: not one more instruction is run, no ``finally`` and no handler."""
        for each in (self, *self.children):
            if each.alive:
                each.alive = False
                each.ended_at = self._hub.now
                self._hub.dead.append(each)

    def signal(self, handler: Callable[[], None]) -> None:
        """Have the process run ``handler`` where it stands, as a signal does, before it goes on."""
        self._signals.append(handler)

    def interrupt(self, error: BaseException) -> None:
        """Raise ``error`` where the process waits."""
        self._interrupt = error
        self._hub.wake(self)

    def deliver(self) -> None:
        """What has happened to the process meanwhile; called by itself as it goes on."""
        while self._signals:
            self._signals.pop(0)()
        if self._interrupt is not None:
            error, self._interrupt = self._interrupt, None
            raise error


class Hub:
    """The clock, and who goes on when.

    ``on_point`` is called with the name of each point that a process passes.
    """

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.random = random
        self.stack = getcurrent()
        self.dead: list[Process] = []
        self.points: list[str] = []
        self.on_point: Callable[[str, Process], None] = lambda point, process: None
        self._closing = False
        self._current: Process | None = None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call a function that does not wait, at a time."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), what))

    def wake(self, process: Process, when: float = 0.0) -> None:
        """Let a process go on at a time, or now, unless it has gone on before that."""
        turn = process.turn
        self.at(when, lambda: self._resume(process, turn))

    def spawn(self, kind: str, work: Callable[[], None], parent: Process | None = None) -> Process:
        process = Process(self, kind, work, parent)
        self.wake(process)
        return process

    @property
    def current(self) -> Process:
        assert self._current is not None, "no process runs"
        return self._current

    def sleep(self, seconds: float) -> None:
        """Let others go on meanwhile."""
        process = self.current
        self.wake(process, self.now + seconds)
        self.wait()

    def wait(self) -> None:
        """Let others go on until somebody wakes this process."""
        process = self.current
        self.stack.switch()
        if self._closing:
            raise GreenletExit
        process.deliver()

    def point(self, name: str) -> None:
        """A moment at which anything may happen, and in which some time passes."""
        if self._closing:
            raise GreenletExit
        process = self.current
        name = f"{process.kind}:{name}"
        self.points.append(name)
        self.on_point(name, process)
        self.sleep(self.random.random() * LONGEST_CALL_S)

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Go on until something holds; whether it did before the clock shows ``limit_s``."""
        while self._queue and not until():
            when, _, what = heapq.heappop(self._queue)
            if when > limit_s:
                return False
            self.now = max(self.now, when)
            what()
        return until()

    def _resume(self, process: Process, turn: int) -> None:
        if not process.alive or process.turn != turn:
            return
        if process.frozen_until > self.now:
            self.wake(process, process.frozen_until)
            return
        process.turn += 1
        self._current = process
        process.stack.switch()
        self._current = None

    def close(self) -> None:
        """Let go of what the dead hold on to."""
        self._closing = True
        for each in self.dead:
            if each.stack:
                each.stack.throw(GreenletExit)
