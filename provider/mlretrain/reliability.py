"""How far stated probabilities are from what comes true: the expected calibration error.

Bins hold equally many rows: those of equal width are nearly empty where a model's scores do not lie (Nixon et
al., "Measuring Calibration in Deep Learning", CVPR Workshops 2019). The error is the mean over rows of the
distance, in a row's bin, between the mean score and the share of hits (Naeini, Cooper & Hauskrecht, AAAI
2015). It has a floor: chance alone gives a perfectly calibrated model about 0.05 with 1,000 rows, 0.02 with
5,000 and 0.005 with 100,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlretrain.scoring import Array

BINS = 20
LEAST_IN_BIN = 50


def equal_bins(scores: Array) -> Array:
    """The bin of each score, from 0: equally many rows in each, equal scores in one."""
    import numpy as np

    count = max(1, min(BINS, len(scores) // LEAST_IN_BIN))
    edges = np.unique(np.quantile(scores, np.arange(1, count) / count))
    return np.unique(np.searchsorted(edges, scores, side="right"), return_inverse=True)[1]


def excess(scores: Array, hits: Array) -> Array:
    """Rows x (bins + 1): by how much each score is above its hit, in its bin's column; last, a one."""
    import numpy as np

    bins = equal_bins(scores)
    rows = np.zeros((len(scores), int(bins.max()) + 2))
    rows[np.arange(len(scores)), bins] = scores - hits
    rows[:, -1] = 1.0
    return rows


def calibration_error(sums: Array) -> Array:
    """The expected calibration error from (weighted) sums of :func:`excess`."""
    return abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]
