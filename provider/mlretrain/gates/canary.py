"""May a canary get more traffic? Judged by what its version did since the last shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlretrain.ports import VersionStats
from mlretrain.verdict import Check, Rollout, failures, number

GuardMetric = Literal["error_rate", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The largest value that a metric may have: a share for ``error_rate``, else milliseconds."""

    metric: GuardMetric
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryVerdict:
    """Advance, hold or roll back, in one sentence, with each check that led there."""

    verdict: Rollout
    reason: str
    checks: tuple[Check, ...]


def judge_canary(
    guards: Sequence[Guard], stats: VersionStats | None, *, min_requests: int = 1
) -> CanaryVerdict:
    """The verdict on one served version.

    With fewer than ``min_requests`` requests it holds, save when so many have failed that the error rate
    would be breached at ``min_requests`` even if all the rest succeeded: that rolls back at once. A guard
    that cannot be computed never advances; it holds until the caller's patience ends.

    :param stats: the version's statistics since the shift; ``None`` if the server knows nothing of it.
    """
    stats = stats or VersionStats()
    enough = Check(
        name="requests",
        passed=stats.requests >= min_requests,
        observed=str(stats.requests),
        required=f"≥ {min_requests}",
    )
    checks = [enough, *(_check(guard, stats) for guard in guards)]
    judged = list(zip(guards, checks[1:], strict=True))
    failed = [check for _, check in judged if not check.passed]
    breached = [check for guard, check in judged if _breached(guard, stats, min_requests=min_requests)]
    if breached:
        verdict: Rollout = "roll_back"
        reason = f"roll_back: {failures(breached)} ({stats.requests} requests)"
    elif not enough.passed or failed:
        verdict, reason = "hold", f"hold: {failures([enough, *failed])}"
    else:
        verdict = "advance"
        reason = f"advance: {len(guards)} guards hold over {stats.requests} requests"
    return CanaryVerdict(verdict=verdict, reason=reason, checks=tuple(checks))


def _value(guard: Guard, stats: VersionStats) -> float | None:
    match guard.metric:
        case "error_rate":
            return stats.errors / stats.requests if stats.requests else None
        case "latency_p50_ms":
            return stats.latency_p50_ms
        case "latency_p95_ms":
            return stats.latency_p95_ms
        case "latency_p99_ms":
            return stats.latency_p99_ms


def _check(guard: Guard, stats: VersionStats) -> Check:
    value = _value(guard, stats)
    return Check(
        name=guard.metric,
        passed=value is not None and value <= guard.max,
        observed=number(value),
        required=f"≤ {number(guard.max)}",
    )


def _breached(guard: Guard, stats: VersionStats, *, min_requests: int) -> bool:
    if guard.metric == "error_rate":
        return stats.errors > guard.max * max(stats.requests, min_requests)
    value = _value(guard, stats)
    return stats.requests >= min_requests and value is not None and value > guard.max
