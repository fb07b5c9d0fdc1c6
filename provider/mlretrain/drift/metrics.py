"""How far two profiles of a column are apart: effect sizes, and the effect that chance alone can make.

Every effect is finite, at least 0, and 0 on equal profiles. All but ``wasserstein`` and ``psi`` are at most
1. They work on the reference's bins; what was counted in other bins is moved into them by interpolation.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Literal

from mlretrain.drift.profile import ColumnProfile, Kind

Method = Literal[
    "ks",
    "wasserstein",
    "psi",
    "jensen_shannon",
    "total_variation",
    "chi_squared",
    "missing_rate",
    "new_category_share",
]

_EVERY: tuple[Method, ...] = ("psi", "jensen_shannon", "total_variation", "chi_squared", "missing_rate")
_BINNED: tuple[Method, ...] = ("ks", "wasserstein", *_EVERY)
_LISTED: tuple[Method, ...] = (*_EVERY, "new_category_share")
METHODS: Mapping[Kind, tuple[Method, ...]] = MappingProxyType(
    {
        "numeric": _BINNED,
        "datetime": _BINNED,
        "text": _BINNED,
        "categorical": _LISTED,
        "boolean": _LISTED,
    }
)
"""The methods that mean something for each kind of column."""

_PSEUDO_COUNT = 0.5
"""Jeffreys' prior: an empty bin counts as half a row, in both profiles, so PSI has no infinities to floor."""
_DKW = 1.63
"""√(ln(2/α)/2) for α = 1 %: Dvoretzky–Kiefer–Wolfowitz, Massart 1990."""
_Z = 2.58
"""The normal quantile for a two-sided 1 %."""


def measure(method: Method, reference: ColumnProfile, current: ColumnProfile) -> float:
    """The effect by one of :data:`METHODS`; 0 if either column has no values to compare."""
    shares_needed = method != "missing_rate"
    if shares_needed and not (reference.valued and current.valued):
        return 0.0
    return _FUNCTIONS[method](reference, current)


def ks(reference: ColumnProfile, current: ColumnProfile) -> float:
    """Kolmogorov–Smirnov: the largest difference of the cumulative shares at the bins' edges."""
    p, q = shares(reference), shares(current, reference)
    return min(1.0, max(abs(a - b) for a, b in zip(accumulate(p), accumulate(q), strict=True)))


def wasserstein(reference: ColumnProfile, current: ColumnProfile) -> float:
    """Wasserstein-1 in standard deviations of the reference: how far a row has moved on average.

    Rows beyond five standard deviations from the reference's mean count as five, so that a few outliers do
    not decide. A constant reference is measured by the magnitude of its value.
    """
    mean = reference.mean or 0.0
    scale = reference.sd or abs(mean) or 1.0
    least = min(x for x in (reference.minimum, current.minimum) if x is not None)
    most = max(x for x in (reference.maximum, current.maximum) if x is not None)
    low, high = max(least, mean - 5 * scale), min(most, mean + 5 * scale)
    p, q = shares(reference), shares(current, reference)
    gaps = [a - b for a, b in zip(accumulate(p), accumulate(q), strict=True)][:-1]
    points = [(least, 0.0), *zip(reference.edges, gaps, strict=True), (most, 0.0)]
    area = 0.0
    for (x0, d0), (x1, d1) in pairwise(points):
        left, right = max(x0, low), min(x1, high)
        if right > left:
            ends = (d0 + (d1 - d0) * ((x - x0) / (x1 - x0)) for x in (left, right))
            area += _area(*ends) * ((right - left) / scale)
    return area


def _area(d0: float, d1: float) -> float:
    """The mean of |d| along a line from d0 to d1."""
    if d0 * d1 >= 0:
        return (abs(d0) + abs(d1)) / 2
    return (d0 * d0 + d1 * d1) / (2 * (abs(d0) + abs(d1)))


