"""A schedule of faults, what it does to one task with a job, and what must hold afterwards."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import structlog
from airflow.sdk import DAG
from airflow.sdk._shared.observability.metrics import stats
from airflow.sdk.definitions._internal import logging_mixin as sdk_logging
from airflow.sdk.execution_time import task_runner
from airflow.utils.log import logging_mixin

from mlretrain.runtime.contract import parse_request
from mlretrain_provider import jobs
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.jobs import JOB_FILE
from mlretrain_provider.operators import pipeline, step
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.triggers import job as trigger
from mlretrain_provider.watch import JobWatch
from tests.fault.airflow_model import FINAL, RECORD, RUN_ID, TASK, Airflow
from tests.fault.hub import Hub, Process
from tests.fault.outside import GRACE_S, ROOT, Ending, FlakyStore, Platform, TaskLog

SECRET = "hunter2-hunter2"
TAKES_S, LIMIT_S, SETTLE_S = 60.0, 20_000.0, 2 * GRACE_S
MANY, FEW = 40, 1
FAULTS = (
    "kill worker",
    "kill triggerer",
    "freeze triggerer",
    "restart scheduler",
    "kill scheduler and workers",
    "rebuild Airflow",
    "kill job",
    "backend away",
    "store away",
)
WISHES = ("mark failed", "mark success", "clear", "delete run")
ENDINGS: tuple[Ending, ...] = ("killed", "lost", "user error")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens, when a point is passed for the ``nth`` time, or at a time."""

    what: str
    point: str | None = None
    nth: int = 1
    at: float = 0.0
    seconds: float = 40.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Everything that tells one simulation from another."""

    seed: int = 0
    deferrable: bool = True
    retries: int = MANY
    endings: tuple[Ending, ...] = ()
    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, seed: int, points: Mapping[bool, list[str]]) -> Schedule:
        """The schedule of a seed; ``points`` are those that a task passes undisturbed."""
        random = Random(seed)
        deferrable = random.random() < 0.7
        names = FAULTS + (WISHES if random.random() < 0.4 else ())
        endings = [random.choice(ENDINGS) for _ in range(random.choice((0, 0, 0, 1, 2)))]
        endings += ["invalid input"] if random.random() < 0.1 else []
        return cls(
            seed=seed,
            deferrable=deferrable,
            retries=MANY if random.random() < 0.8 else FEW,
            endings=tuple(endings),
            faults=tuple(_fault(random, names, points[deferrable]) for _ in range(random.randint(1, 4))),
        )


def _fault(random: Random, names: tuple[str, ...], points: list[str]) -> Fault:
    return Fault(
        what=random.choice(names),
        point=random.choice(points) if random.random() < 0.7 else None,
        nth=random.choice((1, 1, 2, 3)),
        at=random.random() * 2 * TAKES_S,
        seconds=random.choice((3.0, 20.0, 40.0, 200.0)),
    )


class MeasureOperator(StepOperator):
    """A step whose facts differ whenever somebody decides them."""

    step = "measure"
    uses_mlflow = True
    facts: Iterator[int] = itertools.count(1)

    def config(self, run: Any, context: Any) -> dict[str, Any]:
        return {"what": run.run_id}

    def frozen(self, run: Any, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"fact": next(type(self).facts)}


@dataclass
class World:
    """One simulation."""

    schedule: Schedule
    passed: Counter[str] = field(default_factory=Counter)
    struck: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.schedule.seed)
        self.hub = Hub(self.random)
        self.log = TaskLog()
        self.store = FlakyStore(self.hub)
        self.platform = Platform(self.hub, self.store, list(self.schedule.endings), TAKES_S)
        self.airflow = Airflow(self.hub, self.dag, self.schedule.retries, self.log)
        self.hub.on_point = self._pass
        for fault in self.schedule.faults:
            if fault.point is None:
                self.hub.at(fault.at, functools.partial(self._strike, fault))

    def dag(self) -> DAG:
        """The DAG as a new process builds it."""
        common = {"pipeline": "churn", "artifacts_uri": ROOT}
        with DAG("churn.retrain", default_args=common) as dag:
            MeasureOperator(
                task_id=TASK, backend="simulated", deferrable=self.schedule.deferrable, poll_s=10.0
            )
            RecordRunOperator(task_id=RECORD)
        return dag

    def run(self) -> World:
        """Let everything happen until nothing more will."""
        with self._simulated():
            last = max((fault.at for fault in self.schedule.faults if fault.point is None), default=0.0)
            ended = self.hub.run(lambda: self.hub.now > last and self.airflow.over, LIMIT_S)
            self.hub.run(lambda: False, self.hub.now + SETTLE_S)
            self.hub.close()
        if not ended:
            states = {row.task_id: row.state for row in self.airflow.rows.values()}
            self.airflow.violations.append(f"it never ended: {states}")
        return self

    def _pass(self, name: str, process: Process) -> None:
        self.passed[name] += 1
        for fault in self.schedule.faults:
            if fault.point == name and fault.nth == self.passed[name]:
                self.struck.append(f"{self.hub.now:.1f} s: {fault.what} at {name}")
                self._act(fault)

    def _strike(self, fault: Fault) -> None:
        self.struck.append(f"{self.hub.now:.1f} s: {fault.what}")
        self._act(fault)

    def _act(self, fault: Fault) -> None:
        airflow, seconds = self.airflow, fault.seconds
        acts: dict[str, Callable[[], None]] = {
            "kill worker": airflow.kill_worker,
            "kill triggerer": airflow.kill_triggerer,
            "freeze triggerer": lambda: airflow.freeze_triggerer(seconds),
            "restart scheduler": lambda: airflow.restart_scheduler(seconds, with_workers=False),
            "kill scheduler and workers": lambda: airflow.restart_scheduler(seconds, with_workers=True),
            "rebuild Airflow": airflow.rebuild,
            "kill job": self.platform.kill_one,
            "backend away": lambda: self.platform.outage.begin(seconds),
            "store away": lambda: self.store.outage.begin(seconds),
            "mark failed": lambda: airflow.mark("failed"),
            "mark success": lambda: airflow.mark("success"),
            "clear": airflow.clear,
            "delete run": airflow.delete_run,
        }
        acts[fault.what]()

    @contextmanager
    def _simulated(self) -> Iterator[None]:
        """Clocks, waiting, places and logs of this world instead of the real ones."""
        clock = lambda: self.hub.now  # noqa: E731
        waiting = SimpleNamespace(sleep=self._sleep, to_thread=self._to_thread)
        time = SimpleNamespace(sleep=self.hub.sleep, monotonic=clock)
        log = classmethod(lambda cls, obj, clazz: self.log)
        places: list[tuple[Any, str, Any]] = [
            *((each, "open_backend", lambda *_: self.platform) for each in (step, trigger, jobs)),
            *((each, "open_store", lambda *_: self.store) for each in (pipeline, trigger)),
            *((each, "time", time) for each in (step, trigger)),
            (step, "JobWatch", functools.partial(JobWatch, clock=clock)),
            (trigger, "asyncio", waiting),
            (task_runner, "SUPERVISOR_COMMS", self.airflow.api),
            (MLflowHook, "env", lambda _: {"MLFLOW_TRACKING_PASSWORD": SECRET}),
            (sdk_logging.LoggingMixin, "_get_log", log),
            (logging_mixin.LoggingMixin, "_get_log", log),
            (structlog, "get_logger", lambda *_: self.log),
            (task_runner, "set_current_context", nullcontext),
            (stats, "incr", lambda *_, **__: None),
        ]
        patches = [mock.patch.object(place, name, new, create=True) for place, name, new in places]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in reversed(patches):
                each.stop()

    async def _sleep(self, seconds: float) -> None:
        self.hub.sleep(seconds)

    async def _to_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do it in a thread, which goes on when the one who waits for it is cancelled."""
        waits, found = self.hub.current, {}

        def run() -> None:
            try:
                found["result"] = work(*args)
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                found["error"] = error
            if found.get("waiting"):
                self.hub.wake(waits)

        self.hub.spawn(waits.kind, run, parent=waits)
        while not {"result", "error"} & set(found):
            found["waiting"] = True
            try:
                self.hub.wait()
            finally:
                found["waiting"] = False
        if "error" in found:
            raise found["error"]
        return found["result"]

    # What must hold

    def violations(self) -> list[str]:
        """What does not hold, in sentences."""
        return [
            *self.airflow.violations,
            *self.platform.violations,
            *self._orphans(),
            *self._result(),
            *self._lines(),
            *self._secrets(),
        ]

    def _orphans(self) -> Iterator[str]:
        records = [data for path, data in self.store.kept.objects.items() if path.endswith(JOB_FILE)]
        for job in self.platform.active:
            if self.schedule.retries == FEW and not any(job.spec.name.encode() in each for each in records):
                continue  # its worker died, or the store went away, as it was started, on the last try
            yield f"orphan: {job.spec.name} runs though the task is {self.airflow.task.state}"

    def _result(self) -> Iterator[str]:
        state, jobs = self.airflow.task.state, list(self.platform.jobs.values())
        well = [job for job in jobs if job.state == "succeeded"]
        invalid = [job for job in jobs if job.exit_code == 11]
        if state not in FINAL:
            yield f"the task is {state}"
        if state == "success" and not self.airflow.touched:
            (request,) = (each for each in self.store.kept.objects if each.endswith("request.json"))
            frozen = parse_request(self.store.kept.objects[request], request).frozen
            if self.airflow.result != {"what": RUN_ID, **frozen}:
                yield f"another result: {self.airflow.result}"
        if not self.airflow.touched:
            if invalid and invalid[0] is not jobs[-1] and "rebuild" not in " ".join(self.struck):
                yield "another job for an invalid input"
            if state == "success" and any(job.state == "cancelled" for job in jobs):
                yield "a job was cancelled though nobody asked for it"
            if state == "success" and not well:
                yield "success without a job that succeeded"
            if state == "failed" and self.schedule.retries == MANY and not invalid:
                yield "it failed, though a retry would have helped"

    def _lines(self) -> Iterator[str]:
        disturbed = {"kill", "freeze", "rebuild", "away", "mark", "clear", "delete"}
        calm = not any(word in " ".join(self.struck) for word in disturbed - {"kill"})
        calm = calm and not any(f"kill {each}" in " ".join(self.struck) for each in ("w", "t", "s"))
        for job in self.platform.jobs.values():
            told = job.state == "succeeded" and not self.airflow.touched
            told = told and self.airflow.task.state == "success"
            for line in job.lines(self.hub.now):
                count = self.log.lines[line]
                if told and count == 0:
                    yield f"not in the log: {line}"
                if calm and count > 1:
                    yield f"{count} times in the log: {line}"

    def _secrets(self) -> Iterator[str]:
        kept = [data.decode() for data in self.store.kept.objects.values()]
        sent = [str(each) for each in self.airflow.api.sent if type(each).__name__ != "MaskSecret"]
        if any(SECRET in text for text in [*kept, *sent, *self.log.text]):
            yield "a secret got out"
