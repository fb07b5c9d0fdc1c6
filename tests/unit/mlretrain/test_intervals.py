"""Intervals are paired, reproducible and as wide as theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlretrain import intervals
from mlretrain.intervals import difference_interval
from mlretrain.scoring import Predictions


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_the_interval_pairs_the_models_and_is_reproducible(random: np.random.Generator) -> None:
    truth = random.integers(0, 2, 500)
    better = Predictions(values=np.clip(truth * 0.3 + random.random(500) * 0.7, 0, 1))
    worse = Predictions(values=random.random(500))

    first = difference_interval("roc_auc", truth, better, worse, confidence=0.95, seed=3)
    again = difference_interval("roc_auc", truth, better, worse, confidence=0.95, seed=3)
    same = difference_interval("roc_auc", truth, better, better, confidence=0.95, seed=3)

    assert first == again
    assert 0 < first[1] < first[0] < first[2]
    assert same == (0.0, 0.0, 0.0)


def test_the_interval_is_as_wide_as_theory_says(random: np.random.Generator) -> None:
    truth = random.normal(0, 1, 2000)
    candidate, champion = (Predictions(values=truth + random.normal(0, 1, 2000)) for _ in range(2))
    losses = np.abs(truth - candidate.values) - np.abs(truth - champion.values)

    _, low, high = difference_interval("mae", truth, candidate, champion, confidence=0.9, seed=1)

    assert (high - low) == pytest.approx(2 * 1.645 * losses.std() / math.sqrt(2000), rel=0.1)


def test_batches_do_not_change_the_number_of_resamples() -> None:
    assert sum(intervals._batches(400, 3_000_000)) == 400
    assert max(intervals._batches(400, 3_000_000)) == 1
