"""Waiting for jobs without a worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlretrain.errors import MlretrainError, TransientError
from mlretrain.ports import ArtifactStore, Backend
from mlretrain.runtime.store import open_store
from mlretrain_provider.backends import open_backend
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.jobs import read_record
from mlretrain_provider.triggers import SHORTEST_POLL_S
from mlretrain_provider.watch import JobWatch


class JobTrigger(BaseTrigger):
    """Fires with ``{ended: [handle, …]}`` as soon as any of the jobs has ended, or with ``{error}``.

    Meanwhile it copies their logs into the task's. A backend that does not answer is asked again. Killing the
    deferred task cancels all jobs.

    :param jobs: ``{name, handle, log_path}`` of each.
    :param poll_s: seconds between looks, 10 at least; the first comes after one interval.
    """

    def __init__(
        self,
        *,
        backend: str,
        backend_options: Mapping[str, Any],
        jobs: Sequence[Mapping[str, str]],
        artifacts_uri: str,
        storage_conn_id: str | None = None,
        poll_s: float = SHORTEST_POLL_S,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.backend = backend
        self.backend_options = dict(backend_options)
        self.jobs = [dict(job) for job in jobs]
        self.artifacts_uri = artifacts_uri
        self.storage_conn_id = storage_conn_id
        self.poll_s = max(float(poll_s), SHORTEST_POLL_S)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("backend", "backend_options", "jobs", "artifacts_uri", "storage_conn_id", "poll_s")
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in names
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look now and then until a job has ended."""
        try:
            watches: list[JobWatch] = []
            while True:
                await asyncio.sleep(self.poll_s)
                try:
                    watches = watches or await asyncio.to_thread(self._watches)
                    ended = await asyncio.to_thread(_look, watches)
                except TransientError as error:
                    self.log.warning("Looking again in %s s: %s", self.poll_s, error)
                    continue
                if ended:
                    yield TriggerEvent({"ended": ended})  # type: ignore[no-untyped-call]
                    return
        except MlretrainError as error:
            yield TriggerEvent({"error": error.to_wire()})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the jobs, unless this try still waits: then another triggerer has taken it over."""
        if await asyncio.to_thread(self._taken_over):
            self.log.info("The task still waits, elsewhere: its jobs go on.")
            return
        await asyncio.to_thread(self._cancel)

    @cached_property
    def _opened(self) -> Backend:
        return open_backend(self.backend, self.backend_options)

    def _store(self) -> ArtifactStore:
        return open_store(self.artifacts_uri, storage_env(self.storage_conn_id) or None)

    def _watches(self) -> list[JobWatch]:
        store = self._store()
        return [
            JobWatch(
                backend=self._opened,
                name=job["name"],
                handle=job["handle"],
                log=self.log,
                store=store,
                log_path=job["log_path"],
                clock=time.monotonic,
            )
            for job in self.jobs
        ]

    def _cancel(self) -> None:
        for job in self.jobs:
            self.log.info("Cancelling job %s", job["name"])
            self._opened.cancel(job["handle"])

    def _taken_over(self) -> bool:
        return self._still_deferred() and not self._cleared()

    def _cleared(self) -> bool:
        """Whether a later try waits: a task that is cleared may be back before this trigger hears of it."""
        ti, store = self.task_instance, self._store()
        try:
            records = [read_record(store, job["log_path"].rpartition("/")[0]) for job in self.jobs]
        except TransientError as error:
            self.log.warning("The store does not say who follows the jobs: %s", error)
            return False
        return ti is not None and any(record and record["follower"] > ti.try_number for record in records)

    def _still_deferred(self) -> bool:
        ti = self.task_instance
        if ti is None:
            return False
        try:
            states = RuntimeTaskInstance.get_task_states(
                dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
            )
        except Exception as error:  # noqa: BLE001 - whatever Airflow's API answers, a kill is what was asked for
            self.log.warning("Airflow does not say what became of the task: %s", error)
            return False
        return str(states.get(ti.run_id, {}).get(ti.task_id)) == "deferred"


def _look(watches: Sequence[JobWatch]) -> list[str]:
    return [watch.handle for watch in watches if watch.look().ended]
