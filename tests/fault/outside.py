"""The world outside Airflow: a platform that runs jobs for a while, and a store that may be away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mlretrain.errors import InvalidInput, MlretrainError, TransientError, UserCodeError
from mlretrain.ports import JobSpec, JobState, JobStatus
from mlretrain.runtime.contract import REPORT_FILE, StepReport, parse_request
from mlretrain.wire import pretty
from tests.fakes.memory_store import MemoryStore
from tests.fault.hub import Hub

Ending = Literal["well", "killed", "lost", "user error", "invalid input"]
ROOT = "memory://artifacts"
PENDING_S, GRACE_S, LINE_S, REPORT_S = 3.0, 4.0, 2.0, 1.5
LINES_AT_ONCE = 4
T = TypeVar("T")


class Outage:
    """Whether something does not answer now."""

    def __init__(self, hub: Hub, what: str) -> None:
        self.hub = hub
        self.until = 0.0
        self.happened = False
        self._what = what

    def begin(self, seconds: float) -> None:
        self.until = max(self.until, self.hub.now + seconds)
        self.happened = True

    @property
    def now(self) -> bool:
        return self.hub.now < self.until

    def call(self, name: str, work: Callable[[], T]) -> T:
        """Do it, unless away; anything may happen just before and just after."""
        self.hub.point(f"{self._what}.{name} asked")
        if self.now:
            raise TransientError(f"the {self._what} is away")
        done = work()
        self.hub.point(f"{self._what}.{name} done")
        return done


class FlakyStore:
    """An artifact store behind a network."""

    root_uri = ROOT

    def __init__(self, hub: Hub) -> None:
        self.kept = MemoryStore(ROOT)
        self.outage = Outage(hub, "store")

    def read(self, path: str) -> bytes:
        return self.outage.call(f"read {_name(path)}", lambda: self.kept.read(path))

    def write(self, path: str, data: bytes) -> None:
        self.outage.call(f"write {_name(path)}", lambda: self.kept.write(path, data))

    def create(self, path: str, data: bytes) -> bool:
        return self.outage.call(f"create {_name(path)}", lambda: self.kept.create(path, data))

    def list(self, prefix: str) -> list[str]:
        return self.outage.call("list", lambda: self.kept.list(prefix))


def _name(path: str) -> str:
    name = path.rpartition("/")[2]
    return "log.json" if name.endswith(".log.json") else name


@dataclass
class Job:
    """One job as the platform knows it; times are the simulation's seconds."""

    spec: JobSpec
    number: int
    began: float
    ends: float
    ending: Ending
    state: JobState = "pending"
    exit_code: int | None = None
    cancelled_at: float | None = None
    ended: float | None = None

    def lines(self, now: float) -> list[str]:
        until = min(now, self.ended if self.ended is not None else now)
        return [f"job {self.number} line {n}" for n in range(int(max(0.0, until - self.began) / LINE_S))]


class Platform:
    """A backend whose jobs take simulated time.

    :param endings: of the first, second, … job; later ones end well.
    """

    remote = True

    def __init__(self, hub: Hub, store: FlakyStore, endings: list[Ending], takes_s: float) -> None:
        self.jobs: dict[str, Job] = {}
        self.violations: list[str] = []
        self.outage = Outage(hub, "backend")
        self._hub = hub
        self._store = store
        self._endings = endings
        self._takes_s = takes_s

    @property
    def active(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.ended is None]

    def submit(self, spec: JobSpec) -> str:
        return self.outage.call("submit", lambda: self._submit(spec))

    def status(self, handle: str) -> JobStatus:
        return self.outage.call("status", lambda: self._status(handle))

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        return self.outage.call("logs", lambda: self._logs(handle, cursor))

    def cancel(self, handle: str) -> None:
        self.outage.call("cancel", lambda: self._cancel(handle))

    def kill_one(self) -> None:
        """The platform takes a job's machine away."""
        for job in self.active:
            self._end(job, "failed", 137)

    def _submit(self, spec: JobSpec) -> str:
        if spec.name in self.jobs:
            return spec.name
        if self.active:
            self.violations.append(f"{spec.name} began beside {[job.spec.name for job in self.active]}")
        if any(job.state == "succeeded" for job in self.jobs.values()):
            self.violations.append(f"{spec.name} began after a job had succeeded")
        number = len(self.jobs) + 1
        if not spec.name.endswith(f"-{number}"):
            self.violations.append(f"job {number} is called {spec.name}")
        ending = self._endings.pop(0) if self._endings else "well"
        now = self._hub.now
        job = Job(spec, number, now + PENDING_S, now + PENDING_S + self._takes_s, ending)
        self.jobs[spec.name] = job
        self._hub.at(job.began, lambda: self._begin(job))
        self._hub.at(job.ends, lambda: self._finish(job))
        return spec.name

    def _begin(self, job: Job) -> None:
        if job.ended is None:
            job.state = "running"

    def _finish(self, job: Job) -> None:
        """The job's work is over: it reports, and a moment later its process ends."""
        if job.ended is not None:
            return
        if job.ending in ("killed", "lost"):
            self._end(job, "failed" if job.ending == "killed" else "lost", 137)
        elif self._store.outage.now:
            self._end(job, "failed", TransientError.exit_code)
        else:
            code = self._report(job)
            state: JobState = "failed" if code else "succeeded"
            self._hub.at(self._hub.now + REPORT_S, lambda: self._end(job, state, code))

    def _report(self, job: Job) -> int:
        prefix = job.spec.request_uri.removeprefix(ROOT + "/").rpartition("/")[0]
        request = parse_request(self._store.kept.read(f"{prefix}/request.json"), prefix)
        errors: dict[str, MlretrainError] = {
            "user error": UserCodeError("ValueError: no"),
            "invalid input": InvalidInput("no rows"),
        }
        error = errors.get(job.ending)
        report = StepReport(
            key=request.key,
            status="failed" if error else "succeeded",
            exit_code=error.exit_code if error else 0,
            result={} if error else {"what": request.config["what"], **request.frozen},
            error=error.to_wire() if error else None,
            attempt=int(job.spec.env["MLRETRAIN_ATTEMPT"]),
        )
        self._store.kept.write(f"{prefix}/{REPORT_FILE}", pretty(report))
        return report.exit_code

    def _end(self, job: Job, state: JobState, code: int | None) -> None:
        if job.ended is None:
            job.state, job.exit_code, job.ended = state, code, self._hub.now

    def _status(self, handle: str) -> JobStatus:
        job = self.jobs.get(handle)
        return JobStatus(state="lost") if job is None else JobStatus(state=job.state, exit_code=job.exit_code)

    def _logs(self, handle: str, cursor: str) -> tuple[str, str]:
        start = int(cursor or 0)
        lines = self.jobs[handle].lines(self._hub.now)[start : start + LINES_AT_ONCE]
        return "".join(f"{line}\n" for line in lines), str(start + len(lines)) if lines else cursor

    def _cancel(self, handle: str) -> None:
        job = self.jobs.get(handle)
        if job is not None and job.ended is None and job.cancelled_at is None:
            job.cancelled_at = self._hub.now
            self._hub.at(self._hub.now + GRACE_S, lambda: self._end(job, "cancelled", 143))


class TaskLog:
    """The task's log; counts the jobs' lines."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()
        self.text: list[str] = []

    def info(self, event: str, *args: Any, **_: Any) -> None:
        if event == "%s":
            self.lines[str(args[0])] += 1
        self.text.append(event % args if args else event)

    debug = warning = error = exception = info
