"""What is replayed: when the monitor looks, and the settings side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from mlretrain import wire
from mlretrain.drift.policy import DriftPolicy
from mlretrain.errors import ConfigError
from mlretrain.performance.policy import PerformancePolicy
from mlretrain.policy.retrain import RetrainPolicy
from mlretrain.simulation.replay import Setting
from mlretrain.simulation.simulate import Question
from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.simulation.calendar import instants
from mlretrain_factory.simulation.case import Case, arguments
from mlretrain_factory.simulation.sweep import Change

AS_WRITTEN = "as written"


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


def notes(case: Case, *, trained: bool) -> list[str]:
    """What the replay does otherwise than the pipeline would."""
    spec, drift = case.source.spec, case.monitor.drift
    asks_performance = bool(spec.retrain and "performance" in spec.retrain.when.signals)
    found = [
        (not trained, "Nothing was trained: each retrain is assumed to end in a promotion."),
        (
            not trained and drift.prediction is not None,
            "Without --train there are no answers, so drift of the predictions was not looked at.",
        ),
        (
            not trained and asks_performance,
            "Without --train there are no answers, so performance was not measured.",
        ),
        (
            case.monitor.schedule is None or case.monitor.schedule.cron is None,
            "`monitor.schedule` names no time, so windows end daily at midnight UTC.",
        ),
        (
            spec.schedule is not None and bool(spec.schedule.on_assets),
            "Retrains that assets would have started are not in the replay.",
        ),
        (drift.domain is not None, "The domain classifier was not replayed: its signal is unknown."),
        (
            drift.engine != "mlretrain",
            f"Drift was measured by mlretrain itself, not by {drift.engine}.",
        ),
        (
            trained and drift.prediction is not None and drift.reference != "champion",
            "Predictions were compared with the champion's own on its holdout.",
        ),
        (
            trained and spec.train.tune is not None,
            "Parameters were not searched for: each model was trained with `train.params`.",
        ),
        (
            trained and spec.train.environment is not None,
            "Models were trained with the packages of this Python, not with `train.environment`.",
        ),
    ]
    same = [f"{name} is the pipeline as it is written." for name in _settings(case)[1]]
    swept = case.variants[-1][0]
    common = [each.given for each in swept if not each.is_choice and any(other.is_choice for other in swept)]
    both = [f"All swept settings have {' '.join(common)}."] if common else []
    return [*same, *both, *(text for applies, text in found if applies)]


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


def _name(changes: Sequence[Change]) -> str:
    """What tells a setting from the others: the values that there was a choice of."""
    chosen = [each for each in changes if each.is_choice] or changes
    return " ".join(each.given for each in chosen) or AS_WRITTEN


def _setting(changes: tuple[Change, ...], source: PipelineSource, case: Case) -> Setting:
    written = source.spec.schedule
    scheduled = (
        instants(written.cron, written.timezone, case.start, case.end) if written and written.cron else []
    )
    policy = wire.from_wire(RetrainPolicy, arguments(source, "monitor", "decide_retrain")["policy"])
    return Setting(
        name=_name(changes),
        changes=tuple(each.given for each in changes),
        drift=wire.from_wire(DriftPolicy, arguments(source, "monitor", "detect_drift")["policy"]),
        performance=_performance(source) if "performance" in policy.when.names else None,
        retrain=policy,
        schedule=tuple(scheduled),
    )


def _performance(source: PipelineSource) -> PerformancePolicy | None:
    section = source.spec.monitor.performance if source.spec.monitor else None
    if section is None:
        return None
    return PerformancePolicy(**section.model_dump(exclude={"labels"}))


def _every(length: timedelta, case: Case) -> tuple[datetime, ...]:
    count = (case.end - case.start) // length
    return tuple(each for i in range(1, count + 1) if (each := case.start + i * length) < case.end)
