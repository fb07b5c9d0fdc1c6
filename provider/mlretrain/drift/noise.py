"""The effect that a window shows though nothing has changed: by its few rows, and by how real rows come.

Independent rows have bounds that follow from their number. Real rows come in clusters (days, sessions,
shops) and have seasons; what they do to an effect cannot be computed, so it is learnt from the reference's
own time chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist, fmean, median, stdev
from types import MappingProxyType

from mlretrain.drift.bins import align, group, resolution
from mlretrain.drift.metrics import METHODS, UNBOUNDED, Method, measure_all
from mlretrain.drift.profile import ColumnProfile, DriftProfile

ERROR_RATE = 0.01
"""How often a window without any change may show an effect beyond its noise in any of its columns."""
_STUDENT: Mapping[int, float] = MappingProxyType(
    {3: 5.841, 4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 10: 3.169, 12: 3.055, 15: 2.947, 20: 2.845}
)
"""One-sided 99.5 % quantiles of Student's t by degrees of freedom; a larger number takes the last of them.

Half of :data:`ERROR_RATE` for each column: what the few chunks have in common with each other, such as a
trend, is no more than half learnt. How often data sets err is measured in ``tests/benchmarks/verdicts``.
"""
_FEWEST = 4
"""Chunks that a spread can be estimated from."""


def noise(
    method: Method,
    reference: ColumnProfile,
    current: ColumnProfile,
    *,
    comparisons: int = 1,
    chunk_rows: int = 0,
) -> float:
    """The effect that must be exceeded before it says anything.

    :param comparisons: how many columns are judged together; they share :data:`ERROR_RATE` (Bonferroni).
    :param chunk_rows: rows of the chunks that the learnt noise is about; fewer rows show more noise.
    """
    learnt = reference.noise.get(method, 0.0)
    if current.n and chunk_rows > current.n:
        learnt *= math.sqrt(chunk_rows / current.n)
    return max(sampling_noise(method, reference, current, comparisons=comparisons), learnt)


def sampling_noise(
    method: Method, reference: ColumnProfile, current: ColumnProfile, *, comparisons: int = 1
) -> float:
    """The effect that independent rows of one distribution exceed in at most :data:`ERROR_RATE` of reports.

    Dvoretzky–Kiefer–Wolfowitz (Massart 1990) for ``ks``; a chi-squared quantile (Wilson–Hilferty) for the
    divergences; McDiarmid around the mean for ``total_variation``; Wilson for the rates.
    """
    rate = ERROR_RATE / max(1, comparisons)
    z = NormalDist().inv_cdf(1 - rate / 2)
    dkw = math.sqrt(math.log(2 / rate) / 2)
    if method == "missing_rate":
        missing = reference.n * reference.missing_rate + current.n * current.missing_rate
        pooled_rate = missing / max(1, reference.n + current.n)
        return _rate_noise(pooled_rate, _effective(reference.n, current.n), z)
    n = _effective(reference.valued, current.valued)
    if method == "projection":
        pairs = zip(reference.parts, current.parts, strict=False)
        coarse = max((resolution(p, q) for p, q in pairs), default=0.0)
        return math.sqrt(math.log(2 * max(1, len(reference.parts)) / rate) / 2 / n) + coarse
    if method == "centroid":
        return _centroid_noise(reference, n, dkw)
    coarse = resolution(reference, current)
    if method == "ks" or method == "wasserstein":
        return (dkw if method == "ks" else 2 * dkw) / math.sqrt(n) + coarse
    pair = group(align(reference, current))
    pooled = [a + b for a, b in zip(pair.reference, pair.current, strict=True)]
    p = [count / (math.fsum(pooled) or 1.0) for count in pooled]
    freedom = max(1, sum(share > 0 for share in p) - 1)
    match method:
        case "total_variation":
            mean = math.fsum(math.sqrt(x * (1 - x)) for x in p) / math.sqrt(2 * math.pi * n)
            return mean + dkw / 2 / math.sqrt(n) + coarse
        case "psi":
            return _chi_squared_quantile(freedom, z) / n
        case "jensen_shannon":
            return math.sqrt(_chi_squared_quantile(freedom, z) / n / (8 * math.log(2)))
        case "chi_squared":
            return _chi_squared_quantile(freedom, z) / (4 * n)
        case "new_category_share":
            return _rate_noise(p[-1], n, z)


def with_noise(whole: DriftProfile, chunks: Sequence[DriftProfile]) -> DriftProfile:
    """``whole`` with the noise that its time chunks show.

    Chunks that are cut short by the data's ends or by gaps are left out: those that begin before its first
    row or end after its last one, and those of less than half the median's rows. A week without its Sunday
    differs from other weeks by that alone.
    """
    whole_ones = [each for each in chunks if _within(each, whole)]
    usual = median(each.rows for each in whole_ones) if whole_ones else 0
    full = [each for each in whole_ones if 2 * each.rows >= usual]
    if len(full) < 2:
        return whole
    columns = tuple(
        replace(column, noise=learnt_noise(column, [chunk.columns[i] for chunk in full]))
        for i, column in enumerate(whole.columns)
    )
    return replace(whole, columns=columns, chunks=len(full), chunk_rows=round(median(c.rows for c in full)))


def _within(chunk: DriftProfile, whole: DriftProfile) -> bool:
    """Whether the data covers the chunk, give or take a twentieth: the first row may be some hours late."""
    if chunk.start is None or chunk.end is None or whole.start is None or whole.end is None:
        return True
    slack = (chunk.end - chunk.start) / 20
    return chunk.start >= whole.start - slack and chunk.end <= whole.end + slack


def learnt_noise(whole: ColumnProfile, chunks: Sequence[ColumnProfile]) -> dict[str, float]:
    """By method, the effect that one more chunk stays within when it is compared with all the rest.

    Student's prediction bound of 99.5 % from how far each chunk is from the rest; of fewer than four chunks
    twice the largest.
    """
    methods = METHODS[whole.kind]
    seen = [measure_all(methods, without(whole, chunk), chunk) for chunk in chunks]
    return {method: float(f"{_bound(method, [each[method] for each in seen]):.6g}") for method in methods}


def of_two_windows(reference: DriftProfile, champion: DriftProfile) -> DriftProfile:
    """``reference``, itself one window, with the noise of two such windows.

    Either differs from the usual as much as the champion's time chunks do from the rest.
    """
    columns = []
    for column in reference.columns:
        known = champion.column(column.name)
        learnt = {method: math.sqrt(2) * each for method, each in known.noise.items()} if known else {}
        columns.append(replace(column, noise=learnt))
    return replace(reference, columns=tuple(columns), chunks=champion.chunks, chunk_rows=champion.chunk_rows)


def _bound(method: Method, seen: Sequence[float]) -> float:
    """Student's bound where effects that chance makes are about symmetric: on the scale of square roots, and
    of the arcsines of these for effects that are at most 1, as shares are (Anscombe 1948).

    The long upper tail of the effects themselves would exceed a bound two to three times as often as it says.
    """
    n = len(seen)
    if n < _FEWEST:
        return 2 * max(seen)
    quantile = _STUDENT[max(freedom for freedom in _STUDENT if freedom < n)]
    shares = method not in UNBOUNDED
    scaled = [math.asin(math.sqrt(min(1.0, each))) if shares else math.sqrt(each) for each in seen]
    bound = fmean(scaled) + quantile * stdev(scaled) * math.sqrt(1 + 1 / n)
    return math.sin(min(bound, math.pi / 2)) ** 2 if shares else bound * bound


def without(whole: ColumnProfile, chunk: ColumnProfile) -> ColumnProfile:
    """The rest of ``whole``, of which ``chunk`` is a part."""
    counts = whole.counts
    if whole.listed:
        counts = tuple(a - b for a, b in zip(whole.counts, chunk.counts, strict=True))
    else:
        taken = dict(zip(chunk.cells, chunk.counts, strict=True))
        counts = tuple(n - taken.get(cell, 0) for cell, n in zip(whole.cells, whole.counts, strict=True))
    return replace(
        whole,
        n=whole.n - chunk.n,
        nulls=whole.nulls - chunk.nulls,
        nonfinite=whole.nonfinite - chunk.nonfinite,
        counts=counts,
        other=whole.other - chunk.other,
        parts=tuple(without(a, b) for a, b in zip(whole.parts, chunk.parts, strict=True)),
        centroid=_centroid_without(whole, chunk),
    )


def _centroid_without(whole: ColumnProfile, chunk: ColumnProfile) -> tuple[float, ...]:
    rest = whole.valued - chunk.valued
    if not chunk.centroid or not rest:
        return whole.centroid
    weight = chunk.valued / rest
    return tuple(a + weight * (a - b) for a, b in zip(whole.centroid, chunk.centroid, strict=True))


def _effective(n: int, m: int) -> float:
    return max(n * m / (n + m), 1.0) if n and m else 1.0


def _centroid_noise(reference: ColumnProfile, n: float, dkw: float) -> float:
    """How far a mean vector of so many rows is from the true one, in mean norms.

    Gaussian concentration (Tsirelson, Ibragimov & Sudakov 1976) with the whole variance, which is what the
    mean square of the norm has beyond the square of the mean's, in place of that of its widest direction.
    """
    norm = reference.parts[0] if reference.parts else None
    if norm is None or not norm.mean:
        return 0.0
    # Folding may lengthen a mean vector by a tenth.
    folded = len(reference.centroid) != reference.dimension
    still = math.fsum(x * x for x in reference.centroid) * (0.8 if folded else 1.0)
    variance = max(0.0, norm.mean**2 + (norm.sd or 0.0) ** 2 - still)
    return math.sqrt(variance / n) * (1 + 2 * dkw) / norm.mean


def _chi_squared_quantile(freedom: int, z: float) -> float:
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + z * math.sqrt(spread)) ** 3)


def _rate_noise(rate: float, n: float, z: float) -> float:
    """Half of Wilson's interval."""
    return z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n * n))
