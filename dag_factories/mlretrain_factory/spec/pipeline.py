"""A whole pipeline: what is to be done, in one file."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NoReturn

from pydantic import Field, model_validator

from mlretrain.metrics import COSTS, LATENCY
from mlretrain_factory.spec.data import DataSpec
from mlretrain_factory.spec.deployment import DeploymentSpec
from mlretrain_factory.spec.evaluation import EvaluationSpec
from mlretrain_factory.spec.guard import SHIFT
from mlretrain_factory.spec.monitoring import MonitoringSpec
from mlretrain_factory.spec.notification import NotificationSpec
from mlretrain_factory.spec.performance import PerformanceSpec
from mlretrain_factory.spec.promotion import PromotionSpec
from mlretrain_factory.spec.quantity import format_duration
from mlretrain_factory.spec.retraining import RetrainingSpec, Signals
from mlretrain_factory.spec.schedule import ScheduleSpec
from mlretrain_factory.spec.scoring import ScoringSpec
from mlretrain_factory.spec.section import Section, fault, text
from mlretrain_factory.spec.stack import Variables
from mlretrain_factory.spec.training import TrainingSpec
from mlretrain_factory.spec.validation import ValidationSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")

Name = Annotated[
    str,
    text(
        lambda value: bool(_NAME.fullmatch(value)),
        "not a name",
        "Use letters, digits, dashes and underscores, at most 100.",
    ),
]


class PipelineSpec(Section):
    """What is to be done; the stack says where."""

    version: Literal[1] = Field(description="Version of this format.")
    pipeline: Name = Field(
        description="Name of pipeline, registered model and experiment; the file is `<name>.pipeline.yaml`."
    )
    stack: Name = Field(description="Where it runs: the name of a file `stacks/<name>.yaml`.")
    team: Name | None = Field(
        default=None, description="Whose it is: one of the stack's `teams`; left out: the stack as it is."
    )
    description: str = Field(default="", description="What the model is for; shown in Airflow.")
    owner: str = Field(
        default="airflow", min_length=1, description="Who is asked when it fails; shown in Airflow."
    )
    tags: tuple[str, ...] = Field(default=(), description="Airflow tags.")
    tier: int | None = Field(
        default=None, ge=1, le=9, description="How critical it is, 1 the most; policies go by it."
    )
    schedule: ScheduleSpec | None = Field(
        default=None, description="When to retrain by itself; left out: only on drift, or by hand."
    )
    data: DataSpec = Field(description="What to learn from, and what to predict.")
    validation: ValidationSpec | None = Field(
        default=None,
        alias="validate",
        description="What must hold for the data; left out: nothing is checked.",
    )
    train: TrainingSpec = Field(description="How a candidate is trained.")
    evaluate: EvaluationSpec = Field(description="How candidate and champion are scored.")
    promote: PromotionSpec = Field(description="What a candidate must show.")
    deploy: DeploymentSpec = Field(default=DeploymentSpec(), description="How it gets the traffic.")
    monitor: MonitoringSpec | None = Field(
        default=None, description="How it is watched; left out: it is not."
    )
    retrain: RetrainingSpec | None = Field(
        default=None, description="When drift leads to a retraining; left out: the monitor only reports."
    )
    score: ScoringSpec | None = Field(
        default=None, description="What is scored in batches; left out: nothing."
    )
    notify: tuple[NotificationSpec, ...] = Field(default=(), description="Who is told.")
    vars: Variables = Field(default={}, description="Values for `${name}`; they win over the stack's.")
    extends: str | None = Field(
        default=None, description="Path of a file to inherit from, relative to this one."
    )

    def dag_tags(self, kind: str) -> tuple[str, ...]:
        """Airflow's tags of one of its DAGs: its own, `tier:1`, and those by which all of ours are found."""
        tier = {f"tier:{self.tier}"} if self.tier is not None else set()
        return tuple(sorted({*self.tags, *tier, "mlretrain", kind}))

    @model_validator(mode="after")
    def _sections_agree(self) -> PipelineSpec:
        self._check_gates()
        self._check_latency()
        self._check_guards()
        if self.retrain is not None:
            self._check_retrain(self.retrain)
        if self.monitor is not None and self.monitor.performance is not None:
            self._check_performance(self.monitor.performance)
        if self.data.target in self.data.features.exclude + (self.data.features.include or ()):
            raise fault(
                "the target is no feature",
                at=("data", "features"),
                remedy="Remove it there.",
                found=f"'{self.data.target}'",
            )
        return self

    def _check_gates(self) -> None:
        for i, gate in enumerate(self.promote.gates):
            at = ("promote", "gates", i)
            if gate.metric is not None and gate.metric not in (*COSTS, *self.evaluate.metrics):
                self._refuse_unevaluated("a gate on a metric", gate.metric, (*at, "metric"))
            if gate.slices and not self.evaluate.slices:
                remedy = "Add columns to `evaluate.slices`."
                raise fault("a gate on slices, but none are evaluated", at=(*at, "slices"), remedy=remedy)
            if gate.groups is not None and gate.groups not in self.evaluate.slices:
                raise fault(
                    "a gate on groups that are not evaluated",
                    at=(*at, "groups"),
                    remedy=f"Add `{gate.groups}` to `evaluate.slices`.",
                    found=f"'{gate.groups}'",
                    allowed=", ".join(self.evaluate.slices) or None,
                )
        if len({gate.confidence for gate in self.promote.gates if gate.confidence is not None}) > 1:
            remedy = "Write the same `confidence` in all of them."
            raise fault("gates of different confidence", at=("promote", "gates"), remedy=remedy)

    def _check_latency(self) -> None:
        latency = self.evaluate.latency
        if latency is None:
            return
        for i, gate in enumerate(self.promote.gates):
            needed = round(1 / (1 - LATENCY.get(gate.metric or "", 0.0)))
            if latency.rows < needed:
                raise fault(
                    "a latency of which so few rows say nothing",
                    at=("promote", "gates", i, "metric"),
                    remedy="Raise `evaluate.latency.rows`.",
                    found=f"{latency.rows} rows",
                    allowed=f"at least {needed}",
                )

    def _check_guards(self) -> None:
        if self.deploy.predictions is not None or (self.monitor is not None and self.monitor.data.uri):
            return
        for i, guard in enumerate(self.deploy.guards):
            if guard.metric == SHIFT:
                raise fault(
                    "a guard on the predictions, but nobody says where they are logged",
                    at=("deploy", "guards", i, "metric"),
                    remedy="Add `deploy.predictions: {uri: …}`, or `monitor.data.uri`.",
                    found=f"'{SHIFT}'",
                )

    def _refuse_unevaluated(self, what: str, metric: str, at: tuple[str | int, ...]) -> NoReturn:
        raise fault(
            f"{what} that is not evaluated",
            at=at,
            remedy=f"Add `{metric}` to `evaluate.metrics`.",
            found=f"'{metric}'",
            allowed=", ".join(self.evaluate.metrics),
        )

    def _check_retrain(self, retrain: RetrainingSpec) -> None:
        if self.monitor is None:
            remedy = "Add `monitor`, or remove `retrain`."
            raise fault("`retrain` needs `monitor`", at=("retrain",), remedy=remedy)
        unmeasured = {
            "prediction": self.monitor.drift.prediction is None and "drift.prediction: {threshold: 0.1}",
            "domain": self.monitor.drift.domain is None and "drift.domain: {threshold: 0.6}",
            "performance": self.monitor.performance is None and "performance",
        }
        places: dict[tuple[str, ...], Signals] = {
            ("when", retrain.when.kind): retrain.when.signals,
            ("escalate", "page", "signals"): retrain.escalate.page.signals,
        }
        for place, signals in places.items():
            for i, signal in enumerate(signals):
                if missing := unmeasured.get(signal):
                    raise fault(
                        "a signal that is not measured",
                        at=("retrain", *place, i),
                        remedy=f"Add `monitor.{missing}`, or remove it.",
                        found=f"'{signal}'",
                    )

    def _check_performance(self, performance: PerformanceSpec) -> None:
        if performance.max_drop is not None and performance.metric not in self.evaluate.metrics:
            at = ("monitor", "performance", "metric")
            self._refuse_unevaluated("a drop of a metric", performance.metric, at)
        delay, window = performance.labels.delay, self.data.training.window
        if window is not None and delay >= window:
            raise fault(
                "when the labels arrive, their rows have left the training window",
                at=("monitor", "performance", "labels", "delay"),
                remedy="Shorten it, or lengthen `data.training.window`.",
                found=f"'{format_duration(delay)}'",
                allowed=f"less than {format_duration(window)}",
            )
