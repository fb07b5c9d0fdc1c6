"""A backend whose jobs end as the test says, at once, with a report in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime.contract import REPORT_FILE, StepReport, StepRequest, parse_request
from mlretrain.runtime.store import open_store, read_uri
from mlretrain.wire import pretty

Work = Callable[[StepRequest], Mapping[str, Any]]
RUNNING = JobStatus(state="running")


@dataclass
class FakeBackend:
    """Runs ``work[step]`` for each job and reports what it returns.

    :param endings: for the next jobs, in order: an error to report, a status without any report, or
        :data:`RUNNING`, for a job that :meth:`end` ends.
    :param log: what every job has written.
    """

    work: dict[str, Work] = field(default_factory=dict)
    endings: list[StepReport | JobStatus] = field(default_factory=list)
    log: str = ""
    remote: bool = False
    jobs: list[JobSpec] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    statuses: dict[str, JobStatus] = field(default_factory=dict)

    def submit(self, spec: JobSpec) -> str:
        if spec.name not in self.statuses:
            self.jobs.append(spec)
            ending = self.endings.pop(0) if self.endings else None
            self.statuses[spec.name] = ending if isinstance(ending, JobStatus) else self._work(spec, ending)
        return spec.name

    def status(self, handle: str) -> JobStatus:
        return self.statuses.get(handle, JobStatus(state="lost"))

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        lines = self.log.splitlines(keepends=True)
        start = int(cursor or 0)
        return "".join(lines[start : start + 2]), str(min(start + 2, len(lines))) if lines[start:] else cursor

    def cancel(self, handle: str) -> None:
        if not self.status(handle).ended:
            self.cancelled.append(handle)
            self.statuses[handle] = JobStatus(state="cancelled", exit_code=143)

    def end(self, name: str | None = None, ending: StepReport | JobStatus | None = None) -> None:
        """End a running job, the last one unless named."""
        spec = next(job for job in reversed(self.jobs) if name in (None, job.name))
        self.statuses[spec.name] = ending if isinstance(ending, JobStatus) else self._work(spec, ending)

    def _work(self, spec: JobSpec, ending: StepReport | None) -> JobStatus:
        request = parse_request(read_uri(spec.request_uri), spec.request_uri)
        report = ending or StepReport(
            key=request.key,
            status="succeeded",
            exit_code=0,
            result=dict(self.work[request.step](request)) if request.step in self.work else {},
            attempt=int(spec.env["MLRETRAIN_ATTEMPT"]),
        )
        open_store(request.output_uri).write(REPORT_FILE, pretty(report))
        return JobStatus(state="failed" if report.exit_code else "succeeded", exit_code=report.exit_code or 0)
