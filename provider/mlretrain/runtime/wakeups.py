"""What wakes a supervisor: signals, and lines of several nodes that share one log."""

from __future__ import annotations

import math
import os
import selectors
import signal
import time


class Wakeups:
    """Signals to stop, ended children, and the nodes' output on its way to the log."""

    def __init__(self) -> None:
        self.told_to_stop = False
        self._selector = selectors.DefaultSelector()
        self._wakeup, wakes = os.pipe()
        for each in (self._wakeup, wakes):
            os.set_blocking(each, False)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, *_: object) -> None:
        self.told_to_stop = True

    def lines_of(self, prefix: str) -> int:
        """A file to write to: each line of it goes to the log as a whole, after ``prefix``."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._selector.register(reader, selectors.EVENT_READ, _Lines(prefix.encode()))
        return writer

    def wait(self, until: float) -> bool:
        """Wait for a signal or lines, which are copied, until the time ``until``; whether there was any."""
        ready = self._selector.select(None if until == math.inf else max(0.0, until - time.monotonic()))
        for key, _ in ready:
            data = os.read(key.fd, 1 << 16)
            if key.data is not None and not key.data.add(data):
                self._selector.unregister(key.fd)
                os.close(key.fd)
        return bool(ready)

    def close(self) -> None:
        """Copy what is left, also lines without an end."""
        while self.wait(0.0):
            continue
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.data.add(b"")


class _Lines:
    """Text of one node on its way to the log."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._rest = b""

    def add(self, data: bytes) -> bool:
        """Write the lines that ``data`` ends; whether there may be more: nothing is the end."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if not data and self._rest:
            lines.append(self._rest)
            self._rest = b""
        text = memoryview(b"".join(self._prefix + line + b"\n" for line in lines))
        while text:
            text = text[os.write(1, text) :]
        return bool(data)
