"""What each version did since an instant: counts, latency quantiles, how its answers differ from others.

Requests are counted in buckets of one second that are kept for 24 hours. A latency, or a difference, is kept
as the number of a logarithmic bin, 2 % wide, so that a quantile is off by at most 1 % of itself.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from mlretrain.ports import VersionStats
from mlretrain.serving.compare import Comparison

KEPT_S = 24 * 3600

SHORTEST_S = 1e-5
SMALLEST = 1e-12
"""A difference below this is none."""

BIN_WIDTH = math.log(1.02)
NO_DIFFERENCE = -1
"""The bin of differences that are none."""


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
    compared: int = 0
    differing: int = 0
    differences: Counter[int] = field(default_factory=Counter)


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
        second.bins[bin_of(latency_s, SHORTEST_S)] += 1

    def compared(self, model: str, version: str, comparison: Comparison) -> None:
        """Count one answer of a mirrored version that was compared with the one that was served."""
        second = self._current(self._seconds[model, version])
        second.compared += comparison.rows
        second.differing += comparison.differing
        second.differences.update(
            bin_of(each, SMALLEST) if each >= SMALLEST else NO_DIFFERENCE for each in comparison.differences
        )

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

    def latency_bins(self, model: str, instant: datetime) -> dict[str, Counter[int]]:
        """Latencies per version since ``instant``, as numbers of bins: those of several servers add up."""
        first = math.floor(instant.timestamp())
        found: dict[str, Counter[int]] = {}
        for (name, version), seconds in self._seconds.items():
            if name == model:
                recent = (second.bins for second in seconds if second.at >= first)
                found[version] = sum(recent, Counter[int]())
        return found

    def _current(self, seconds: deque[_Second]) -> _Second:
        now = math.floor(self._clock())
        if not seconds or seconds[-1].at < now:
            seconds.append(_Second(at=now))
            while seconds[0].at <= now - KEPT_S:
                seconds.popleft()
        return seconds[-1]


def _summary(seconds: list[_Second]) -> ServedStats:
    bins, differences = Counter[int](), Counter[int]()
    for second in seconds:
        bins.update(second.bins)
        differences.update(second.differences)
    compared = sum(second.compared for second in seconds)
    p50, p95, p99 = latency_quantiles_ms(bins)
    return ServedStats(
        requests=sum(second.requests for second in seconds),
        errors=sum(second.errors for second in seconds),
        client_errors=sum(second.client_errors for second in seconds),
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
        compared=compared,
        disagreement=sum(second.differing for second in seconds) / compared if compared else None,
        difference_p95=quantile(differences, 0.95, SMALLEST),
    )


def latency_quantiles_ms(bins: Counter[int]) -> tuple[float | None, float | None, float | None]:
    """The 50th, 95th and 99th percentile of binned latencies, in milliseconds; ``None`` without any."""
    p50, p95, p99 = (_milliseconds(quantile(bins, share, SHORTEST_S)) for share in (0.50, 0.95, 0.99))
    return p50, p95, p99


def bin_of(value: float, smallest: float) -> int:
    """The number of the bin that ``value`` is in; what is below ``smallest`` is in the first."""
    return math.floor(math.log(max(value, smallest) / smallest) / BIN_WIDTH)


def quantile(bins: Counter[int], share: float, smallest: float) -> float | None:
    """The value that ``share`` of the binned do not exceed (nearest rank), at its bin's middle."""
    rank = math.ceil(share * bins.total())
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= rank:
            return 0.0 if number == NO_DIFFERENCE else smallest * math.exp((number + 0.5) * BIN_WIDTH)
    return None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 4)
