"""A pipeline over a span of its history, as a command line describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from mlretrain.errors import ConfigError
from mlretrain_factory.errors import Position
from mlretrain_factory.inheritance import merge
from mlretrain_factory.loader import PipelineSource, load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.model import DagKind
from mlretrain_factory.simulation.sweep import Change, sweep, together
from mlretrain_factory.source_map import Node
from mlretrain_factory.spec.monitoring import MonitoringSpec
from mlretrain_factory.spec.schedule import ScheduleSpec

_DAILY = ScheduleSpec(cron="@daily")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A pipeline over a span of its history.

    :param variants: the pipeline as it is written, then with each combination of swept values; each with its
        changes.
    :param start: when the first champion takes over.
    :param data_uri: where the history is; ``None``: where training reads.
    :param fixed: calendars to compare with, by name.
    """

    source: PipelineSource
    variants: tuple[tuple[tuple[Change, ...], PipelineSource], ...]
    start: datetime
    end: datetime
    data_uri: str | None
    fixed: dict[str, timedelta]
    always: bool

    @property
    def monitor(self) -> MonitoringSpec:
        """The section that says what a window is."""
        if self.source.spec.monitor is None:
            raise ConfigError(
                "the pipeline is not monitored, so there is nothing to replay",
                where=str(self.source.path),
                remedy="Add `monitor`.",
            )
        return self.source.spec.monitor

    @property
    def schedule(self) -> ScheduleSpec:
        """When the monitor looks; daily if it is started by hand or by assets."""
        written = self.monitor.schedule
        return written if written is not None and written.cron else _DAILY

    @property
    def time_column(self) -> str:
        """The column with the history's times."""
        name = self.source.spec.data.training.time_column
        if name is None:
            raise ConfigError(
                "the training data has no times, so its past cannot be replayed",
                where=str(self.source.path),
                remedy="Add `data.training.time_column`.",
            )
        return name

    @property
    def uri(self) -> str:
        """Where the history is."""
        uri = self.data_uri or self.source.spec.data.training.uri
        if "{{" in uri:
            raise ConfigError(
                "a place that only Airflow knows",
                where=str(self.source.path),
                found=uri,
                remedy="Say where the history is: --data URI.",
            )
        return uri

    @property
    def ago(self) -> timedelta:
        """How long before a window its reference is, if that is a window too."""
        drift = self.monitor.drift
        return drift.reference_age or (
            self.monitor.data.window if drift.reference == "previous_window" else timedelta()
        )


def read_case(
    path: Path,
    *,
    start: str,
    end: str,
    swept: Sequence[str] = (),
    data_uri: str | None = None,
    fixed: dict[str, timedelta] | None = None,
    always: bool = True,
) -> Case:
    """The case that a command line describes.

    :param start: an ISO date or time; without a zone in that of the monitor's schedule.
    :raises SpecErrors: the pipeline, or what a sweep makes of it, is broken.
    """
    file = path.absolute()
    base = Node({"retrain": Node({}, Position(str(file)))}, Position(str(file)))
    written = load_source(file)
    source = written if written.spec.retrain or not written.spec.monitor else load_source(file, changes=base)
    variants: list[tuple[tuple[Change, ...], PipelineSource]] = [((), source)]
    for changes in sweep(swept):
        node = together(changes)
        if node is not None:
            variants.append((changes, load_source(file, changes=merge(base, node))))
    monitor = source.spec.monitor
    zone = ZoneInfo(monitor.schedule.timezone if monitor and monitor.schedule else "UTC")
    case = Case(
        source=source,
        variants=tuple(variants),
        start=_instant(start, "--from", zone),
        end=_instant(end, "--to", zone),
        data_uri=data_uri,
        fixed=fixed or {},
        always=always,
    )
    if case.start >= case.end:
        raise ConfigError("the span is empty", where="--from, --to", found=f"{start} to {end}")
    return case


def arguments(source: PipelineSource, kind: DagKind, task_id: str) -> dict[str, Any]:
    """What the plan gives the operator of a task."""
    dag = build_plan(source).dag(kind)
    found = next((task for task in dag.tasks if task.task_id == task_id), None) if dag else None
    return dict(found.args) if found else {}


def _instant(text: str, option: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "not a day", where=option, found=repr(text), allowed="2013-04-01, or 2013-04-01T06:00"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
