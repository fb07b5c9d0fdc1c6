"""What each served version did since an instant: counts and latency quantiles.

Requests are counted in buckets of one second that are kept for 24 hours. A latency is kept as the number of a
logarithmic bin, 2 % wide, so that a quantile is off by at most 1 % however many requests there were.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from mlretrain.ports import VersionStats

KEPT_S = 24 * 3600

SHORTEST_S = 1e-5
BIN_WIDTH = math.log(1.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStats(VersionStats):
    """``errors`` are the model's and the server's (5xx); ``client_errors`` are the caller's (4xx)."""

    client_errors: int = 0


@dataclass(slots=True, kw_only=True)
class _Second:
    at: int
    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    bins: Counter[int] = field(default_factory=Counter)


class StatsLog:
    """Requests by model, version and second. Not thread-safe: the event loop owns it.

    :param clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seconds: defaultdict[tuple[str, str], deque[_Second]] = defaultdict(deque)

    def record(self, model: str, version: str, code: int, latency_s: float) -> None:
        """Count one answered request."""
        second = self._current(self._seconds[model, version])
        second.requests += 1
        second.errors += code >= 500
        second.client_errors += 400 <= code < 500
        second.bins[_bin(latency_s)] += 1

    def since(self, model: str, instant: datetime, versions: Iterable[str] = ()) -> dict[str, ServedStats]:
        """Statistics per version from the second that ``instant`` falls in until now.

        :param versions: versions that are listed even if they have answered nothing.
        """
        first = math.floor(instant.timestamp())
        answer = {version: ServedStats() for version in versions}
        for (name, version), seconds in self._seconds.items():
            recent = [second for second in seconds if second.at >= first]
            if name == model and recent:
                answer[version] = _summary(recent)
        return answer

    def _current(self, seconds: deque[_Second]) -> _Second:
        now = math.floor(self._clock())
        if not seconds or seconds[-1].at < now:
            seconds.append(_Second(at=now))
            while seconds[0].at <= now - KEPT_S:
                seconds.popleft()
        return seconds[-1]


def _summary(seconds: list[_Second]) -> ServedStats:
    bins: Counter[int] = Counter()
    for second in seconds:
        bins.update(second.bins)
    return ServedStats(
        requests=sum(second.requests for second in seconds),
        errors=sum(second.errors for second in seconds),
        client_errors=sum(second.client_errors for second in seconds),
        latency_p50_ms=_quantile_ms(bins, 0.50),
        latency_p95_ms=_quantile_ms(bins, 0.95),
        latency_p99_ms=_quantile_ms(bins, 0.99),
    )


def _bin(latency_s: float) -> int:
    return math.floor(math.log(max(latency_s, SHORTEST_S) / SHORTEST_S) / BIN_WIDTH)


def _quantile_ms(bins: Counter[int], share: float) -> float:
    """The latency that ``share`` of the requests did not exceed (nearest rank), at its bin's middle."""
    rank = math.ceil(share * bins.total())
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= rank:
            break
    return round(1000 * SHORTEST_S * math.exp((number + 0.5) * BIN_WIDTH), 4)
