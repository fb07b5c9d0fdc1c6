"""What the retrain policy looks at: its rules, the windows and the retrains that count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from mlretrain.errors import ConfigError
from mlretrain.policy.blackout import Blackout
from mlretrain.policy.escalation import Escalation
from mlretrain.policy.signals import Signals, WindowState
from mlretrain.policy.window import WindowRecord, merged, window_slug
from mlretrain.wire import canonical

Cause = Literal["drift", "schedule", "manual"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

SIGHT = 500
"""How many of the latest windows are looked at, so that what is read does not grow with history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPolicy:
    """When violated windows start a retrain.

    :param when: which signals make a window a violated one.
    :param violated: how many violated windows it takes …
    :param of: … among this many latest windows that could be measured.
    :param latest: the window decided on must be violated itself.
    :param warm_up: so many first windows measured against a champion start nothing.
    :param cooldown_s: shortest data time between two retrains, and how long a request without a conclusion
        counts as in flight; positive, because the loop's end rests on it.
    :param min_new_rows: rows that must have arrived since the last training.
    :param budget_max: most retrains, of any cause, within ``budget_per_s``.
    :param blackout: when nothing is retrained by itself.
    :param escalation: when people are warned, and when a person must look.
    """

    when: Signals = field(default_factory=lambda: Signals(any=("drift",)))
    violated: int = 1
    of: int = 1
    latest: bool = True
    warm_up: int = 0
    cooldown_s: float = 604_800
    min_new_rows: int = 0
    budget_max: int | None = None
    budget_per_s: float | None = None
    blackout: tuple[Blackout, ...] = ()
    escalation: Escalation = field(default_factory=Escalation)

    def __post_init__(self) -> None:
        in_sight = f"up to {SIGHT}"
        _require(1 <= self.violated <= self.of, "violated", str(self.violated), f"1 to {self.of} (of)")
        _require(self.of <= SIGHT, "of", str(self.of), in_sight)
        _require(0 <= self.warm_up < SIGHT, "warm_up", str(self.warm_up), f"0 {in_sight}")
        _require(self.cooldown_s > 0, "cooldown_s", str(self.cooldown_s), "more than 0")
        _require(self.min_new_rows >= 0, "min_new_rows", str(self.min_new_rows), "0 or more")
        paired = (self.budget_max is None) == (self.budget_per_s is None)
        _require(paired, "budget", "only one of the two", "budget_max with budget_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """One retrain that was requested; ``outcome`` is ``None`` until it is concluded.

    :param champion: the version that was in force when drift asked for it; empty for other causes.
    """

    run_id: str
    window_end: datetime
    cause: Cause
    outcome: str | None = None
    champion: str = ""

    def age_s(self, window_end: datetime) -> float:
        """The data time since, in seconds."""
        return (window_end - self.window_end).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a decision on one window rests on, in order of time.

    :param windows: those up to ``window_end``, in sight, against any champion.
    :param mine: those of them against the champion in force; promotion moves the baseline.
    :param recent: the latest ``of`` of these that could be measured.
    :param measured: how many could be measured.
    :param arrived: every window that rows are counted in.
    :param earlier: the retrains up to ``window_end``, but for this window's own.
    :param later: the retrains after it.
    :param requested: whether this window has asked for a retrain before.
    """

    policy: RetrainPolicy
    window_end: datetime
    champion: str
    windows: tuple[WindowRecord, ...]
    mine: tuple[WindowRecord, ...]
    recent: tuple[WindowRecord, ...]
    measured: int
    arrived: tuple[WindowRecord, ...]
    earlier: tuple[Retrain, ...]
    later: tuple[Retrain, ...]
    requested: bool

    @property
    def latest(self) -> WindowRecord | None:
        """The window decided on, if anything is recorded of it."""
        last = self.mine[-1] if self.mine else None
        return last if last and last.window_end == self.window_end else None

    @property
    def state(self) -> WindowState:
        """What the window decided on comes to."""
        return self.policy.when.state(self.latest.signals) if self.latest else "unknown"

    @property
    def last(self) -> Retrain | None:
        """The last retrain."""
        return self.earlier[-1] if self.earlier else None

    @property
    def violated(self) -> int:
        """How many of the recent windows are violated."""
        return sum(self.policy.when.state(each.signals) == "violated" for each in self.recent)

    @property
    def unknown(self) -> int:
        """How many of the last windows in a row could not be judged, up to the number that pages."""
        count = 0
        for each in reversed(self.mine[-self.policy.escalation.page.unknown :]):
            if self.policy.when.state(each.signals) != "unknown":
                break
            count += 1
        return count

    @property
    def blind(self) -> tuple[str, ...]:
        """The signals that could not be measured in so many last windows as page if there are no others."""
        last = self.mine[-self.policy.escalation.page.unknown :]
        if len(last) < self.policy.escalation.page.unknown:
            return ()
        return tuple(
            name for name in self.policy.when.names if all(each.signals.get(name) is None for each in last)
        )

    @property
    def uncured(self) -> tuple[Retrain, ...]:
        """The last retrains by drift, if they are enough to give up: no window was fine since the first."""
        tried, _ = attempts(self.policy, self.earlier, window_end=self.window_end, champion=self.champion)
        if len(tried) < self.policy.escalation.page.failed_retrains:
            return ()
        since = (each for each in self.windows if each.window_end > tried[0].window_end)
        cured = any(self.policy.when.state(each.signals) == "fine" for each in since)
        return () if cured else tried


def situation(
    policy: RetrainPolicy,
    windows: Iterable[WindowRecord],
    retrains: Iterable[Retrain],
    *,
    window_end: datetime,
    champion: str,
) -> Situation:
    """The situation in which the window that ends at ``window_end`` is decided on.

    Records may come doubled and in any order; later windows are ignored.
    """
    arrived = merged(each for each in windows if each.window_end <= window_end)
    ends = sorted({each.window_end for each in arrived})[-SIGHT:]
    seen = tuple(each for each in arrived if each.window_end >= ends[0]) if ends else ()
    mine = tuple(each for each in seen if each.champion == champion)
    measured = [each for each in mine if policy.when.state(each.signals) != "unknown"]
    own = drift_run_id(window_end)
    unique = {each.run_id: each for each in sorted(retrains, key=canonical)}
    others = sorted(
        (each for each in unique.values() if each.run_id != own),
        key=lambda each: (each.window_end, each.run_id),
    )
    return Situation(
        policy=policy,
        window_end=window_end,
        champion=champion,
        windows=seen,
        mine=mine,
        recent=tuple(measured[-policy.of :]),
        measured=len(measured),
        arrived=arrived,
        earlier=tuple(each for each in others if each.window_end <= window_end),
        later=tuple(each for each in others if each.window_end > window_end),
        requested=own in unique,
    )


def attempts(
    policy: RetrainPolicy, earlier: Sequence[Retrain], *, window_end: datetime, champion: str
) -> tuple[tuple[Retrain, ...], bool]:
    """The last retrains in a row that drift from this champion asked for and that had a cooldown's time.

    Oldest first, and no more than it takes to give up; and whether older retrains cannot add to them. One
    for another reason, or that drift from another champion asked for, ends the row.
    """
    found: list[Retrain] = []
    for each in reversed(earlier):
        if (each.cause, each.champion) != ("drift", champion):
            return tuple(found), True
        if each.age_s(window_end) >= policy.cooldown_s:
            found.insert(0, each)
        if len(found) == policy.escalation.page.failed_retrains:
            return tuple(found), True
    return tuple(found), False


def drift_run_id(window_end: datetime) -> str:
    """The id of the retrain that this window can start; the same whoever asks, however often."""
    return f"drift__{window_slug(window_end)}"


def _require(holds: bool, where: str, found: str, allowed: str) -> None:
    if not holds:
        raise ConfigError(
            "the retrain policy cannot work", where=f"retrain.{where}", found=found, allowed=allowed
        )
