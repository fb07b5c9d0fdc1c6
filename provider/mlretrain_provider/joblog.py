"""A job's log in the task's log: each line once, as it is written, whoever copies it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from mlretrain import wire
from mlretrain.errors import NotFound, TransientError
from mlretrain.ports import ArtifactStore, Backend

SAVE_EVERY_S = 1.0
"""A worker that dies has its last second's lines copied again by the next one."""


class JobLog:
    """Copies what a job writes into ``log`` and remembers in the artifact store how far it has come.

    :param path: the store's object that holds the position; it belongs to this job alone.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        handle: str,
        log: Any,
        store: ArtifactStore,
        path: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._handle = handle
        self._log = log
        self._store = store
        self._path = path
        self._clock = clock
        self._cursor: str | None = None
        self._saved: tuple[str, bool] = ("", False)
        self._saved_at = clock()

    def copy(self) -> int:
        """Copy the lines written since the last time; how many they were."""
        lines = 0
        if self._cursor is None:
            self._cursor, complete = self._restored()
            self._saved = (self._cursor, complete)
        while True:
            text, cursor = self._backend.logs(self._handle, self._cursor)
            if cursor == self._cursor:
                break
            self._cursor = cursor
            for line in text.splitlines():
                self._log.info("%s", line)
                lines += 1
        if self._clock() - self._saved_at >= SAVE_EVERY_S:
            self.save()
        return lines

    @property
    def complete(self) -> bool:
        """Whether somebody has copied the log to its end."""
        return self._restored()[1]

    def save(self, *, complete: bool = False) -> None:
        """Remember the position; a store that is away costs repeated lines, nothing else.

        :param complete: the job has ended, and this is all.
        """
        self._saved_at = self._clock()
        position = (self._cursor or "", complete)
        if position in (self._saved, ("", False)):
            return
        try:
            self._store.write(self._path, wire.canonical({"cursor": position[0], "complete": complete}))
        except TransientError as error:
            self._log.warning("The log's position is not saved: %s", error)
        else:
            self._saved = position

    def _restored(self) -> tuple[str, bool]:
        try:
            kept = json.loads(self._store.read(self._path))
        except (NotFound, TransientError):
            return "", False
        return str(kept["cursor"]), bool(kept["complete"])
