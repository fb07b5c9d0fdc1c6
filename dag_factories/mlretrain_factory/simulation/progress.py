"""How far a long command is: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

_WIDTH = 30
_EVERY_S = {True: 0.1, False: 10.0}


class Progress:
    """Writes to ``stream``; call it with how much of how much is done, from any thread, one at a time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._started = time.monotonic()
        self._told = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal:
            self._write("\r\x1b[K")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told < _EVERY_S[self._is_terminal] and done < total:
            return
        self._told = now
        share, elapsed = done / max(total, 1), now - self._started
        left = f", {elapsed / share * (1 - share):.0f} s left" if 0 < share < 1 else ""
        text = f"{done} of {total} windows, {elapsed:.0f} s{left}"
        if self._is_terminal:
            filled = round(_WIDTH * share)
            self._write(f"\r\x1b[K{'█' * filled}{'░' * (_WIDTH - filled)} {text}")
        else:
            self._write(f"{text}\n")

    def say(self, text: str) -> None:
        """One line about what is done now."""
        self._write(f"\r\x1b[K{text}\r" if self._is_terminal else f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
