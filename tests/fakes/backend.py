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


@dataclass
class FakeBackend:
    """Runs ``work[step]`` for each job and reports what it returns.

    :param endings: for the next jobs, in order: an error to report, or a status without any report.
    """

    work: dict[str, Work] = field(default_factory=dict)
    endings: list[StepReport | JobStatus] = field(default_factory=list)
    log: str = ""
    jobs: list[JobSpec] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def submit(self, spec: JobSpec) -> str:
        self.jobs.append(spec)
        self._status = self._end(spec)
        return spec.name

    def status(self, handle: str) -> JobStatus:
        return self._status

    def logs(self, handle: str, offset: int) -> tuple[str, int]:
        return self.log[offset : offset + 7], min(offset + 7, len(self.log))

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)

    def _end(self, spec: JobSpec) -> JobStatus:
        ending = self.endings.pop(0) if self.endings else None
        if isinstance(ending, JobStatus):
            return ending
        request = parse_request(read_uri(spec.request_uri), spec.request_uri)
        report = ending or StepReport(
            key=request.key,
            status="succeeded",
            exit_code=0,
            result=dict(self.work[request.step](request)) if request.step in self.work else {},
        )
        open_store(request.output_uri).write(REPORT_FILE, pretty(report))
        state = "succeeded" if report.exit_code == 0 else "failed"
        return JobStatus(state=state, exit_code=report.exit_code)  # type: ignore[arg-type]
