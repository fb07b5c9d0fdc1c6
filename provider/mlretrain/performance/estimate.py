"""A classifier's score without labels, from how sure it was: confidence-based performance estimation.

A row whose calibrated probability is 0.8 counts as 0.8 of a positive and 0.2 of a negative, and the metric is
scored on that. Kivimäki, Białek, Kuberski and Nurminen, "Performance Estimation in Binary Classification
Using Calibrated Confidence" (arXiv:2505.05295). It is right as long as the calibration still is: it sees
*which* rows come, not that equal rows now end otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

from mlretrain.errors import ConfigError
from mlretrain.intervals import Interval, draws, quantiles
from mlretrain.performance.calibration import Calibration
from mlretrain.scoring import Array, Predictions, Scorer, scorer

ESTIMABLE = frozenset({"accuracy", "f1", "precision", "recall", "roc_auc", "log_loss", "brier"})


def estimate(
    metric: str,
    scores: Array,
    calibration: Calibration,
    *,
    confidence: float,
    seed: int,
    blocks: Array | None = None,
) -> Interval:
    """The metric that labels of these rows would give, with the interval in which they would put it.

    Each of the bootstrap's draws takes other rows, another map that the holdout might have given, and labels
    by their probabilities.

    :param scores: served probabilities.
    :param calibration: a map, without ``reason``.
    :param blocks: the cluster of each row, as :func:`~mlretrain.intervals.draws` takes them.
    :raises ConfigError: the metric is one of regression.
    """
    import numpy as np

    if metric not in ESTIMABLE:
        raise ConfigError(f"{metric} cannot be estimated without labels", allowed=", ".join(ESTIMABLE))
    score = _doubled(metric, scores)
    random = np.random.default_rng(seed + 1)
    maps = cycle(calibration.drawn)
    n, samples = len(scores), []
    with np.errstate(divide="ignore", invalid="ignore"):
        for weights in draws(n, blocks, seed):
            likely = np.stack([calibration.probability(scores, next(maps)) for _ in weights])
            labels = random.random(likely.shape) < likely
            samples.append(score(np.hstack([weights * labels, weights * ~labels])))
    units = n if blocks is None else int(blocks.max()) + 1
    point = expected([metric], scores, calibration)[metric]
    return point, *quantiles(np.concatenate(samples), confidence, units)


def expected(metrics: Iterable[str], scores: Array, calibration: Calibration) -> dict[str, float]:
    """Each metric that labels of these rows would give, by name; NaN where it is not defined."""
    import numpy as np

    likely = calibration.probability(scores)
    weights = np.concatenate([likely, 1 - likely])[np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {metric: float(_doubled(metric, scores)(weights)[0]) for metric in metrics}


def _doubled(metric: str, scores: Array) -> Scorer:
    """The metric on every row twice, first as a positive, then as a negative."""
    import numpy as np

    return scorer(
        metric, np.repeat([1, 0], len(scores)), Predictions(values=np.tile(scores.astype(float), 2))
    )
