"""One running job as its task's log shows it: its lines, what holds it up, and that it is alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mlretrain.ports import ArtifactStore, Backend, JobStatus
from mlretrain_provider.joblog import JobLog

HEARTBEAT_S = 300.0
"""A job that writes nothing for so long is said to be alive."""


class JobWatch:
    """Looks at a job and tells the task's log what is new."""

    def __init__(
        self,
        *,
        backend: Backend,
        name: str,
        handle: str,
        log: Any,
        store: ArtifactStore,
        log_path: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handle = handle
        self._backend = backend
        self._name = name
        self._log = log
        self._clock = clock
        self._lines = JobLog(backend=backend, handle=handle, log=log, store=store, path=log_path, clock=clock)
        self._said: tuple[str, str | None] | None = None
        self._since = self._heard_at = clock()

    def look(self) -> JobStatus:
        """The job's state now, after all that it has written was copied."""
        status = self._backend.status(self.handle)
        lines = self._lines.copy()
        if status.ended:
            self._lines.save(complete=True)
        now = self._clock()
        if lines or status.ended:
            self._heard_at = now
        self._tell(status, now)
        return status

    @property
    def complete(self) -> bool:
        """Whether the job is known to have ended, and all that it wrote was copied."""
        return self._lines.complete

    def pause(self) -> None:
        """Remember how far the log was copied: somebody else goes on from there."""
        self._lines.save()

    def _tell(self, status: JobStatus, now: float) -> None:
        state = (status.state, status.reason)
        if status.state == "pending" and status.reason and state != self._said:
            self._log.warning("Job %s does not run yet: %s", self._name, status.reason)
        elif now - self._heard_at >= HEARTBEAT_S:
            self._log.info("Job %s is %s, %d minutes on.", self._name, status.state, (now - self._since) / 60)
            self._heard_at = now
        self._said = state
