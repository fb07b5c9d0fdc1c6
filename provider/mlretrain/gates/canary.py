"""May a version get more traffic? Judged by what it, and the champion, did since the last shift.

Three answers, because noise is no evidence: a guard is *breached* when its limit is certainly exceeded
(:mod:`mlretrain.gates.certainty`), it *holds* when the value that was seen is within the limit, and in
between one has to look longer. What cannot be computed never advances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlretrain.gates.certainty import deviations, quantile_error, rate_exceeds, rates_differ
from mlretrain.gates.guard import Guard
from mlretrain.gates.predictions import PredictionShift
from mlretrain.ports import VersionStats
from mlretrain.verdict import Check, Rollout, failures, number, usable

__all__ = ["CanaryVerdict", "Guard", "Sighting", "judge_canary"]

_SHARES = {"latency_p50_ms": 0.50, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryVerdict:
    """Advance, hold or roll back, in one sentence, with each check that led there."""

    verdict: Rollout
    reason: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What is known of a version at one look, all of the same time span.

    :param stats: its own statistics.
    :param champion: the champion's; ``None`` if there is no champion, whom nothing can be compared with then.
    :param shift: how far its predictions are from the champion's; ``None`` if that is not known.
    """

    stats: VersionStats = field(default_factory=VersionStats)
    champion: VersionStats | None = None
    shift: PredictionShift | None = None


def judge_canary(guards: Sequence[Guard], seen: Sighting, *, min_requests: int = 1) -> CanaryVerdict:
    """The verdict on one version.

    With fewer than ``min_requests`` requests, of the champion's too where a guard compares, it holds, save
    when so many have failed that the error rate would be breached at ``min_requests`` even if all the rest
    succeeded and that is no chance: that rolls back at once. A guard that cannot be computed holds until the
    caller's patience ends. Without a champion, guards that compare with it pass.
    """
    counts = [_enough("requests", seen.stats, min_requests)]
    if seen.champion is not None and any(_compares(guard) for guard in guards):
        counts.append(_enough("the champion's requests", seen.champion, min_requests))
    judged = [_judge(guard, seen, min_requests) for guard in guards]
    failed = [check for check in (*counts, *(check for check, _ in judged)) if not check.passed]
    breached = [check for check, beyond in judged if beyond]
    requests = seen.stats.requests
    if breached:
        verdict: Rollout = "roll_back"
        reason = f"roll_back: {failures(breached)} ({requests} requests)"
    elif failed:
        verdict, reason = "hold", f"hold: {failures(failed)}"
    else:
        verdict, reason = "advance", f"advance: {len(guards)} guards hold over {requests} requests"
    return CanaryVerdict(verdict=verdict, reason=reason, checks=(*counts, *(check for check, _ in judged)))


def _enough(name: str, stats: VersionStats, least: int) -> Check:
    return Check(
        name=name, passed=stats.requests >= least, observed=str(stats.requests), required=f"≥ {least}"
    )


def _compares(guard: Guard) -> bool:
    return guard.versus is not None or guard.metric == "prediction_shift"


def _judge(guard: Guard, seen: Sighting, least: int) -> tuple[Check, bool]:
    """The check, and whether the guard is breached."""
    if _compares(guard) and seen.champion is None:
        observed = "no champion to compare with"
        return Check(name=guard.name, passed=True, observed=observed, required=str(guard)), False
    value, base = _value(guard, seen.stats, seen.shift), None
    if guard.versus is not None and seen.champion is not None:
        base = _value(guard, seen.champion, None)
    limit = guard.limit(base)
    known = value is not None and limit is not None and usable(value) and usable(limit)
    passed = known and value is not None and limit is not None and value <= limit
    beyond = known and not passed and _certain(guard, seen, least)
    check = Check(
        name=guard.name,
        passed=passed,
        observed=number(value) if base is None else f"{number(value)} (champion {number(base)})",
        required=str(guard),
    )
    if known and not passed and not beyond:
        check = replace(check, note="beyond the limit, perhaps by chance: look longer")
    return check, beyond


def _value(guard: Guard, stats: VersionStats, shift: PredictionShift | None) -> float | None:
    match guard.metric:
        case "error_rate":
            return stats.errors / stats.requests if stats.requests else None
        case "latency_p50_ms":
            return stats.latency_p50_ms
        case "latency_p95_ms":
            return stats.latency_p95_ms
        case "latency_p99_ms":
            return stats.latency_p99_ms
        case "prediction_shift":
            return shift.effect if shift else None
        case "disagreement":
            return stats.disagreement
        case "difference_p95":
            return stats.difference_p95


def _certain(guard: Guard, seen: Sighting, least: int) -> bool:
    """Whether a value beyond its limit is there for more than chance."""
    stats, champion = seen.stats, seen.champion if guard.versus else None
    if guard.metric == "error_rate" and champion is None:
        limit = guard.max or 0.0
        return stats.errors > limit * max(stats.requests, least) and rate_exceeds(
            stats.errors, stats.requests, limit
        )
    if min(stats.requests, champion.requests if champion else stats.requests) < least:
        return False
    match guard.metric:
        case "error_rate":
            return _more_errors(guard, stats, champion or VersionStats(), least)
        case "prediction_shift":
            return seen.shift is not None and seen.shift.certain > (guard.max or 0.0)
        case "disagreement":
            # Rows of one request have much in common; requests have less.
            n = min(stats.compared, stats.requests)
            return rate_exceeds(math.floor(n * (stats.disagreement or 0.0)), n, guard.max or 0.0)
        case "difference_p95":
            return True
        case _:
            return _slower(guard, stats, champion, least)


def _more_errors(guard: Guard, stats: VersionStats, champion: VersionStats, least: int) -> bool:
    return rates_differ(
        stats.errors,
        stats.requests,
        champion.errors,
        champion.requests,
        ratio=guard.ratio,
        increase=guard.increase,
        least=least,
    )


def _slower(guard: Guard, stats: VersionStats, champion: VersionStats | None, least: int) -> bool:
    """Whether a latency is certainly beyond its limit; one without its neighbours is taken as it is."""
    share = _SHARES[guard.metric]
    value, base = (_value(guard, each, None) if each else None for each in (stats, champion))
    limit = guard.limit(base)
    if not value or not limit:
        return value is not None and limit is not None and value > limit
    error = _error(stats, share)
    fewest = stats.requests
    if champion is not None and base is not None:
        error = math.hypot(error, _error(champion, share) * guard.ratio * base / limit)
        fewest = min(fewest, champion.requests)
    return math.log(value / limit) > deviations(fewest / max(least, 1)) * error


def _error(stats: VersionStats, share: float) -> float:
    p50, p95, p99 = stats.latency_p50_ms, stats.latency_p95_ms, stats.latency_p99_ms
    if p50 is None or p95 is None or p99 is None:
        return 0.0
    return quantile_error(share, stats.requests, p50, p95, p99)
