"""One request and the jobs that answer it: started once, found again by whoever comes next, cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

from mlretrain import wire
from mlretrain.errors import (
    ContractError,
    MlretrainError,
    NotFound,
    TransientError,
    UserCodeError,
    from_wire,
)
from mlretrain.ports import ArtifactStore, Backend, JobSpec, JobStatus
from mlretrain.runtime.contract import REPORT_FILE, StepReport, StepRequest, parse_report
from mlretrain.runtime.store import join_uri

JOB_FILE = "job.json"
LOG_FILE = "log.json"
KEPT = timedelta(days=365)
"""How long Airflow keeps a job's handle. A cleared task that is older starts a job of its own."""


class TaskState(Protocol):
    """Airflow's store for a task's own facts, which outlive its tries: ``context["task_state_store"]``."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value kept under ``key``."""

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        """Keep a JSON value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Which job answers a request now.

    :param number: 1 for the first; the next one is started only after this one's end was reported.
    :param try_number: the task's try that started it.
    :param reported: whether its end has become a task's failure.
    """

    backend: str
    name: str
    handle: str
    number: int
    try_number: int
    reported: bool = False


@dataclass(kw_only=True, eq=False)
class StepJob:
    """The job of one request, now.

    The record of the job is in Airflow's task state store, so that a retry finds it at once, and in the
    artifact store, so that it is found when Airflow was rebuilt.

    :param prefix: the request's folder in the store.
    :param spec: the job as the backend shall start it, given its number.
    :param where: the task, for errors.
    """

    request: StepRequest
    store: ArtifactStore
    prefix: str
    backend: Backend
    backend_name: str
    spec: Callable[[str, int], JobSpec]
    state: TaskState
    try_number: int
    where: str
    _record: JobRecord | None = field(default=None, init=False)

    @property
    def log_path(self) -> str:
        """Where the position in the log of the job is kept."""
        return f"{self.prefix}/{self.record.number}.{LOG_FILE}"

    @property
    def record(self) -> JobRecord:
        """The job that :meth:`look` saw."""
        if self._record is None:
            raise ContractError("a job that nobody has looked at", where=self.where)
        return self._record

    def succeeded(self) -> StepReport | None:
        """The report, if any job has ever succeeded."""
        report = self._report()
        return report if report is not None and report.status == "succeeded" else None

    def look(self) -> JobStatus:
        """The job's state; one is started where there is none, or where the last one's end has been reported.

        A job that was cancelled for an earlier try, because the task was cleared, makes room for the next.
        """
        known = self._record or self._recall()
        self._record = known if known and not known.reported else self._start(known)
        status = self.backend.status(self._record.handle)
        if status.state == "cancelled" and self._record.try_number != self.try_number:
            self._record = self._start(self._record)
            status = self.backend.status(self._record.handle)
        return status

    def report(self, status: JobStatus) -> StepReport:
        """The report of a job that has ended well; else raises its error, and the next job may start."""
        found = self.outcome(status)
        if isinstance(found, StepReport):
            return found
        self.settle()
        raise found

    def outcome(self, status: JobStatus) -> StepReport | MlretrainError:
        """The report of a job that has ended well, else its error.

        What the job itself reported counts more than what the platform says of it.
        """
        report = self._report()
        if report is not None and report.status == "succeeded":
            return report
        if status.state == "succeeded":
            return ContractError("the job ended well but left no report that says so", where=self.where)
        reason = status.reason or f"the job is {status.state}"
        stopped = status.state == "cancelled" or reason.startswith("timed out")
        if report is not None and report.attempt == self.record.number and report.error and not stopped:
            return from_wire({**report.error, "where": report.error.get("where") or self.where})
        error = UserCodeError if status.exit_code == UserCodeError.exit_code else TransientError
        return error(f"job {self.record.name}: {reason}", where=self.where, remedy="See the job's log above.")

    def settle(self) -> None:
        """Let the next job start: what this one ended with is known where it must be."""
        self._remember(replace(self.record, reported=True))

    def cancel(self) -> None:
        """Stop the job, if there is one."""
        if self._record is not None:
            self.backend.cancel(self._record.handle)

    def _start(self, last: JobRecord | None) -> JobRecord:
        number = last.number + 1 if last else 1
        name = f"{self.request.job}-{number}"
        record = JobRecord(
            backend=self.backend_name,
            name=name,
            handle=self.backend.submit(self.spec(name, number)),
            number=number,
            try_number=self.try_number,
        )
        self._remember(record)
        return record

    def _remember(self, record: JobRecord) -> None:
        self._record = record
        data = wire.to_wire(record)
        self.state.set(self._state_key, data, retention=KEPT)
        self.store.write(f"{self.prefix}/{JOB_FILE}", wire.pretty(data))

    def _recall(self) -> JobRecord | None:
        data = self.state.get(self._state_key) or read_record(self.store, self.prefix)
        return wire.from_wire(JobRecord, data) if data else None

    @property
    def _state_key(self) -> str:
        return f"job:{self.request.job}"

    def _report(self) -> StepReport | None:
        path = f"{self.prefix}/{REPORT_FILE}"
        where = join_uri(self.store.root_uri, path)
        try:
            report = parse_report(self.store.read(path), where)
        except NotFound:
            return None
        if report.key != self.request.key:
            raise ContractError("the report is another request's", where=where)
        return report


def read_record(store: ArtifactStore, prefix: str) -> Mapping[str, Any] | None:
    """The record of the last job of the request in ``prefix``; ``None`` if there was none."""
    try:
        return dict(json.loads(store.read(f"{prefix}/{JOB_FILE}")))
    except NotFound:
        return None
