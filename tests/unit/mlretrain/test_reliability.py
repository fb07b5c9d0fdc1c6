"""The expected calibration error: by hand, of the likeliest class, and its floor."""

from __future__ import annotations

import numpy as np
import pytest

from mlretrain.intervals import score_interval
from mlretrain.performance.calibration import calibrate
from mlretrain.reliability import BINS, equal_bins
from mlretrain.scoring import Predictions, score


def ece(truth: np.ndarray, predictions: Predictions) -> float:
    return score(["ece"], truth, predictions)["ece"]


def test_it_is_the_mean_distance_of_the_bins() -> None:
    scores = np.repeat([0.2, 0.7], 500)
    truth = np.r_[np.repeat([1, 0], [150, 350]), np.repeat([1, 0], [300, 200])]  # 0.3 and 0.6 come true
    assert ece(truth, Predictions(values=scores)) == pytest.approx(0.1)


def test_bins_hold_equally_many_rows_however_scores_lie() -> None:
    sizes = np.bincount(equal_bins(np.random.default_rng(0).random(10_000) ** 4))
    assert len(sizes) == BINS
    assert sizes.max() - sizes.min() <= 1
    assert set(equal_bins(np.full(1000, 0.5))) == {0}


@pytest.mark.parametrize(("rows", "floor"), [(1000, 0.05), (5000, 0.02), (100_000, 0.005)])
def test_its_floor_is_what_chance_makes_of_a_calibrated_model(rows: int, floor: float) -> None:
    random = np.random.default_rng(1)
    scores = random.beta(2, 5, rows)
    truth = (random.random(rows) < scores).astype(int)
    assert ece(truth, Predictions(values=scores)) == pytest.approx(floor, rel=0.35)
    boastful = Predictions(values=np.clip(scores + 0.1, 0, 1))
    assert ece(truth, boastful) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("stated", "error"), [([0.5, 0.3, 0.2], 0.0), ([1.0, 0.0, 0.0], 0.5)])
def test_of_many_classes_the_likeliest_is_judged(stated: list[float], error: float) -> None:
    truth = np.tile([0, 1, 2, 0], 250)
    predictions = Predictions(
        values=np.zeros(1000, dtype=int), probabilities=np.tile(stated, (1000, 1)), classes=(0, 1, 2)
    )
    assert ece(truth, predictions) == pytest.approx(error)


def test_it_is_the_error_that_is_kept_with_the_calibration() -> None:
    random = np.random.default_rng(2)
    scores = random.random(2000)
    truth = (random.random(2000) < scores**2).astype(int)
    predictions = Predictions(values=scores)
    learnt = calibrate(list(scores), predictions, truth, seconds=None, seed=0)
    assert learnt.error == pytest.approx(ece(truth, predictions))
    _, low, high = score_interval("ece", truth, predictions, confidence=0.95, seed=0)
    assert low < ece(truth, predictions) < high


def test_no_number_no_error() -> None:
    assert np.isnan(ece(np.array([0, 1]), Predictions(values=np.array([0.5, np.nan]))))
