"""From pipeline files to what the kernel replays: instants, policies, data and training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from mlretrain import wire
from mlretrain.data.split import Holdout
from mlretrain.drift.policy import DriftPolicy
from mlretrain.errors import ConfigError
from mlretrain.gates.promotion import Gate
from mlretrain.performance.policy import PerformancePolicy
from mlretrain.policy.retrain import RetrainPolicy
from mlretrain.simulation.bench import Bench, Reference
from mlretrain.simulation.history import read_history
from mlretrain.simulation.replay import Setting
from mlretrain.simulation.simulate import Question
from mlretrain.simulation.training import Training
from mlretrain_factory.calendar import instants
from mlretrain_factory.errors import Position
from mlretrain_factory.inheritance import merge
from mlretrain_factory.loader import PipelineSource, load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.model import DagKind
from mlretrain_factory.source_map import Node
from mlretrain_factory.spec.drift import DriftSpec
from mlretrain_factory.spec.monitoring import MonitoringSpec
from mlretrain_factory.spec.schedule import ScheduleSpec
from mlretrain_factory.sweep import sweep, together

if TYPE_CHECKING:
    from mlretrain.data.dataset import Dataset

AS_WRITTEN = "as written"
_DAILY = ScheduleSpec(cron="@daily")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A pipeline over a span of its history.

    :param variants: the pipeline as it is written, then with each combination of swept values; each with what
        was changed.
    :param start: when the first champion takes over.
    :param data_uri: where the history is; ``None``: where training reads.
    :param fixed: calendars to compare with, by name.
    """

    source: PipelineSource
    variants: tuple[tuple[tuple[str, ...], PipelineSource], ...]
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
    variants: list[tuple[tuple[str, ...], PipelineSource]] = [((), source)]
    for changes in sweep(swept):
        node = together(changes)
        if node is not None:
            names = tuple(each.given for each in changes)
            variants.append((names, load_source(file, changes=merge(base, node))))
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


def question(case: Case) -> Question:
    """What is replayed: windows, the pipeline's settings, and never, calendars and always beside them."""
    window_ends = instants(str(case.schedule.cron), case.schedule.timezone, case.start, case.end)
    if not window_ends:
        raise ConfigError(
            "the monitor does not look once in this span",
            where="--from, --to",
            found=f"{case.schedule.cron}, {case.start.isoformat()} to {case.end.isoformat()}",
        )
    settings, _ = _settings(case)
    settings.append(Setting(name="never"))
    settings += [Setting(name=name, schedule=_every(length, case)) for name, length in case.fixed.items()]
    if case.always:
        settings.append(Setting(name="always", schedule=tuple(window_ends)))
    return Question(
        pipeline=case.source.spec.pipeline,
        start=case.start,
        end=case.end,
        window=case.monitor.data.window,
        window_ends=tuple(window_ends),
        settings=tuple(settings),
        metric=case.source.spec.evaluate.metrics[0],
    )


def bench(case: Case, asked: Question, *, folder: Path | None) -> Bench:
    """The history, scanned once, and how to train on it.

    :param folder: for the models; ``None``: nothing is trained.
    """
    from mlretrain.data.read import connect, open_relation, reading
    from mlretrain.runtime.recipe import Recipe, choose_features

    spec, monitor = case.source.spec, case.monitor
    window = spec.data.training.window
    cuts = asked.cuts(window, case.ago)
    dataset = _dataset(case, None if window is None else cuts[0])
    recipe = _recipe(case)
    unseen = [name for name, column in monitor.drift.columns.items() if column.ignore]
    with connect() as con, reading(dataset.uri):
        relation = open_relation(con, dataset)
        features = choose_features(
            wire.from_wire(Recipe, {**recipe, "dataset_uri": ""}), relation.columns, case.time_column
        )
        history = read_history(
            con,
            relation,
            time_column=case.time_column,
            cuts=cuts,
            include=[each for each in features if each not in unseen and each != case.time_column],
            top=monitor.drift.top,
            sensitive=[name for name, column in monitor.drift.columns.items() if column.sensitive],
        )
    return Bench(
        history=history,
        training_window=window,
        holdout=wire.from_wire(Holdout, recipe["holdout"]),
        chunk_s=monitor.data.window.total_seconds(),
        delay=monitor.performance.labels.delay if monitor.performance else timedelta(),
        reference=_reference(monitor.drift),
        training=_training(case, dataset, recipe, folder) if folder is not None else None,
    )


