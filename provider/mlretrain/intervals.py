"""How sure a score, or the difference between two models, is, given the rows they were judged on.

Rows come in clusters: the flights of one day share its weather, the clicks of one session their user. Drawing
rows one by one (the plain bootstrap) then promises far too much, so where the rows' times are known whole
blocks of time are drawn instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

from mlretrain.scoring import Array, Predictions, scorer

RESAMPLES = 400

LEAST_BLOCKS = 7
"""So that a week of days is one; with fewer the draws are too much alike to say anything."""

SPANS_S = (7 * 86_400, 86_400, 6 * 3_600, 3_600, 600, 60)
"""Lengths of the blocks of time, longest first: a block should outlast what makes its rows alike."""

Interval = tuple[float, float, float]
"""``(estimate, low, high)``; ``nan`` where it is not defined."""


def block_span(seconds: Array) -> float | None:
    """The longest of :data:`SPANS_S` of which there are :data:`LEAST_BLOCKS`; ``None`` if even minutes are
    fewer, where time tells nothing.

    :param seconds: each row's time since 1970; ``nan`` where unknown.
    """
    import numpy as np

    enough = (span for span in SPANS_S if len(np.unique(np.floor(seconds / span))) >= LEAST_BLOCKS)
    return next(enough, None)


def time_blocks(seconds: Array, span: float | None = None) -> Array | None:
    """The block of each row, from 0, aligned in UTC; rows of unknown time are one block more.

    :param seconds: each row's time since 1970; ``nan`` where unknown.
    :param span: of a block, in seconds; none: :func:`block_span`, and ``None`` if there is none.
    """
    import numpy as np

    span = span or block_span(seconds)
    return None if span is None else np.unique(np.floor(seconds / span), return_inverse=True)[1]


def score_interval(
    metric: str,
    truth: Array,
    predictions: Predictions,
    *,
    confidence: float,
    seed: int,
    blocks: Array | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """The score of one model with a two-sided bootstrap interval.

    :param blocks: the cluster of each row, numbered from 0; without, the rows are taken as independent.
    """
    score = scorer(metric, truth, predictions)
    return _interval(score, len(truth), confidence, seed, blocks, resamples)


def difference_interval(
    metric: str,
    truth: Array,
    candidate: Predictions,
    champion: Predictions,
    *,
    confidence: float,
    seed: int,
    blocks: Array | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """Candidate minus champion with a two-sided paired bootstrap interval.

    Both models are scored on the same resampled rows, so that what is hard for both cancels out.

    :param blocks: as in :func:`score_interval`.
    """
    ours, theirs = (scorer(metric, truth, each) for each in (candidate, champion))
    return _interval(
        lambda weights: ours(weights) - theirs(weights), len(truth), confidence, seed, blocks, resamples
    )


def draws(n: int, blocks: Array | None, seed: int, resamples: int = RESAMPLES) -> Iterator[Array]:
    """How often each of ``n`` rows is in each of ``resamples`` draws, some draws x n at a time."""
    import numpy as np

    random = np.random.default_rng(seed)
    units = n if blocks is None else int(blocks.max()) + 1
    for size in _batches(resamples, n):
        drawn = [np.bincount(random.integers(0, units, units), minlength=units) for _ in range(size)]
        counts = np.stack(drawn).astype(float)
        yield counts if blocks is None else counts[:, blocks]


def quantiles(samples: Array, confidence: float, units: int) -> tuple[float, float]:
    """Both ends of the interval that the bootstrap's ``samples`` of a score span.

    Percentiles, taken further out the fewer ``units`` (rows or blocks) were drawn from, by as much as
    Student's interval of a mean is wider than that of a known variance: the expanded percentile interval of
    Hesterberg, "What Teachers Should Know About the Bootstrap" (2015). Samples without a score, such as draws
    of one class only, are left out; where they are more than a tenth there is no interval.
    """
    import numpy as np

    defined = samples[np.isfinite(samples)]
    if units < 2 or len(defined) < 0.9 * len(samples):
        return math.nan, math.nan
    tail = NormalDist().cdf(-math.sqrt(units / (units - 1)) * student(confidence, units - 1))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _interval(
    score: Callable[[Array], Array],
    n: int,
    confidence: float,
    seed: int,
    blocks: Array | None,
    resamples: int,
) -> Interval:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        point = float(score(np.ones((1, n)))[0])
        if not n:
            return point, point, point
        samples = np.concatenate([score(weights) for weights in draws(n, blocks, seed, resamples)])
    units = n if blocks is None else int(blocks.max()) + 1
    return point, *quantiles(samples, confidence, units)


def student(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's t, within 1 % from five degrees of freedom on.

    Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _batches(resamples: int, n: int) -> list[int]:
    """Sizes that keep the weights of a batch within a processor's cache (4 MB)."""
    size = max(1, min(resamples, 500_000 // max(n, 1)))
    whole, rest = divmod(resamples, size)
    return [size] * whole + ([rest] if rest else [])
