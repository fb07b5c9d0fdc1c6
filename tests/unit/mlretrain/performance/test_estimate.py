"""Scores without labels are those that labels would give, as long as the calibration holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain.errors import ConfigError
from mlretrain.performance.calibration import Calibration
from mlretrain.performance.estimate import ESTIMABLE, _shifted, estimate, expected
from mlretrain.scoring import Array, Predictions, score

from .test_calibration import learn

METRICS = sorted(ESTIMABLE)


def _sample(random: np.random.Generator, rows: int, shift: float, sureness: float) -> tuple[Array, Array]:
    """Scores, of a model that is surer or less sure than right, and labels."""
    logit = random.normal(shift, 1.5, rows)
    truth = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    return 1 / (1 + np.exp(-sureness * logit)), truth


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    shift=st.floats(-1.0, 1.0),
    sureness=st.floats(0.5, 2.0),
    metric=st.sampled_from(METRICS),
    seed=st.integers(0, 1000),
)
def test_estimates_are_what_labels_would_say(shift: float, sureness: float, metric: str, seed: int) -> None:
    """Another mix of rows than the holdout's, with the same meaning of each score."""
    random = np.random.default_rng(seed)
    calibration = learn(*_sample(random, 5_000, 0.0, sureness))
    scores, truth = _sample(random, 3_000, shift, sureness)
    value, low, high = estimate(metric, scores, calibration, confidence=0.999, seed=seed)
    assert low <= value <= high
    assert low <= score([metric], truth, Predictions(values=scores))[metric] <= high


def test_intervals_hold_as_often_as_they_say() -> None:
    random, hits = np.random.default_rng(2), 0
    for seed in range(60):
        calibration = learn(*_sample(random, 2_000, 0.0, 1.5))
        scores, truth = _sample(random, 1_000, 0.4, 1.5)
        _, low, high = estimate("roc_auc", scores, calibration, confidence=0.9, seed=seed)
        hits += low <= score(["roc_auc"], truth, Predictions(values=scores))["roc_auc"] <= high
    assert hits >= 50


def _days(random: np.random.Generator, days: int) -> tuple[Array, Array, Array]:
    """Scores, labels and times; all rows of a day are a little likelier, or less likely, than they look."""
    day, logit = np.repeat(np.arange(days), 200), random.normal(-1.5, 1, days * 200)
    moved = logit + random.normal(0, 0.6, days)[day]
    truth = (random.random(days * 200) < 1 / (1 + np.exp(-moved))).astype(int)
    return 1 / (1 + np.exp(-logit)), truth, day * 86_400.0


def test_days_that_differ_make_the_interval_wider() -> None:
    random, hits = np.random.default_rng(6), {"with": 0, "without": 0}
    for seed in range(60):
        scores, truth, seconds = _days(random, 40)
        calibration = learn(scores, truth, seconds=seconds)
        scores, truth, seconds = _days(random, 7)
        value = score(["log_loss"], truth, Predictions(values=scores))["log_loss"]
        for name, known in (("with", calibration), ("without", replace(calibration, shift=0.0))):
            _, low, high = estimate("log_loss", scores, known, confidence=0.9, seed=seed, seconds=seconds)
            hits[name] += low <= value <= high
    assert hits["with"] >= 50 > hits["without"]


@pytest.mark.parametrize("shift", [0.3, 0.8])
def test_moves_leave_the_mean_where_it_was(shift: float) -> None:
    likely = np.tile([0.0, 0.05, 0.3, 0.5, 0.9, 1.0], (20_000, 1))
    with np.errstate(divide="ignore"):
        moved = _shifted(likely, shift, np.zeros(6, dtype=int), np.random.default_rng(1))
    assert moved.mean(axis=0) == pytest.approx(likely[0], abs=0.01)
    assert np.corrcoef(moved[:, 2], moved[:, 4])[0, 1] > 0.8


def test_what_equal_scores_mean_may_change_unseen() -> None:
    """The method's limit: labels that no longer follow the scores are not noticed."""
    random = np.random.default_rng(3)
    calibration = learn(*_sample(random, 5_000, 0.0, 1.0))
    scores, truth = _sample(random, 5_000, 0.0, 1.0)
    random.shuffle(truth)
    _, low, _ = estimate("roc_auc", scores, calibration, confidence=0.95, seed=0)
    assert low > 0.7 > score(["roc_auc"], truth, Predictions(values=scores))["roc_auc"]


@pytest.mark.parametrize("metric", METRICS)
def test_sure_answers_are_counted_as_they_are(metric: str) -> None:
    """With probabilities of 0 and 1 there is nothing to estimate."""
    calibration = Calibration(
        served="probability",
        classes=(0, 1),
        rows=1000,
        scores=(0.2, 0.4, 0.6, 0.8),
        shares=(0.0, 1.0, 0.0, 1.0),
        drawn=((0.0, 1.0, 0.0, 1.0),),
    )
    scores = np.array([0.2, 0.4, 0.6, 0.8, 0.8])
    truth = np.array([0, 1, 0, 1, 1])
    known = score([metric], truth, Predictions(values=scores))[metric]
    assert expected([metric], scores, calibration)[metric] == pytest.approx(known)


def test_errors_of_regression_cannot_be_estimated() -> None:
    calibration = Calibration(served="value", rows=1)
    with pytest.raises(ConfigError, match="rmse cannot be estimated"):
        estimate("rmse", np.array([0.5]), calibration, confidence=0.9, seed=0)
