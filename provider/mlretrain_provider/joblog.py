"""A job's log in the task's log: line by line, each line once, as it is written."""

from __future__ import annotations

from typing import Any

from mlretrain.ports import Backend


class JobLog:
    """Copies what a job writes into ``log``."""

    def __init__(self, backend: Backend, handle: str, log: Any) -> None:
        self._backend = backend
        self._handle = handle
        self._log = log
        self._offset = 0
        self._rest = ""

    def copy(self) -> None:
        """Copy the whole lines written since the last time."""
        while True:
            text, offset = self._backend.logs(self._handle, self._offset)
            if offset == self._offset:
                return
            self._offset = offset
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._log.info("%s", line.rstrip("\r"))

    def close(self) -> None:
        """Copy all that is left, also a last line without an end."""
        self.copy()
        if self._rest:
            self._log.info("%s", self._rest)
            self._rest = ""