def notes(case: Case, *, trained: bool) -> list[str]:
    """What the replay does otherwise than the pipeline would."""
    spec, monitor = case.source.spec, case.monitor
    found = [f"{each} is the pipeline as it is written." for each in _settings(case)[1]]
    if not trained:
        found.append("Nothing was trained: each retrain is assumed to end in a promotion.")
        if monitor.drift.prediction is not None:
            found.append(
                "Without --train there are no answers, so drift of the predictions was not looked at."
            )
        if case.source.spec.retrain and "performance" in case.source.spec.retrain.when.signals:
            found.append("Without --train there are no answers, so performance was not measured.")
    if monitor.schedule is None or monitor.schedule.cron is None:
        found.append("`monitor.schedule` names no time, so windows end daily at midnight UTC.")
    if spec.schedule is not None and spec.schedule.on_assets:
        found.append("Retrains that assets would have started are not in the replay.")
    if monitor.drift.domain is not None:
        found.append("The domain classifier was not replayed: its signal is unknown.")
    if trained and spec.train.tune is not None:
        found.append("Parameters were not searched for: each model was trained with `train.params`.")
    if trained and spec.train.environment is not None:
        found.append("Models were trained with the packages of this Python, not with `train.environment`.")
    return found


def _settings(case: Case) -> tuple[list[Setting], list[str]]:
    """The pipeline's settings that differ, and the names of those that do not from what is written."""
    settings, same = list[Setting](), list[str]()
    for changes, source in case.variants:
        setting = _setting(changes, source, case)
        if settings and replace(setting, name=settings[0].name, changes=()) == settings[0]:
            same.append(setting.name)
        else:
            settings.append(setting)
    return settings, same


def _setting(changes: tuple[str, ...], source: PipelineSource, case: Case) -> Setting:
    written = source.spec.schedule
    scheduled = (
        instants(written.cron, written.timezone, case.start, case.end) if written and written.cron else []
    )
    policy = wire.from_wire(RetrainPolicy, _arguments(source, "monitor", "decide_retrain")["policy"])
    return Setting(
        name=" ".join(changes) or AS_WRITTEN,
        changes=changes,
        drift=wire.from_wire(DriftPolicy, _arguments(source, "monitor", "detect_drift")["policy"]),
        performance=_performance(source) if "performance" in policy.when.names else None,
        retrain=policy,
        schedule=tuple(scheduled),
    )


def _performance(source: PipelineSource) -> PerformancePolicy | None:
    section = source.spec.monitor.performance if source.spec.monitor else None
    if section is None:
        return None
    return PerformancePolicy(**section.model_dump(exclude={"labels"}))


def _arguments(source: PipelineSource, kind: DagKind, task_id: str) -> dict[str, Any]:
    """What the plan gives the operator of a task."""
    dag = build_plan(source).dag(kind)
    found = next((task for task in dag.tasks if task.task_id == task_id), None) if dag else None
    return dict(found.args) if found else {}


def _every(length: timedelta, case: Case) -> tuple[datetime, ...]:
    count = (case.end - case.start) // length
    return tuple(each for i in range(1, count + 1) if (each := case.start + i * length) < case.end)


def _dataset(case: Case, start: datetime | None) -> Dataset:
    from mlretrain.data.resolve import resolve

    return resolve(
        case.uri,
        time_column=case.time_column,
        start=start,
        end=case.end,
        format=case.source.spec.data.training.format if case.data_uri is None else None,
    )


def _reference(drift: DriftSpec) -> Reference:
    if drift.reference_age is not None:
        return drift.reference_age
    return "previous_window" if drift.reference == "previous_window" else "champion"


def _recipe(case: Case) -> dict[str, Any]:
    """The train step's config, as its operator would write it."""
    given = _arguments(case.source, "retrain", "train")
    features = given.get("features") or {}
    return {
        "entrypoint": given.get("entrypoint"),
        "command": given.get("command"),
        "params": given.get("hyperparameters") or {},
        "target": given["target"],
        "features_include": features.get("include") and list(features["include"]),
        "features_exclude": list(features.get("exclude") or ()),
        "holdout": given["holdout"],
        "time_column": case.time_column,
        "prediction_method": given["prediction_method"],
    }


def _training(case: Case, dataset: Dataset, recipe: dict[str, Any], folder: Path) -> Training:
    evaluation = _arguments(case.source, "retrain", "evaluate")
    gates = _arguments(case.source, "retrain", "promotion_gate")["gates"]
    wanted = ("target", "metrics", "slices", "confidence", "importance", "time_column")
    return Training(
        folder=folder.absolute(),
        pipeline=case.source.spec.pipeline,
        dataset=dataset,
        window=case.source.spec.data.training.window,
        recipe=recipe,
        evaluation={name: wire.to_wire(evaluation[name]) for name in wanted if name in evaluation},
        gates=tuple(wire.from_wire(Gate, wire.to_wire(gate)) for gate in gates),
        environ=dict(os.environ),
    )


def _instant(text: str, option: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "not a day", where=option, found=repr(text), allowed="2013-04-01, or 2013-04-01T06:00"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
