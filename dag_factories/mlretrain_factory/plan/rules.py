"""Spec sections as the operators' arguments: one function for each, no defaults of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mlretrain import wire
from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan.model import Notification, SchedulePlan
from mlretrain_factory.spec.blackout import BlackoutSpec
from mlretrain_factory.spec.data import TrainingDataSpec
from mlretrain_factory.spec.drift import ColumnDriftSpec, DomainDriftSpec, DriftDefaultsSpec, DriftSpec
from mlretrain_factory.spec.guard import SHIFT
from mlretrain_factory.spec.monitoring import MonitoringSpec, WindowDataSpec
from mlretrain_factory.spec.notification import NOTIFIERS, NotificationSpec
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.retraining import RetrainingSpec
from mlretrain_factory.spec.schedule import ScheduleSpec


def given(section: BaseModel, *, exclude: set[str] | None = None) -> dict[str, Any]:
    """The section's keys that have a value."""
    data: dict[str, Any] = section.model_dump(exclude_none=True, exclude=exclude)
    return data


def written(section: BaseModel, *, by_alias: bool = True) -> dict[str, Any]:
    """The section's keys that say something, named as they were written, or as the kernel names them."""
    data: dict[str, Any] = section.model_dump(mode="json", exclude_defaults=True, by_alias=by_alias)
    return data


def data_window(section: TrainingDataSpec | WindowDataSpec) -> dict[str, Any]:
    """Where data is and which of it; the window in seconds."""
    window = {"window": section.window.total_seconds()} if section.window else {}
    return {**given(section, exclude={"window"}), **window}


def gates(spec: PipelineSpec) -> list[dict[str, Any]]:
    """The promotion gates."""
    return [gate.condition for gate in spec.promote.gates]


def asked_of_evaluation(spec: PipelineSpec) -> dict[str, Any]:
    """What the gates need to be measured beyond the metrics themselves."""
    gates = spec.promote.gates
    functions = sorted({gate.function for gate in gates if gate.function is not None})
    levels = (gate.confidence for gate in gates if gate.confidence is not None)
    return {
        **optional("confidence", next(levels, None)),
        **optional("functions", functions or None),
        **optional("latency_rows", spec.evaluate.latency and spec.evaluate.latency.rows),
    }


def policies(source: PipelineSource) -> dict[str, Any]:
    """The platform's policies that apply, for the run to be held against."""
    applied = [_said(wire.to_wire(policy)) for policy in source.policies]
    return {"policies": applied} if applied else {}


def _said(value: Any) -> Any:
    """What a policy says; what it leaves out is free."""
    if isinstance(value, Mapping):
        each = {key: _said(value[key]) for key in value}
        return {key: said for key, said in each.items() if said not in (None, "", [], {})}
    return [_said(each) for each in value] if isinstance(value, list) else value


def drift_policy(monitor: MonitoringSpec) -> dict[str, Any]:
    """When a window has drifted, and when its data is broken."""
    drift = monitor.drift
    defaults = _column(drift.defaults)
    columns = {
        name: "ignore" if column.ignore else _over(defaults, _column(column))
        for name, column in drift.columns.items()
    }
    prediction = {"prediction_threshold": drift.prediction.threshold} if drift.prediction else {}
    domain = {"domain_threshold": drift.domain.threshold} if drift.domain else {}
    return {
        "defaults": defaults,
        "columns": columns,
        "share": drift.share,
        "min_rows": drift.defaults.min_rows,
        **prediction,
        **domain,
        **monitor.quality.model_dump(),
    }


def reference(drift: DriftSpec) -> Any:
    """What a window is compared with."""
    age = drift.reference_age
    return drift.reference if age is None else {"same_window_last_s": age.total_seconds()}


def kept(drift: DriftSpec) -> dict[str, Any]:
    """What profiles keep of the values themselves."""
    return {"top": drift.top, "sensitive": drift.sensitive}


def row_measures(drift: DriftSpec) -> dict[str, Any]:
    """What is measured on rows of the window, not on its profile."""
    return {
        "engine": drift.engine,
        **optional("preset", drift.preset),
        **optional("domain", drift.domain and {"rows": drift.domain.rows}),
    }


def sample(drift: DriftSpec) -> dict[str, Any] | None:
    """Which training rows are kept for the measures that need rows; none if there is no such measure."""
    if drift.domain is None and drift.engine == "mlretrain":
        return None
    rows = (drift.domain or DomainDriftSpec()).rows
    return {"rows": rows, "exclude": sorted({*drift.sensitive, *drift.ignored})}


def _column(section: DriftDefaultsSpec | ColumnDriftSpec) -> dict[str, Any]:
    policy = given(section, exclude={"min_rows", "ignore", "sensitive"})
    return {key: value for key, value in policy.items() if (key, value) != ("threshold", "auto")}


def _over(defaults: Mapping[str, Any], column: Mapping[str, Any]) -> dict[str, Any]:
    """A column's policy over the defaults; a threshold of one method says nothing about another's."""
    return dict(column) if "method" in column else {**defaults, **column}


def retrain_policy(retrain: RetrainingSpec, monitor: MonitoringSpec) -> dict[str, Any]:
    """When a retraining follows, and when a person is needed."""
    budget = retrain.budget
    limits = {"budget_max": budget.max, "budget_per_s": budget.per.total_seconds()} if budget else {}
    return {
        "when": {retrain.when.kind: list(retrain.when.signals)},
        "violated": retrain.windows.violated,
        "of": retrain.windows.of,
        "latest": retrain.windows.latest,
        "warm_up": retrain.warm_up,
        "cooldown_s": retrain.cooldown.total_seconds(),
        "min_new_rows": retrain.min_new_rows,
        **limits,
        "blackout": [blackout(each, monitor) for each in retrain.blackout],
        "escalation": retrain.escalate.model_dump(mode="json"),
    }


def blackout(section: BlackoutSpec, monitor: MonitoringSpec) -> dict[str, Any]:
    """Days on which nothing is retrained."""
    return {"timezone": monitor.timezone, **written(section, by_alias=False)}


def schedule(section: ScheduleSpec | None) -> SchedulePlan | None:
    """When runs start by themselves."""
    if section is None:
        return None
    return SchedulePlan(cron=section.cron, timezone=section.timezone, assets=section.on_assets)


def notifications(sections: tuple[NotificationSpec, ...]) -> tuple[Notification, ...]:
    """Who is told."""
    return tuple(
        Notification(
            on=section.on,
            notifier=NOTIFIERS.get(section.notifier, section.notifier),
            args={**({"conn_id": section.conn_id} if section.conn_id else {}), **section.args},
        )
        for section in sections
    )


def predictions(spec: PipelineSpec) -> dict[str, Any] | None:
    """The prediction log, if a guard looks at it."""
    if not any(guard.metric == SHIFT for guard in spec.deploy.guards):
        return None
    if spec.deploy.predictions is not None:
        return given(spec.deploy.predictions)
    if spec.monitor is None:
        return None
    # What is monitored may go by another clock; answers are counted by when they were given.
    return given(spec.monitor.data, exclude={*WindowDataSpec.model_fields} - {"uri", "format"})


def optional(name: str, value: Any) -> dict[str, Any]:
    """An argument that is left out where the operator's own default is meant."""
    return {} if value is None else {name: value}
