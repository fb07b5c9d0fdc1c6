"""A plan is plain data: frozen, sorted, without clock or environment, with a digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlretrain import wire

DagKind = Literal["retrain", "monitor", "rollback", "score"]
OUTPUT = "$output"


def output(task_id: str) -> dict[str, str]:
    """An argument that is what the task ``task_id`` returned."""
    return {OUTPUT: task_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task.

    :param task_id: with dots for the groups it is in: ``rollout.stage_1.shift``.
    :param operator: name of an operator; what it is made of is up to the interpreter.
    :param args: its own arguments as JSON; :func:`output` stands for another task's result.
    :param upstream: the tasks it waits for.
    :param teardown: it runs whatever happened before.
    """

    task_id: str
    operator: str
    args: Mapping[str, Any] = field(default_factory=dict)
    upstream: tuple[str, ...] = ()
    trigger_rule: Literal["all_success", "one_failed", "none_failed"] = "all_success"
    retries: int | None = None
    timeout_s: float | None = None
    teardown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field of the form that starts a run by hand; ``default`` is left out for a required one."""

    type: tuple[str, ...]
    title: str
    description: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePlan:
    """By the clock, or when all assets were updated."""

    cron: str | None = None
    timezone: str = "UTC"
    assets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Who is told about which events."""

    on: tuple[str, ...]
    notifier: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DagPlan:
    """One DAG; ``defaults`` are arguments that all its tasks share."""

    dag_id: str
    kind: DagKind
    description: str
    doc_md: str
    owner: str
    tags: tuple[str, ...]
    defaults: Mapping[str, Any]
    tasks: tuple[TaskPlan, ...]
    schedule: SchedulePlan | None = None
    form: Mapping[str, FormField] = field(default_factory=dict)
    notify: tuple[Notification, ...] = ()
    max_active_runs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every DAG of one pipeline."""

    pipeline: str
    dags: tuple[DagPlan, ...]

    @property
    def digest(self) -> str:
        """The same for the same plan, on every machine."""
        return wire.digest(self, 16)

    def dag(self, kind: DagKind) -> DagPlan | None:
        """The DAG of a kind, if the pipeline has one."""
        return next((dag for dag in self.dags if dag.kind == kind), None)
