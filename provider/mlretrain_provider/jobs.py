"""One request and the jobs that answer it: started once, found again by whoever comes next, cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
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
from mlretrain_provider.backends import open_backend

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
    :param follower: the task's last try that looked at it.
    :param reported: whether its end has become a task's failure.
    :param options: the backend's, so that whoever finds the record can reach the job.
    """

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dag_id: str
    name: str
    handle: str
    number: int
    try_number: int
    follower: int
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
    backend_options: Mapping[str, Any]
    dag_id: str
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

        A job that was cancelled for an earlier try, because the task was cleared, makes room for the next; so
        does one on another backend, because the stack was changed.
        """
        known = self.recall()
        if known and not known.reported and known.backend != self.backend_name:
            known = self._leave(known)
        record = self._follow(known) if known and not known.reported else self._start(known)
        status = self.backend.status(record.handle)
        if self.superseded(status):
            status = self.backend.status(self._start(record).handle)
        return status

    def superseded(self, status: JobStatus) -> bool:
        """Whether the job was cancelled for an earlier try: then :meth:`look` starts the next one."""
        return status.state == "cancelled" and self.record.try_number != self.try_number

    def recall(self) -> JobRecord | None:
        """The request's last job, if there was one."""
        if self._record is None:
            data = self.state.get(self._state_key) or read_record(self.store, self.prefix)
            self._record = wire.from_wire(JobRecord, data) if data else None
        return self._record

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
        self._record = replace(self.record, reported=True)
        self._tell_airflow()
        with suppress(TransientError):  # at worst an Airflow that was rebuilt reports this end again
            self._tell_store()

    def cancel(self) -> None:
        """Stop the job, if there is one."""
        if self._record is not None:
            self.backend.cancel(self._record.handle)

    def _start(self, last: JobRecord | None) -> JobRecord:
        number = last.number + 1 if last else 1
        name = f"{self.request.job}-{number}"
        self._record = JobRecord(
            backend=self.backend_name,
            options=self.backend_options,
            dag_id=self.dag_id,
            name=name,
            handle=self.backend.submit(self.spec(name, number)),
            number=number,
            try_number=self.try_number,
            follower=self.try_number,
        )
        # The store first: without its copy nobody could cancel the job after the task's last try.
        self._tell_store()
        self._tell_airflow()
        return self._record

    def _follow(self, record: JobRecord) -> JobRecord:
        """Say that this try goes on with the job of an earlier one."""
        if record.follower != self.try_number:
            self._record = record = replace(record, follower=self.try_number)
            self._tell_store()
            self._tell_airflow()
        return record

    def _leave(self, record: JobRecord) -> JobRecord:
        """Cancel the job where the pipeline ran before its stack was changed."""
        open_backend(record.backend, record.options).cancel(record.handle)
        return replace(record, reported=True)

    def _tell_airflow(self) -> None:
        self.state.set(self._state_key, wire.to_wire(self.record), retention=KEPT)

    def _tell_store(self) -> None:
        self.store.write(f"{self.prefix}/{JOB_FILE}", wire.pretty(self.record))

    @property
    def _state_key(self) -> str:
        return f"job:{self.request.job}"

    def _report(self) -> StepReport | None:
        report = read_report(self.store, self.prefix)
        if report is not None and report.key != self.request.key:
            where = join_uri(self.store.root_uri, f"{self.prefix}/{REPORT_FILE}")
            raise ContractError("the report is another request's", where=where)
        return report


def read_record(store: ArtifactStore, prefix: str) -> Mapping[str, Any] | None:
    """The record of the last job of the request in ``prefix``; ``None`` if there was none."""
    try:
        return dict(json.loads(store.read(f"{prefix}/{JOB_FILE}")))
    except NotFound:
        return None


def read_report(store: ArtifactStore, prefix: str) -> StepReport | None:
    """The last report of the request in ``prefix``; ``None`` if there is none."""
    path = f"{prefix}/{REPORT_FILE}"
    try:
        return parse_report(store.read(path), join_uri(store.root_uri, path))
    except NotFound:
        return None


def cancel_jobs(store: ArtifactStore, folder: str, dag_id: str) -> list[str]:
    """Cancel what a run has left behind; the names of the jobs that still ran.

    Airflow tells nobody that a deferred task was killed while no triggerer ran, nor does it ask a worker that
    died on its task's last try: their jobs are found by their records.

    :param folder: the run's folder in the store, with ``/`` at its end.
    :param dag_id: whose jobs; DAGs of one pipeline may have runs of the same id.
    :raises MlretrainError: a backend did not answer or refused; the other jobs were cancelled.
    """
    cancelled: list[str] = []
    failures: list[MlretrainError] = []
    for path in store.list(folder):
        prefix, _, name = path.rpartition("/")
        record = wire.from_wire(JobRecord, read_record(store, prefix) or {}) if name == JOB_FILE else None
        if record is None or record.reported or record.dag_id != dag_id:
            continue
        report = read_report(store, prefix)
        if report is not None and report.status == "succeeded":
            continue
        try:
            backend = open_backend(record.backend, record.options)
            if not backend.status(record.handle).ended:
                backend.cancel(record.handle)
                cancelled.append(record.name)
        except MlretrainError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return cancelled
