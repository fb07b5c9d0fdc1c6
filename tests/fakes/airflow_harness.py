"""Runs one task as an Airflow worker does, with a supervisor in memory: no API server, no database.

All else is Airflow's own: templates, XComs, skips, deferral, retries, links, the task state store.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import structlog
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import AssetEventResponse, DagRun, TIRunContext
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.serde import deserialize, serialize

RUN_AFTER = datetime(2026, 3, 9, 6, tzinfo=UTC)


@dataclass
class Supervisor:
    """What a worker's supervisor answers, for one DAG run; it survives tasks and their tries."""

    xcoms: dict[tuple[str, str], Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    store: dict[tuple[uuid.UUID, str], Any] = field(default_factory=dict)
    dag_runs: dict[tuple[str, str], comms.TriggerDagRun] = field(default_factory=dict)
    forms: dict[uuid.UUID, comms.CreateHITLDetailPayload] = field(default_factory=dict)
    sent: list[Any] = field(default_factory=list)
    asset_events: list[tuple[str, AssetEventResponse]] = field(default_factory=list)

    def send(self, msg: Any) -> Any:
        self.sent.append(msg)
        answer = getattr(self, f"_on_{type(msg).__name__}", None)
        return answer(msg) if answer else None

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)

    def _on_GetXCom(self, msg: comms.GetXCom) -> comms.XComResult:
        return comms.XComResult(key=msg.key, value=self.xcoms.get((msg.task_id, msg.key)))

    def _on_GetXComSequenceSlice(self, msg: comms.GetXComSequenceSlice) -> comms.XComSequenceSliceResult:
        found = [self.xcoms[msg.task_id, msg.key]] if (msg.task_id, msg.key) in self.xcoms else []
        return comms.XComSequenceSliceResult(root=found)

    def _on_SetXCom(self, msg: comms.SetXCom) -> None:
        self.xcoms[msg.task_id, msg.key] = msg.value

    def _on_DeleteXCom(self, msg: comms.DeleteXCom) -> None:
        self.xcoms.pop((msg.task_id, msg.key), None)

    def _on_GetTaskStateStore(self, msg: comms.GetTaskStateStore) -> Any:
        if (msg.ti_id, msg.key) not in self.store:
            return comms.ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)
        return comms.TaskStateStoreResult(value=self.store[msg.ti_id, msg.key])

    def _on_SetTaskStateStore(self, msg: comms.SetTaskStateStore) -> None:
        self.store[msg.ti_id, msg.key] = msg.value

    def _on_GetTaskStates(self, msg: comms.GetTaskStates) -> comms.TaskStatesResult:
        return comms.TaskStatesResult(task_states={run_id: dict(self.states) for run_id in msg.run_ids or []})

    def _on_TriggerDagRun(self, msg: comms.TriggerDagRun) -> Any:
        if (msg.dag_id, msg.run_id) in self.dag_runs:
            return comms.ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS)
        self.dag_runs[msg.dag_id, msg.run_id] = msg
        return comms.OKResponse(ok=True)

    def _on_CreateHITLDetailPayload(self, msg: comms.CreateHITLDetailPayload) -> Any:
        """A task's form stays as it was first put."""
        return self.forms.setdefault(msg.ti_id, msg)

    def _on_SkipDownstreamTasks(self, msg: comms.SkipDownstreamTasks) -> None:
        for task in msg.tasks:
            self.states[task if isinstance(task, str) else task[0]] = "skipped"

    def _on_ValidateInletsAndOutlets(self, msg: comms.ValidateInletsAndOutlets) -> comms.InactiveAssetsResult:
        return comms.InactiveAssetsResult(inactive_assets=[])

    def _on_GetAssetEventByAssetAlias(self, msg: comms.GetAssetEventByAssetAlias) -> comms.AssetEventsResult:
        found = [event for alias, event in self.asset_events if alias == msg.alias_name]
        found = found if msg.ascending else found[::-1]
        return comms.AssetEventsResult(asset_events=found[: msg.limit])

    def _on_SucceedTask(self, msg: comms.SucceedTask) -> None:
        for event in msg.outlet_events or []:
            if alias := event.get("source_alias_name"):
                self.asset_events.append((alias, _asset_event(event, len(self.asset_events))))

    def _on_GetConnection(self, msg: comms.GetConnection) -> comms.ErrorResponse:
        return comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": msg.conn_id})

    def _on_GetVariable(self, msg: comms.GetVariable) -> comms.ErrorResponse:
        return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": msg.key})


