"""Airflow as far as one task needs it: scheduler, workers and triggerers that die, and a user who interferes.

What a worker and a trigger do is the real thing; who starts and stops them when is modelled here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.execution_time import comms
from airflow.sdk.serde import deserialize, serialize

from mlretrain_provider.triggers.job import JobTrigger
from tests.fakes.airflow_harness import DagRunHarness, Supervisor
from tests.fault.hub import Hub, Process
from tests.fault.outside import TaskLog

RUN_ID, TASK, RECORD = "run-1", "measure", "record"
FINAL = ("success", "failed", "skipped", "removed")
TICK_S, RETRY_DELAY_S, HEARTBEAT_S, TIMEOUT_S, GRACE_S = 1.0, 5.0, 5.0, 30.0, 12.0


@dataclass
class Trigger:
    """A row of the table of triggers."""

    id: int
    kwargs: dict[str, Any]
    next_method: str
    next_kwargs: dict[str, Any]
    triggerer: Triggerer | None = None


@dataclass(eq=False)
class Triggerer:
    """One triggerer process."""

    alive: bool = True
    frozen_until: float = 0.0
    heartbeat: float = 0.0
    running: dict[int, Process] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Row:
    """A task instance, with the worker process that runs it."""

    task_id: str
    retries: int
    max_tries: int
    state: str = "none"
    try_number: int = 0
    due: float = 0.0
    trigger: Trigger | None = None
    server: dict[str, Any] = field(default_factory=dict)
    process: Process | None = None
    operator: Any = None

    def schedule(self, due: float = 0.0) -> None:
        """Begin the next try."""
        self.state, self.due, self.server, self.trigger = "scheduled", due, {}, None
        self.try_number += 1


class Api(Supervisor):
    """What workers and triggers ask of Airflow; the asker may be one that Airflow has given up."""

    def __init__(self, airflow: Airflow) -> None:
        super().__init__()
        self._airflow = airflow

    def send(self, msg: Any) -> Any:
        name = f"airflow.{type(msg).__name__}"
        self._airflow.hub.point(f"{name} asked")
        answer = super().send(msg)
        self._airflow.heard(msg)
        self._airflow.hub.point(f"{name} done")
        return answer

    def _on_GetTaskStates(self, msg: comms.GetTaskStates) -> comms.TaskStatesResult:
        rows = self._airflow.rows.values()
        states = {row.task_id: row.state for row in rows if row.state != "removed"}
        return comms.TaskStatesResult(task_states=dict.fromkeys(msg.run_ids or [], states))


class Airflow:
    """One DAG run with a task and its teardown.

    :param make_dag: builds the DAG anew, as each worker process does.
    """

    def __init__(self, hub: Hub, make_dag: Callable[[], DAG], retries: int, log: TaskLog) -> None:
        self.hub = hub
        self.log = log
        self.api = Api(self)
        self.violations: list[str] = []
        self.triggerers = [Triggerer(), Triggerer()]
        self.down_until = 0.0
        self.touched = False
        self._make_dag = make_dag
        self._retries = retries
        self._ids: dict[str, uuid.UUID] = {}
        self._triggers: dict[int, Trigger] = {}
        self._fresh()
        hub.at(0.0, self._tick)

    def _fresh(self) -> None:
        self.rows = {
            TASK: Row(TASK, self._retries, self._retries),
            RECORD: Row(RECORD, 50, 50),
        }
        self.rows[TASK].schedule()

    @property
    def task(self) -> Row:
        return self.rows[TASK]

    @property
    def over(self) -> bool:
        """Whether everything has been done that Airflow will do."""
        alive = [row.process for row in self.rows.values() if row.process and row.process.alive]
        alive += [each for triggerer in self.triggerers for each in triggerer.running.values() if each.alive]
        return not alive and all(row.state in FINAL for row in self.rows.values())

    @property
    def result(self) -> Any:
        return deserialize(self.api.xcoms.get((TASK, "return_value")))

    # The scheduler

    def _tick(self) -> None:
        if self.hub.now >= self.down_until:
            for row in self.rows.values():
                self._advance(row)
        for triggerer in self.triggerers:
            if triggerer.alive and triggerer.frozen_until <= self.hub.now:
                self._look_after(triggerer)
        self.hub.at(self.hub.now + TICK_S, self._tick)

    def _advance(self, row: Row) -> None:
        gone = row.process is None or not row.process.alive
        if row.state == "none" and self.task.state in FINAL:
            row.schedule()
        if row.state == "running" and gone and row.process is not None:
            if self.hub.now - (row.process.ended_at or 0.0) > TIMEOUT_S:
                self._fail(row)
        elif row.state == "restarting" and gone:
            row.schedule()
        elif row.state == "scheduled" and self.hub.now >= row.due and gone:
            self._start(row)

    def _fail(self, row: Row) -> None:
        if row.try_number <= row.max_tries:
            row.schedule(self.hub.now + RETRY_DELAY_S)
        else:
            row.state = "failed"

    def _start(self, row: Row) -> None:
        row.state = "running"
        server = row.server

        def work() -> None:
            dag = self._make_dag()
            row.operator = dag.get_task(row.task_id)
            run = DagRunHarness(dag, run_id=RUN_ID)
            run.supervisor, run._ids = self.api, self._ids
            run.run(
                row.task_id, try_number=row.try_number, retries_left=row.try_number <= row.max_tries, **server
            )

        row.process = self.hub.spawn("worker" if row.task_id == TASK else "record", work)

    def heard(self, msg: Any) -> None:
        """A process says how its try has ended; one that was given up meanwhile is not believed."""
        row = next((row for row in self.rows.values() if row.process is self.hub.current), None)
        if row is None or row.state != "running":
            return
        match msg:
            case comms.SucceedTask():
                row.state = "success"
            case comms.RetryTask():
                row.schedule(self.hub.now + RETRY_DELAY_S)
            case comms.TaskState():
                row.state = str(getattr(msg.state, "value", msg.state))
            case comms.DeferTask():
                sent: Any = msg.trigger_kwargs
                trigger_kwargs: Any = deserialize(sent)
                trigger = Trigger(
                    len(self.api.sent), trigger_kwargs, msg.next_method, dict(msg.next_kwargs or {})
                )
                row.state, row.trigger = "deferred", trigger
                self._triggers[trigger.id] = trigger

    # The triggerers

    def _look_after(self, triggerer: Triggerer) -> None:
        triggerer.heartbeat = self.hub.now
        for trigger in self._triggers.values():
            owner = trigger.triggerer
            if owner is None or (owner is not triggerer and self.hub.now - owner.heartbeat > TIMEOUT_S):
                trigger.triggerer = triggerer
            if trigger.triggerer is triggerer and trigger.id not in triggerer.running:
                triggerer.running[trigger.id] = self._run_trigger(trigger)
        for number, process in triggerer.running.items():
            known = self._triggers.get(number)
            if (known is None or known.triggerer is not triggerer) and number not in triggerer.told:
                triggerer.told.add(number)
                if process.alive:
                    process.interrupt(asyncio.CancelledError())

    def _run_trigger(self, trigger: Trigger) -> Process:
        try_number = self.task.try_number

        def work() -> None:
            made: Any = JobTrigger(**trigger.kwargs)
            made._task_instance = SimpleNamespace(
                dag_id="churn.retrain", task_id=TASK, run_id=RUN_ID, map_index=-1, try_number=try_number
            )
            try:
                event = completed(anext(aiter(made.run())))
                self.hub.point("event asked")
                self._fire(trigger, event.payload)
            except asyncio.CancelledError:
                try:
                    completed(made.on_kill())
                except Exception as error:  # noqa: BLE001 - as the triggerer does
                    self.log.warning("on_kill: %s", error)

        return self.hub.spawn("trigger", work)

    def _fire(self, trigger: Trigger, payload: Any) -> None:
        row = self.task
        if self._triggers.pop(trigger.id, None) is None or row.trigger is not trigger:
            return
        row.state, row.trigger, row.due = "scheduled", None, 0.0
        row.server = {
            "next_method": trigger.next_method,
            "next_kwargs": {**trigger.next_kwargs, **_event(payload)},
        }

    # What may happen

    def kill_worker(self) -> None:
        for row in self.rows.values():
            if row.process is not None:
                row.process.kill()

    def kill_triggerer(self) -> None:
        for each in self.triggerers:
            each.alive = False
            for process in each.running.values():
                process.kill()
        self.triggerers = [Triggerer()]

    def freeze_triggerer(self, seconds: float) -> None:
        """The triggerers that have something to do stand still; there is always another one."""
        for each in self.triggerers:
            if any(process.alive for process in each.running.values()):
                each.frozen_until = self.hub.now + seconds
                for process in each.running.values():
                    for part in (process, *process.children):
                        part.frozen_until = each.frozen_until
        self.triggerers.append(Triggerer())

    def restart_scheduler(self, seconds: float, *, with_workers: bool) -> None:
        self.down_until = self.hub.now + seconds
        if with_workers:
            self.kill_worker()

    def rebuild(self) -> None:
        """Airflow's database is lost, with the state store in it, and all of its processes."""
        self.kill_worker()
        self.kill_triggerer()
        self.api.store.clear()
        self.api.xcoms.clear()
        self._triggers.clear()
        self._fresh()

    def mark(self, state: str) -> None:
        """The user says how the task has ended."""
        self.touched = True
        if self.task.state in FINAL:
            return
        self._forget_trigger()
        was, self.task.state = self.task.state, state
        if was == "running":
            self._terminate(self.task)

    def clear(self) -> None:
        """The user wants the task to run again, and what comes after it."""
        self.touched = True
        row = self.task
        if row.state == "removed":
            return
        self._forget_trigger()
        was = row.state
        row.max_tries = row.try_number + row.retries
        if was == "running":
            row.state = "restarting"
            self._terminate(row)
        elif was != "restarting":
            row.schedule()
        if self.rows[RECORD].state == "running":
            self._terminate(self.rows[RECORD])
        self.rows[RECORD].state = "none"

    def delete_run(self) -> None:
        """Delete the run while its task is deferred; afterwards only the trigger can tell the platform."""
        trigger = self.task.trigger
        owner = trigger.triggerer if trigger else None
        if trigger is None or owner is None or owner.frozen_until > self.hub.now:
            return
        process = owner.running.get(trigger.id)
        if process is None or not process.alive:
            return
        self.touched = True
        self._forget_trigger()
        for row in self.rows.values():
            was, row.state = row.state, "removed"
            if was == "running":
                self._terminate(row)

    def _forget_trigger(self) -> None:
        if self.task.trigger is not None:
            self._triggers.pop(self.task.trigger.id, None)
            self.task.trigger = None

    def _terminate(self, row: Row) -> None:
        """The worker learns it by its next heartbeat and stops the process: SIGTERM, SIGKILL."""
        process = row.process
        if process is None:
            return

        def ask() -> None:
            process.signal(lambda: row.operator.on_kill() if row.operator else None)

        asked_at = self.hub.now + self.hub.random.random() * HEARTBEAT_S
        self.hub.at(asked_at, ask)
        self.hub.at(asked_at + GRACE_S, process.kill)


def _event(payload: Any) -> dict[str, Any]:
    found: Any = serialize({"event": payload})
    return dict(found)


def completed(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine all of whose waiting is the hub's."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits for something real")
