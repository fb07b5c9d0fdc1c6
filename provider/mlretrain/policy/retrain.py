"""Retrain now, or keep the champion? A pure decision on windows and earlier retrains, in data time only.

The loop stops because every request, whatever came of it, holds the next one back for a cooldown, and
because only windows measured against the champion in force count: promotion moves the baseline. How a
retrain ended changes the wording of later reasons, never a verdict, so that a decision can be reproduced
from the records at any later time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from mlretrain.errors import ConfigError
from mlretrain.verdict import Check, Retraining, failures
from mlretrain.wire import canonical, utc

Cause = Literal["drift", "schedule", "manual"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPolicy:
    """When violated windows start a retrain.

    :param signals: a window is violated if any of these signals is true in it.
    :param violated: how many violated windows it takes …
    :param of: … among this many latest windows that could be measured.
    :param latest: the window decided on must be violated itself.
    :param cooldown_s: shortest data time between two retrains, and how long a request without a conclusion
        counts as in flight; positive, because the loop's end rests on it.
    :param min_new_rows: rows that must have arrived since the last training.
    :param budget_max: most retrains, of any cause, within ``budget_per_s``.
    """

    signals: tuple[str, ...] = ("drift",)
    violated: int = 1
    of: int = 1
    latest: bool = True
    cooldown_s: float = 604_800
    min_new_rows: int = 0
    budget_max: int | None = None
    budget_per_s: float | None = None

    def __post_init__(self) -> None:
        _require(bool(self.signals), "signals", "none", "at least one")
        _require(1 <= self.violated <= self.of, "violated", str(self.violated), f"1 to {self.of} (of)")
        _require(self.cooldown_s > 0, "cooldown_s", str(self.cooldown_s), "more than 0")
        _require(self.min_new_rows >= 0, "min_new_rows", str(self.min_new_rows), "0 or more")
        paired = (self.budget_max is None) == (self.budget_per_s is None)
        _require(paired, "budget", "only one of the two", "budget_max with budget_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecord:
    """What was measured in one window of data ``[window_start, window_end)`` against one champion.

    :param champion: the version whose profile was the reference.
    :param signals: true, false, or ``None`` where it could not be measured.
    :param summary: one sentence with the evidence.
    """

    pipeline: str
    window_start: datetime
    window_end: datetime
    rows: int
    champion: str
    signals: Mapping[str, bool | None]
    summary: str = ""
    report_uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """One retrain that was requested; ``outcome`` is ``None`` until it is concluded."""

    run_id: str
    window_end: datetime
    cause: Cause
    outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainDecision:
    """Retrain or keep, in one sentence, with each check that led there and the run id to start."""

    verdict: Retraining
    reason: str
    checks: tuple[Check, ...]
    run_id: str


def window_slug(window_end: datetime) -> str:
    """An instant as a path segment or part of a run id: ``20130506T000000Z``, in UTC."""
    time = utc(window_end)
    fraction = f".{time.microsecond:06d}" if time.microsecond else ""
    return f"{time:%Y%m%dT%H%M%S}{fraction}Z"


def drift_run_id(window_end: datetime) -> str:
    """The id of the retrain that this window can start; the same whoever asks, however often."""
    return f"drift__{window_slug(window_end)}"


def decide(
    policy: RetrainPolicy,
    windows: Iterable[WindowRecord],
    retrains: Iterable[Retrain],
    *,
    window_end: datetime,
    champion: str,
) -> RetrainDecision:
    """The decision for the window that ends at ``window_end``, with ``champion`` in force.

    Records may come doubled and in any order. Later windows are ignored. A later retrain answers "keep",
    for it has learnt this window already; a request that this very window has made stands.
    """
    run_id = drift_run_id(window_end)
    unique = {each.run_id: each for each in sorted(retrains, key=canonical)}
    others = sorted(
        (each for each in unique.values() if each.run_id != run_id), key=lambda r: (r.window_end, r.run_id)
    )
    earlier = [each for each in others if each.window_end <= window_end]
    seen = _unique_windows(each for each in windows if each.window_end <= window_end)
    requested = run_id in unique
    counted = [each for each in seen if each.champion == champion and _violated(policy, each) is not None]
    recent = counted[-policy.of :]
    last = earlier[-1] if earlier else None
    checks = [
        _windows_check(policy, recent),
        *([_latest_check(policy, recent, window_end)] if policy.latest else []),
        _flight_check(policy, last, window_end),
        _cooldown_check(policy, last, window_end),
        _superseded_check(others, window_end),
        _rows_check(policy, seen, last),
        *_budget_checks(policy, earlier, window_end),
    ]
    context = f"{_since(last, window_end)}; champion v{champion}"
    if requested or all(check.passed for check in checks):
        verdict: Retraining = "retrain"
        reason = f"retrain: {_evidence(policy, recent)}; {context}"
    else:
        verdict, reason = "keep", f"keep: {_why_not(checks)}; {context}"
    return RetrainDecision(verdict=verdict, reason=reason, checks=tuple(checks), run_id=run_id)


def _unique_windows(windows: Iterable[WindowRecord]) -> list[WindowRecord]:
    ordered = sorted(windows, key=lambda each: (each.window_end, each.champion, canonical(each)))
    return list({(each.window_end, each.champion): each for each in ordered}.values())


def _violated(policy: RetrainPolicy, window: WindowRecord) -> bool | None:
    known = [value for name in policy.signals if (value := window.signals.get(name)) is not None]
    return any(known) if known else None


def _windows_check(policy: RetrainPolicy, recent: Sequence[WindowRecord]) -> Check:
    count = sum(_violated(policy, each) is True for each in recent)
    return Check(
        name="windows",
        passed=count >= policy.violated,
        observed=f"{' or '.join(policy.signals)} in {count} of the last {len(recent)} windows",
        required=f"{policy.violated} of {policy.of}",
        note="windows measured against the champion in force",
    )


def _latest_check(policy: RetrainPolicy, recent: Sequence[WindowRecord], window_end: datetime) -> Check:
    measured = bool(recent) and recent[-1].window_end == window_end
    violated = measured and _violated(policy, recent[-1]) is True
    return Check(
        name="latest window",
        passed=violated,
        observed=("violated" if violated else "stable") if measured else "not measured",
        required="violated",
    )


def _flight_check(policy: RetrainPolicy, last: Retrain | None, window_end: datetime) -> Check:
    flying = last is not None and last.outcome is None and _age(last, window_end) < policy.cooldown_s
    return Check(
        name="in flight",
        passed=not flying,
        observed=last.run_id if flying and last else "none",
        required="none",
        note="a request without a conclusion counts for one cooldown",
    )


def _cooldown_check(policy: RetrainPolicy, last: Retrain | None, window_end: datetime) -> Check:
    until = last.window_end + timedelta(seconds=policy.cooldown_s) if last else None
    return Check(
        name="cooldown",
        passed=until is None or window_end >= until,
        observed=_since(last, window_end),
        required=f"{_span(policy.cooldown_s)} between retrains",
        note=f"until {_day(until)}" if until else None,
    )


def _superseded_check(others: Sequence[Retrain], window_end: datetime) -> Check:
    later = [each for each in others if each.window_end > window_end]
    return Check(
        name="later retrain",
        passed=not later,
        observed=later[0].run_id if later else "none",
        required="none",
        note="a later retrain has learnt this window already",
    )


def _rows_check(policy: RetrainPolicy, windows: Sequence[WindowRecord], last: Retrain | None) -> Check:
    rows = round(new_rows(windows, last.window_end if last else None))
    return Check(
        name="new rows",
        passed=rows >= policy.min_new_rows,
        observed=str(rows),
        required=f"at least {policy.min_new_rows}",
        note=f"since {_day(last.window_end)}" if last else None,
    )


def new_rows(windows: Iterable[WindowRecord], since: datetime | None) -> float:
    """Rows that arrived after ``since``; what windows share in time is counted once, pro rata.

    A window of unknown length (its start is its end) counts whole.
    """
    covered, total = since or _NEVER, 0.0
    for each in sorted(windows, key=lambda w: (w.window_end, w.window_start, w.rows)):
        length = (each.window_end - each.window_start).total_seconds()
        fresh = (each.window_end - max(each.window_start, covered)).total_seconds()
        if each.window_end > covered:
            total += each.rows * fresh / length if length > 0 else each.rows
            covered = each.window_end
    return total


def _budget_checks(
    policy: RetrainPolicy, earlier: Sequence[Retrain], window_end: datetime
) -> tuple[Check, ...]:
    if policy.budget_max is None or policy.budget_per_s is None:
        return ()
    spent = sum(_age(each, window_end) < policy.budget_per_s for each in earlier)
    return (
        Check(
            name="budget",
            passed=spent < policy.budget_max,
            observed=f"{spent} retrains",
            required=f"fewer than {policy.budget_max} in {_span(policy.budget_per_s)}",
        ),
    )


def _evidence(policy: RetrainPolicy, recent: Sequence[WindowRecord]) -> str:
    count = sum(_violated(policy, each) is True for each in recent)
    summary = next((each.summary for each in reversed(recent) if _violated(policy, each)), "")
    text = f"{' or '.join(policy.signals)} in {count} of the last {len(recent)} windows"
    return f"{text} ({summary.rstrip('.')})" if summary else text


def _why_not(checks: Sequence[Check]) -> str:
    failed = {check.name: check for check in checks if not check.passed}
    for name in ("windows", "latest window"):
        if name in failed:
            check = failed[name]
            return f"{name}: {check.observed}, required {check.required}"
    if "in flight" in failed:
        return f"{failed['in flight'].observed} has not ended"
    if "cooldown" in failed:
        return f"cooldown {failed['cooldown'].note}"
    return failures(failed.values())


def _age(retrain: Retrain, window_end: datetime) -> float:
    return (window_end - retrain.window_end).total_seconds()


def _since(last: Retrain | None, window_end: datetime) -> str:
    if last is None:
        return "no earlier retrain"
    outcome = f", {last.outcome.replace('_', ' ')}" if last.outcome else ""
    return f"last retrain {_span(_age(last, window_end))} ago ({last.cause}{outcome})"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _day(time: datetime) -> str:
    time = utc(time)
    return f"{time:%Y-%m-%d}" if time.time() == datetime.min.time() else f"{time:%Y-%m-%d %H:%M} UTC"


def _require(holds: bool, where: str, found: str, allowed: str) -> None:
    if not holds:
        raise ConfigError(
            "the retrain policy cannot work", where=f"retrain.{where}", found=found, allowed=allowed
        )