def psi(reference: ColumnProfile, current: ColumnProfile) -> float:
    """Population stability index over the reference's bins, smoothed by half a row per bin."""
    p, q = shares(reference, smoothed=True), shares(current, reference, smoothed=True)
    return math.fsum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))


def jensen_shannon(reference: ColumnProfile, current: ColumnProfile) -> float:
    """Jensen–Shannon distance: the square root of the divergence to base 2."""
    pairs = list(zip(shares(reference), shares(current, reference), strict=True))
    terms = (x * math.log2(2 * x / (a + b)) for a, b in pairs for x in (a, b) if x > 0)
    return math.sqrt(min(1.0, max(0.0, math.fsum(terms) / 2)))


def total_variation(reference: ColumnProfile, current: ColumnProfile) -> float:
    """The share of rows that would have to change their bin or category."""
    pairs = zip(shares(reference), shares(current, reference), strict=True)
    return min(1.0, math.fsum(abs(a - b) for a, b in pairs) / 2)


def chi_squared(reference: ColumnProfile, current: ColumnProfile) -> float:
    """Chi-squared as an effect, free of the number of rows: ½ Σ (p−q)²/(p+q) (Le Cam)."""
    pairs = zip(shares(reference), shares(current, reference), strict=True)
    return min(1.0, math.fsum((a - b) ** 2 / (a + b) for a, b in pairs if a + b > 0) / 2)


def missing_rate(reference: ColumnProfile, current: ColumnProfile) -> float:
    """By how much the share of rows without a usable value has changed."""
    return abs(reference.missing_rate - current.missing_rate)


def new_category_share(reference: ColumnProfile, current: ColumnProfile) -> float:
    """By how much the share of values outside the reference's listed categories has grown."""
    return max(0.0, shares(current, reference)[-1] - shares(reference)[-1])


_FUNCTIONS: Mapping[Method, Callable[[ColumnProfile, ColumnProfile], float]] = MappingProxyType(
    {
        "ks": ks,
        "wasserstein": wasserstein,
        "psi": psi,
        "jensen_shannon": jensen_shannon,
        "total_variation": total_variation,
        "chi_squared": chi_squared,
        "missing_rate": missing_rate,
        "new_category_share": new_category_share,
    }
)


def shares(
    column: ColumnProfile, reference: ColumnProfile | None = None, *, smoothed: bool = False
) -> list[float]:
    """The share of values in each of the reference's bins or categories, of which the last is all others.

    :param smoothed: add half a row to every bin.
    """
    counts = bin_counts(column, reference or column)
    extra = _PSEUDO_COUNT if smoothed else 0.0
    total = math.fsum(counts) + extra * len(counts)
    return [(count + extra) / total for count in counts]


def bin_counts(column: ColumnProfile, reference: ColumnProfile) -> list[float]:
    """Rows in each bin or category of ``reference``."""
    if reference.kind in ("categorical", "boolean"):
        by_name = dict(zip(column.categories, column.counts, strict=True))
        listed = [float(by_name.get(name, 0)) for name in reference.categories]
        return [*listed, column.valued - math.fsum(listed)]
    if column.edges == reference.edges:
        return [float(count) for count in column.counts]
    below = [_rows_below(column, edge) for edge in reference.edges]
    return [b - a for a, b in zip([0.0, *below], [*below, float(column.valued)], strict=True)]


def _rows_below(column: ColumnProfile, x: float) -> float:
    """Rows ≤ ``x``, spread evenly within a bin."""
    if column.minimum is None or column.maximum is None or x < column.minimum:
        return 0.0
    if x >= column.maximum:
        return float(column.valued)
    i = bisect_right(column.edges, x)
    low = max(column.edges[i - 1], column.minimum) if i else column.minimum
    high = min(column.edges[i], column.maximum) if i < len(column.edges) else column.maximum
    inside = (x - low) / (high - low) if high > low else 1.0
    return sum(column.counts[:i]) + min(1.0, max(0.0, inside)) * column.counts[i]


