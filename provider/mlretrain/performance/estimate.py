"""A classifier's score without labels, from how sure it was: confidence-based performance estimation.

A row whose calibrated probability is 0.8 counts as 0.8 of a positive and 0.2 of a negative, and the metric is
scored on that. Kivimäki, Białek, Kuberski and Nurminen, "Performance Estimation in Binary Classification
Using Calibrated Confidence" (arXiv:2505.05295). It is right as long as the calibration still is: it sees
*which* rows come, not that equal rows now end otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from math import pi
from typing import Any

from mlretrain.errors import ConfigError
from mlretrain.intervals import Interval, draws, quantiles, time_blocks
from mlretrain.performance.calibration import Calibration
from mlretrain.scoring import Array, Predictions, Scorer, scorer

_FLATTENING = (16 * 3**0.5 / (15 * pi)) ** 2

ESTIMABLE = frozenset({"accuracy", "f1", "precision", "recall", "roc_auc", "log_loss", "brier"})


def estimate(
    metric: str,
    scores: Array,
    calibration: Calibration,
    *,
    confidence: float,
    seed: int,
    seconds: Array | None = None,
) -> Interval:
    """The metric that labels of these rows would give, with the interval in which they would put it.

    Each of the bootstrap's draws takes other rows, another map that the holdout might have given, blocks of
    time as far from the map as the holdout's were, and labels by the probabilities that come of it.

    :param scores: served probabilities.
    :param calibration: a map, without ``reason``.
    :param seconds: each row's time since 1970, if it has one.
    :raises ConfigError: the metric is one of regression.
    """
    import numpy as np

    if metric not in ESTIMABLE:
        raise ConfigError(f"{metric} cannot be estimated without labels", allowed=", ".join(ESTIMABLE))
    score = _doubled(metric, scores)
    random = np.random.default_rng(seed + 1)
    maps = cycle(calibration.drawn)
    blocks = None if seconds is None else time_blocks(seconds)
    shared = _shared(calibration, scores, seconds)
    n, samples = len(scores), []
    with np.errstate(divide="ignore", invalid="ignore"):
        for weights in draws(n, blocks, seed):
            likely = np.stack([calibration.probability(scores, next(maps)) for _ in weights])
            if calibration.shift:
                likely = _shifted(likely, calibration.shift, shared, random)
            labels = random.random(likely.shape) < likely
            samples.append(score(np.hstack([weights * labels, weights * ~labels])))
    units = n if blocks is None else int(blocks.max()) + 1
    point = expected([metric], scores, calibration)[metric]
    return point, *quantiles(np.concatenate(samples), confidence, units)


def _shared(calibration: Calibration, scores: Array, seconds: Array | None) -> Array:
    """The rows that are off the map together: a block as long as the holdout's; without times all of them."""
    import numpy as np

    if seconds is None or calibration.shift_s is None:
        return np.zeros(len(scores), dtype=int)
    return time_blocks(seconds, calibration.shift_s)


def _shifted(likely: Array, shift: float, shared: Array, random: Any) -> Array:
    """Draws of ``likely`` (draws x rows) in which the rows of a block have moved together, in logits.

    The logits are stretched first by as much as the moves flatten them on average (Zeger, Liang & Albert,
    Biometrics 44, 1988), so that the mean of the draws is ``likely`` again.
    """
    import numpy as np

    moves = random.normal(0.0, shift, (len(likely), int(shared.max()) + 1))
    odds = (likely / (1 - likely)) ** np.sqrt(1 + _FLATTENING * shift**2) * np.exp(moves)[:, shared]
    return 1 - 1 / (1 + odds)


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
