"""How sure the difference between two models is, given the rows they were judged on."""

from __future__ import annotations

from mlretrain.scoring import Array, Predictions, scorer

RESAMPLES = 400


def difference_interval(
    metric: str,
    truth: Array,
    candidate: Predictions,
    champion: Predictions,
    *,
    confidence: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float, float]:
    """``(difference, low, high)``: candidate minus champion with a two-sided paired bootstrap interval.

    Both models are scored on the same resampled rows, so that what is hard for both cancels out
    (Efron & Tibshirani, An Introduction to the Bootstrap, ch. 13: percentile interval).
    """
    import numpy as np

    ours, theirs = (scorer(metric, truth, each) for each in (candidate, champion))
    n, random = len(truth), np.random.default_rng(seed)

    def difference(weights: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return ours(weights) - theirs(weights)

    def drawn(size: int) -> Array:
        draws = [np.bincount(random.integers(0, n, n), minlength=n) for _ in range(size)]
        return np.stack(draws).astype(float)

    point = float(difference(np.ones((1, n)))[0])
    if not n:
        return point, point, point
    resampled = np.concatenate([difference(drawn(size)) for size in _batches(resamples, n)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return point, float(low), float(high)


def _batches(resamples: int, n: int) -> list[int]:
    """Sizes that keep the weights of a batch within a processor's cache (4 MB)."""
    size = max(1, min(resamples, 500_000 // max(n, 1)))
    whole, rest = divmod(resamples, size)
    return [size] * whole + ([rest] if rest else [])
