"""One policy, window by window over the past: what it would have measured, decided and retrained.

The decisions are :func:`mlretrain.policy.retrain.decide`'s own, on the records that a live pipeline would
have kept; here they are kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from mlretrain.drift.policy import DriftPolicy
from mlretrain.drift.verdict import DriftReport
from mlretrain.performance.policy import PerformancePolicy, PerformanceReport, Verdict
from mlretrain.policy.retrain import (
    Cause,
    Level,
    Retrain,
    RetrainPolicy,
    WindowRecord,
    decide,
    window_slug,
)
from mlretrain.verdict import Drift, Retraining

PROMOTED, REJECTED, FAILED = "promoted", "rejected", "failed"
AHEAD = 2
"""Scheduled retrains that are made known before their time."""
ACCOUNT_COLUMNS = 5
"""Columns of a window that are told by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A policy to replay.

    :param changes: what differs from the pipeline as it is written, as ``key=value``.
    :param drift: how a window is judged; ``None``: windows are not looked at.
    :param performance: what the answers must be worth; ``None``: they are not looked at.
    :param retrain: when that leads to a retrain; ``None``: never.
    :param schedule: instants at which the model is retrained whatever was measured.
    """

    name: str
    changes: tuple[str, ...] = ()
    drift: DriftPolicy | None = None
    performance: PerformancePolicy | None = None
    retrain: RetrainPolicy | None = None
    schedule: tuple[datetime, ...] = ()

    @property
    def is_monitored(self) -> bool:
        """Whether it follows from what is measured."""
        return self.drift is not None and self.retrain is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The model in force from ``since`` on; trained on the window that ends at ``trained``."""

    version: str
    trained: datetime
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How a retrain ended: ``promoted``, ``rejected`` or ``failed``, and why."""

    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured in a window.

    :param signals: as in a :class:`~mlretrain.policy.retrain.WindowRecord`.
    :param columns: the drifted columns in words, the furthest beyond its limit first.
    :param effect: the largest effect of a column, as a multiple of its limit.
    """

    verdict: Drift
    share: float
    rows: int
    signals: Mapping[str, bool | None]
    summary: str
    columns: tuple[str, ...] = ()
    effect: float = 0.0

    @classmethod
    def of(cls, report: DriftReport) -> Measured:
        """The part of a report that a replay keeps."""
        drifted = [each for each in report.columns if each.drifted]
        return cls(
            verdict=report.verdict,
            share=report.share,
            rows=report.rows,
            signals=report.signals,
            summary=report.summary,
            columns=tuple(str(each) for each in drifted[:ACCOUNT_COLUMNS]),
            effect=max((each.effect / each.limit for each in report.columns if each.limit > 0), default=0.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What the champion's answers were worth in a window."""

    verdict: Verdict
    summary: str
    value: float | None = None

    @classmethod
    def of(cls, report: PerformanceReport) -> Performed:
        """The part of a report that a replay keeps."""
        return cls(verdict=report.verdict, summary=report.summary, value=report.value)


class World(Protocol):
    """What a replay asks of the past."""

    def perform(
        self, start: datetime, end: datetime, policy: PerformancePolicy, champion: Champion
    ) -> Performed | None:
        """What the champion's answers were worth when ``end`` had come; ``None`` if there are no models."""

    def measure(
        self, start: datetime, end: datetime, policy: DriftPolicy, champions: Sequence[Champion]
    ) -> Measured:
        """What the window shows beside the last of ``champions``, the earlier ones having served before."""

    def prepare(self, trained: Sequence[datetime]) -> None:
        """Models that will be asked for next."""

    def retrain(self, trained: datetime, champion: Champion) -> Attempt:
        """What comes of a candidate trained on the window that ends at ``trained``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One window: what was measured against which champion, what was decided and who was told."""

    start: datetime
    end: datetime
    champion: str
    measured: Measured
    performed: Performed | None = None
    decision: Retraining
    level: Level
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """One retrain: when, by what cause and for what reason; how it ended, and why so."""

    at: datetime
    cause: Cause
    reason: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """All that one setting did, oldest first; ``champions`` begins with the one in force at the start."""

    setting: Setting
    steps: tuple[Step, ...]
    retrains: tuple[Retrained, ...]
    champions: tuple[Champion, ...]


def replay(
    setting: Setting,
    world: World,
    *,
    pipeline: str,
    start: datetime,
    window_ends: Sequence[datetime],
    window: timedelta,
    advance: Callable[[], None] = lambda: None,
) -> Replay:
    """Live through the past once.

    A window is measured against the champion in force before it ends; a retrain that is promoted changes
    it from there on. A scheduled retrain at the same instant is known to the decision, as one in flight.

    :param start: when the first champion takes over, trained on the window that ends then.
    :param advance: called after each window.
    """
    life = _Life(setting, world, pipeline, Champion(version="1", trained=start, since=start))
    for instant in sorted({*window_ends, *setting.schedule}):
        asked = None
        if instant in setting.schedule:
            asked = life.request(instant, "schedule", "its schedule")
            world.prepare([each for each in setting.schedule if each >= instant][: 1 + AHEAD])
        if setting.is_monitored and instant in window_ends:
            asked = life.look(instant - window, instant) or asked
        if asked is not None:
            life.conclude(asked, instant)
        if instant in window_ends:
            advance()
    return Replay(
        setting=setting,
        steps=tuple(life.steps),
        retrains=tuple(life.retrained),
        champions=tuple(life.champions),
    )


class _Life:
    """The state that a live pipeline keeps in its ledger and its window log."""

    def __init__(self, setting: Setting, world: World, pipeline: str, champion: Champion) -> None:
        self.setting = setting
        self.world = world
        self.pipeline = pipeline
        self.champions = [champion]
        self.versions = 1
        self.windows: list[WindowRecord] = []
        self.requests: list[Retrain] = []
        self.steps: list[Step] = []
        self.retrained: list[Retrained] = []
        self._reasons: dict[str, str] = {}

    def look(self, start: datetime, end: datetime) -> Retrain | None:
        """Measure a window and decide; the request that follows, if one does."""
        drift, policy = self.setting.drift, self.setting.retrain
        if drift is None or policy is None:
            return None
        champion = self.champions[-1].version
        measured = self.world.measure(start, end, drift, tuple(self.champions))
        self._remember(start, end, measured.rows, measured.signals, measured.summary)
        performed = None
        if self.setting.performance is not None:
            performed = self.world.perform(start, end, self.setting.performance, self.champions[-1])
        if performed is not None:
            signal = {"violated": True, "fine": False}.get(performed.verdict)
            self._remember(start, end, 0, {"performance": signal}, performed.summary, "performance")
        decision = decide(policy, self.windows, self.requests, window_end=end, champion=champion)
        self.steps.append(
            Step(
                start=start,
                end=end,
                champion=champion,
                measured=measured,
                performed=performed,
                decision=decision.verdict,
                level=decision.level,
                reason=decision.reason,
            )
        )
        if decision.verdict != "retrain":
            return None
        return self.request(end, "drift", decision.reason, decision.run_id)

    def request(self, at: datetime, cause: Cause, reason: str, run_id: str = "") -> Retrain:
        """A request without a conclusion yet."""
        asked = Retrain(
            run_id=run_id or f"scheduled__{window_slug(at)}",
            window_end=at,
            cause=cause,
            champion=self.champions[-1].version if cause == "drift" else "",
        )
        self.requests.append(asked)
        self._reasons[asked.run_id] = reason
        return asked

    def _remember(
        self,
        start: datetime,
        end: datetime,
        rows: int,
        signals: Mapping[str, bool | None],
        summary: str,
        measure: str = "",
    ) -> None:
        self.windows.append(
            WindowRecord(
                pipeline=self.pipeline,
                window_start=start,
                window_end=end,
                rows=rows,
                champion=self.champions[-1].version,
                signals=signals,
                summary=summary,
                measure=measure,
            )
        )

    def conclude(self, asked: Retrain, at: datetime) -> None:
        """Train, judge and promote, or not."""
        attempt = self.world.retrain(at, self.champions[-1])
        self.requests[-1] = replace(asked, outcome=attempt.outcome)
        self.retrained.append(
            Retrained(
                at=at,
                cause=asked.cause,
                reason=self._reasons[asked.run_id],
                outcome=attempt.outcome,
                why=attempt.reason,
            )
        )
        if attempt.outcome != FAILED:
            self.versions += 1
        if attempt.outcome == PROMOTED:
            self.champions.append(Champion(version=str(self.versions), trained=at, since=at))
