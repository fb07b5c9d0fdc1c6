"""DeLong's interval of the difference between two areas under the ROC curve on the same rows.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more correlated
receiver operating characteristic curves: a nonparametric approach", Biometrics 44 (1988); computed from ranks
as in X. Sun and W. Xu, "Fast implementation of DeLong's algorithm for comparing the areas under correlated
receiver operating characteristic curves", IEEE Signal Processing Letters 21 (2014). Of rows in clusters the
components are summed by cluster: N. A. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
Biometrics 53 (1997).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from mlretrain.intervals import Interval, student
from mlretrain.scoring import Array, Predictions, ranking

LEAST_OF_A_CLASS = 10
"""With fewer rows of the rarer class the variance itself is hardly known: a 95 % interval holds the truth
93 % of the time with 10 of 300 rows, 90 % with 5, 80 % with 2 (2,000 repetitions).
"""


def delong_interval(
    truth: Array,
    candidate: Predictions,
    champion: Predictions,
    *,
    confidence: float,
    blocks: Array | None = None,
) -> Interval:
    """Candidate minus champion with a two-sided interval; ``nan`` unless both rank the same two classes,
    of each of which there are :data:`LEAST_OF_A_CLASS` rows.

    :param blocks: the cluster of each row, numbered from 0; without, the rows are taken as independent.
    """
    ours, theirs = ranking(truth, candidate), ranking(truth, champion)
    if ours is None or theirs is None or (ours[0] != theirs[0]).any():
        return math.nan, math.nan, math.nan
    positive = ours[0]
    if min(positive.sum(), len(positive) - positive.sum()) < LEAST_OF_A_CLASS:
        return math.nan, math.nan, math.nan
    (area, influence), (rival, rivals) = (_area(positive, scores) for _, scores in (ours, theirs))
    error = _standard_error(influence - rivals, positive, blocks)
    half = error * _quantile(confidence, blocks)
    return area - rival, area - rival - half, area - rival + half


def _area(positive: Array, scores: Array) -> tuple[float, Array]:
    """The area, and by how much each row moves it: its structural component less the area, over the number of
    rows of its class.
    """
    import numpy as np

    hits, misses = scores[positive], scores[~positive]
    ranks = _midranks(scores)
    placed = np.empty(len(scores))
    placed[positive] = (ranks[positive] - _midranks(hits)) / len(misses)
    placed[~positive] = 1 - (ranks[~positive] - _midranks(misses)) / len(hits)
    area = float(placed[positive].mean())
    return area, (placed - area) / np.where(positive, len(hits), len(misses))


def _midranks(values: Array) -> Array:
    """The rank of each value from 1; equal values share the middle of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _standard_error(influence: Array, positive: Array, blocks: Array | None) -> float:
    import numpy as np

    if blocks is None:
        parts = (influence[positive], influence[~positive])
        return math.sqrt(sum(len(part) / (len(part) - 1) * float((part**2).sum()) for part in parts))
    moved = np.bincount(blocks, influence)
    return math.sqrt(len(moved) / (len(moved) - 1) * float((moved**2).sum())) if len(moved) > 1 else math.nan


def _quantile(confidence: float, blocks: Array | None) -> float:
    """Student's where clusters are few, as the bootstrap's interval is widened."""
    if blocks is None:
        return NormalDist().inv_cdf((1 + confidence) / 2)
    return student(confidence, max(1, int(blocks.max())))