def sampling_noise(method: Method, reference: ColumnProfile, current: ColumnProfile) -> float:
    """The effect that independent rows of one distribution stay below in about 99 of 100 comparisons.

    Dvoretzky–Kiefer–Wolfowitz for ``ks``; a chi-squared quantile (Wilson–Hilferty) for the divergences;
    McDiarmid around the mean for ``total_variation``; Wilson for the rates.
    """
    if method == "missing_rate":
        rate = (_missing(reference) + _missing(current)) / max(1, reference.n + current.n)
        return _rate_noise(rate, _effective(reference.n, current.n))
    n = _effective(reference.valued, current.valued)
    both = zip(bin_counts(reference, reference), bin_counts(current, reference), strict=True)
    pooled = [a + b for a, b in both]
    total = math.fsum(pooled) or 1.0
    p = [count / total for count in pooled]
    freedom = max(1, sum(share > 0 for share in p) - 1)
    match method:
        case "ks":
            return _DKW / math.sqrt(n) + _resolution(reference, current)
        case "wasserstein":
            return 2 * _DKW / math.sqrt(n) + _resolution(reference, current)
        case "total_variation":
            mean = math.fsum(math.sqrt(x * (1 - x)) for x in p) / math.sqrt(2 * math.pi * n)
            return mean + _DKW / 2 / math.sqrt(n) + _resolution(reference, current)
        case "psi":
            return _chi_squared_quantile(freedom) / n
        case "jensen_shannon":
            return math.sqrt(_chi_squared_quantile(freedom) / n / (8 * math.log(2)))
        case "chi_squared":
            return _chi_squared_quantile(freedom) / (4 * n)
        case "new_category_share":
            return _rate_noise(p[-1], n)


def learnt_noise(whole: ColumnProfile, chunks: Sequence[ColumnProfile]) -> dict[str, float]:
    """By method, the effect that 95 % of the chunks stay within when each is compared with all the rest.

    Real rows come in clusters (days, sessions, shops) and have seasons; what they do to an effect is learnt
    here and cannot be computed from the number of rows. The fewer the chunks, the less they have shown of
    it, so the figure is widened by two parts in their number.
    """
    effects: dict[str, float] = {}
    for method in METHODS[whole.kind]:
        seen = sorted(measure(method, _without(whole, chunk), chunk) for chunk in chunks)
        effects[method] = seen[math.ceil(0.95 * len(seen)) - 1] * (1 + 2 / len(seen))
    return effects


def _without(whole: ColumnProfile, chunk: ColumnProfile) -> ColumnProfile:
    return replace(
        whole,
        n=whole.n - chunk.n,
        nulls=whole.nulls - chunk.nulls,
        nonfinite=whole.nonfinite - chunk.nonfinite,
        counts=tuple(a - b for a, b in zip(whole.counts, chunk.counts, strict=True)),
        other=whole.other - chunk.other,
    )


def _effective(n: int, m: int) -> float:
    return max(n * m / (n + m), 1.0) if n and m else 1.0


def _missing(column: ColumnProfile) -> int:
    return column.nulls + column.nonfinite


def _resolution(reference: ColumnProfile, current: ColumnProfile) -> float:
    """What interpolation may add when the bins differ: the largest share in one bin of ``current``."""
    if current.edges == reference.edges or not current.valued:
        return 0.0
    wide = [n for i, n in enumerate(current.counts) if not _single_value(current.edges, i)]
    return max(wide) / current.valued


def _single_value(edges: Sequence[float], i: int) -> bool:
    return 0 < i < len(edges) and edges[i] == math.nextafter(edges[i - 1], math.inf)


def _chi_squared_quantile(freedom: int) -> float:
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + _Z * math.sqrt(spread)) ** 3)


def _rate_noise(rate: float, n: float) -> float:
    """Half of Wilson's interval."""
    return _Z / (1 + _Z**2 / n) * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n * n))