def _asset_event(event: Any, number: int) -> AssetEventResponse:
    """What the API server makes of an event that a task has sent with its success."""
    return AssetEventResponse.model_validate(
        {
            "id": number,
            "timestamp": RUN_AFTER,
            "extra": event["extra"],
            "asset": {**event["dest_asset_key"], "group": "asset"},
            "created_dagruns": [],
        }
    )


@dataclass
class Outcome:
    """How one try of one task ended.

    :param state: ``success``, ``failed``, ``up_for_retry``, ``skipped``, ``deferred``, ``up_for_reschedule``.
    :param result: the task's ``return_value`` XCom.
    :param skipped: the tasks that it skipped.
    :param message: the last message to the supervisor (``DeferTask``, ``SucceedTask``, …).
    """

    state: str
    result: Any
    skipped: list[str]
    message: Any
    error: BaseException | None


class DagRunHarness:
    """One run of a DAG whose tasks are run one by one, in any order, any number of times."""

    def __init__(
        self,
        dag: DAG,
        *,
        run_id: str = "run-1",
        conf: dict[str, Any] | None = None,
        run_after: datetime = RUN_AFTER,
        data_interval: tuple[datetime, datetime] | None = None,
    ) -> None:
        self.dag = dag
        self.supervisor = Supervisor()
        self._ids: dict[str, uuid.UUID] = {}
        start, end = data_interval or (None, None)
        self.dag_run = DagRun.model_validate(
            {
                "dag_id": dag.dag_id,
                "run_id": run_id,
                "logical_date": start,
                "data_interval_start": start,
                "data_interval_end": end,
                "run_after": run_after,
                "start_date": run_after,
                "end_date": None,
                "run_type": "manual",
                "state": "running",
                "conf": conf,
                "consumed_asset_events": [],
                "partition_key": None,
            }
        )

    def run(self, task_id: str, *, try_number: int = 1, retries_left: bool = False, **server: Any) -> Outcome:
        """Run one try of the task; ``server`` is what else the API server would say about it."""
        ti = task_runner.RuntimeTaskInstance.model_construct(
            id=self._ids.setdefault(task_id, uuid.uuid4()),
            task_id=task_id,
            dag_id=self.dag.dag_id,
            run_id=self.dag_run.run_id,
            try_number=try_number,
            dag_version_id=uuid.uuid4(),
            map_index=-1,
            task=self.dag.get_task(task_id),
            bundle_instance=None,
            _ti_context_from_server=TIRunContext(
                dag_run=self.dag_run,
                max_tries=1 if retries_left else 0,
                should_retry=retries_left,
                xcom_keys_to_clear=[key for task, key in self.supervisor.xcoms if task == task_id],
                **server,
            ),
            max_tries=0,
            start_date=self.dag_run.run_after,
        )
        before = len(self.supervisor.sent)
        with mock.patch.object(task_runner, "SUPERVISOR_COMMS", self.supervisor, create=True):
            state, message, error = task_runner.run(ti, ti.get_template_context(), structlog.get_logger())
        self.supervisor.states[task_id] = state.value
        sent = self.supervisor.sent[before:]
        return Outcome(
            state=state.value,
            result=deserialize(self.supervisor.xcoms.get((task_id, "return_value"))),
            skipped=[str(t) for m in sent if isinstance(m, comms.SkipDownstreamTasks) for t in m.tasks],
            message=message,
            error=error,
        )

    def resume(self, deferred: Outcome, task_id: str, event: Any) -> Outcome:
        """Run the task on after its trigger fired with ``event``."""
        kwargs = {**(deferred.message.next_kwargs or {}), **serialize({"event": event})}
        return self.run(task_id, next_method=deferred.message.next_method, next_kwargs=kwargs)


def run_task(operator: Any, **run: Any) -> Outcome:
    """One try of one operator, in a run of its own; ``run`` as :class:`DagRunHarness` takes it."""
    return DagRunHarness(operator.dag, **run).run(operator.task_id)
