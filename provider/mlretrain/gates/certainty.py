"""Is it certain, and not chance, that something is beyond its limit, though one looks again and again?

A bound for one look is exceeded by chance in one look of twenty, so in the hundred looks of a canary's bake
nearly always. These bounds hold for all looks together: whoever acts at the first certain one errs in one
rollout of twenty at most.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

ERROR_RATE = 0.05
"""How often a version that is just within its limit may be taken for one beyond it, in all looks together."""

_MIXTURE = 1 / (-2 * math.log(2 * ERROR_RATE) + math.log(1 - 2 * math.log(2 * ERROR_RATE)))


def rate_exceeds(events: int, n: int, limit: float) -> bool:
    """Whether a rate is certainly above ``limit``, of which ``events`` in ``n`` were seen so far.

    The likelihood of all rates above the limit, taken together evenly, over that of the limit is a
    supermartingale while the rate is within it, so that it reaches 1 / :data:`ERROR_RATE` no more often than
    that (Ville; Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of
    Mathematical Statistics 41, 1970). Half of it is taken, which spares an incomplete beta function: beyond
    its mean a binomial has at least half of its weight on the near side.
    """
    if limit >= 1 or events < (n + 1) * limit or not events:
        return False
    if limit <= 0:
        return True
    failures = n - events
    above = math.lgamma(events + 1) + math.lgamma(failures + 1) - math.lgamma(n + 2)
    evenly = above - math.log(2) - math.log1p(-limit)
    at_limit = events * math.log(limit) + failures * math.log1p(-limit)
    return evenly - at_limit >= -math.log(ERROR_RATE)


def deviations(growth: float) -> float:
    """Standard errors that an estimate exceeds its true value by, at any look, with :data:`ERROR_RATE`.

    The normal mixture of Robbins for estimates that are about normal (Waudby-Smith et al., "Time-uniform
    central limit theory and asymptotic confidence sequences", Annals of Statistics 52, 2024), set to be
    narrowest at the first look: 2.8 there, 3.3 with a hundred times as many requests.

    :param growth: how many times the requests of the first look there are by now.
    """
    rho = _MIXTURE / max(growth, 1.0)
    return math.sqrt((1 + rho) * math.log((1 + rho) / (rho * (2 * ERROR_RATE) ** 2)))


def rates_differ(
    events: int, n: int, base_events: int, base_n: int, *, ratio: float, increase: float, least: int
) -> bool:
    """Whether a rate is certainly above ``ratio`` times another plus ``increase``.

    Both are taken with one success and one failure more than were seen (Agresti & Caffo, "Simple and
    effective confidence intervals for proportions and differences of proportions", American Statistician 54,
    2000), which keeps the bound honest where events are few.

    :param least: of either, the first look's number.
    """
    rate, base = (events + 1) / (n + 2), (base_events + 1) / (base_n + 2)
    variance = rate * (1 - rate) / (n + 2) + ratio**2 * base * (1 - base) / (base_n + 2)
    beyond = rate - ratio * base - increase
    return beyond > deviations(min(n, base_n) / max(least, 1)) * math.sqrt(variance)


def quantile_error(share: float, n: int, p50: float, p95: float, p99: float) -> float:
    """The standard error of the logarithm of a latency quantile.

    Between the quantiles that are known latencies are taken for log-normal, the steeper part counting.
    """
    known = [(NormalDist().inv_cdf(each), math.log(max(at, 1e-6))) for each, at in _pairs(p50, p95, p99)]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(known)]
    density = NormalDist().pdf(NormalDist().inv_cdf(share))
    return max(0.0, *slopes) * math.sqrt(share * (1 - share) / max(n, 1)) / density


def _pairs(p50: float, p95: float, p99: float) -> tuple[tuple[float, float], ...]:
    return (0.50, p50), (0.95, p95), (0.99, p99)
