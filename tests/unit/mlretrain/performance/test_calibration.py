"""What a holdout says of the probabilities in a champion's log."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from mlretrain.performance import calibration as module
from mlretrain.performance.calibration import Calibration, calibrate
from mlretrain.scoring import Array, Predictions
from mlretrain.wire import from_wire, pretty


def learn(scores: Array, truth: Array, classes: tuple[Any, ...] = (0, 1), **given: Any) -> Calibration:
    """From a model that serves probabilities."""
    labels = np.asarray(classes)[(scores >= 0.5).astype(int)]
    predictions = Predictions(
        values=labels, probabilities=np.stack([1 - scores, scores], axis=1), classes=classes
    )
    return calibrate(scores.tolist(), predictions, truth, **({"seconds": None, "seed": 0} | given))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_scores_that_are_too_sure_are_put_right(random: np.random.Generator) -> None:
    logit = random.normal(0, 1, 40_000)
    truth = (random.random(40_000) < 1 / (1 + np.exp(-logit))).astype(int)
    sure = 1 / (1 + np.exp(-2 * logit))
    found = learn(sure, truth)
    assert (found.served, found.classes, found.reason, found.rows) == ("probability", (0, 1), None, 40_000)
    assert found.error == pytest.approx(np.abs(sure - 1 / (1 + np.exp(-logit))).mean(), rel=0.1)
    asked = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    right = 1 / (1 + np.exp(-np.log(asked / (1 - asked)) / 2))
    assert found.probability(asked) == pytest.approx(right, abs=0.03)


def test_the_map_never_falls_and_stays_within_bounds(random: np.random.Generator) -> None:
    scores = random.random(3000)
    found = learn(scores, (random.random(3000) < 0.1 + 0.1 * np.sin(20 * scores)).astype(int))
    for shares in (found.shares, *found.drawn):
        mapped = found.probability(np.linspace(0, 1, 1001), shares)
        assert (np.diff(mapped) >= 0).all()
        assert (mapped >= 0).all()
        assert (mapped <= 1).all()


def test_pooling_is_isotonic_regression(random: np.random.Generator) -> None:
    shares, sizes = random.random(30), random.integers(1, 50, 30).astype(float)
    expected = IsotonicRegression().fit_transform(np.arange(30), shares, sample_weight=sizes)
    assert module._rising(shares, sizes) == pytest.approx(expected)


def test_a_bin_that_a_draw_has_left_empty_takes_its_neighbours_share() -> None:
    rising = module._rising(np.array([0.0, 0.2, 0.0, 0.6]), np.array([0.0, 5.0, 0.0, 5.0]))
    assert rising.tolist() == [0.2, 0.2, 0.2, 0.6]


def test_a_few_distinct_scores_are_bins_of_their_own(random: np.random.Generator) -> None:
    scores = random.choice([0.1, 0.5, 0.9], 3000)
    found = learn(scores, (random.random(3000) < scores).astype(int))
    assert found.scores == (0.1, 0.5, 0.9)
    assert found.shares == pytest.approx((0.1, 0.5, 0.9), abs=0.05)


def test_draws_in_blocks_know_less(random: np.random.Generator) -> None:
    day = np.repeat(np.arange(20), 100)
    times = day * 86_400.0
    scores = random.random(2000)
    truth = (random.random(2000) < np.clip(scores + random.normal(0, 0.2, 20)[day], 0, 1)).astype(int)
    spread = [np.std(learn(scores, truth, seconds=each).drawn, axis=0).mean() for each in (None, times)]
    assert spread[1] > 1.5 * spread[0]


def test_days_that_are_off_the_map_beyond_chance_are_noticed(random: np.random.Generator) -> None:
    day, logit = np.repeat(np.arange(30), 300), random.normal(0, 1, 9000)
    scores, shocks = 1 / (1 + np.exp(-logit)), random.normal(0, 0.5, 30)
    alike = (random.random(9000) < scores).astype(int)
    apart = (random.random(9000) < 1 / (1 + np.exp(-(logit + shocks[day])))).astype(int)
    assert learn(scores, alike, seconds=day * 86_400.0).shift < 0.1
    found = learn(scores, apart, seconds=day * 86_400.0)
    assert found.shift == pytest.approx(shocks.std(), abs=0.1)
    assert found.shift_s == 86_400
    assert learn(scores, apart).shift == 0


def test_text_classes(random: np.random.Generator) -> None:
    scores = random.random(2000)
    truth = np.where(random.random(2000) < scores, "on time", "late").astype(object)
    found = learn(scores, truth, ("late", "on time"))
    assert found.classes == ("late", "on time")
    assert found.probability(np.array([0.3])) == pytest.approx([0.3], abs=0.05)


def test_it_travels(random: np.random.Generator) -> None:
    scores = random.random(5000)
    found = learn(scores, (random.random(5000) < scores).astype(int))
    data = pretty(found)
    assert from_wire(Calibration, json.loads(data)) == found
    assert len(data) < 50_000


def ask(values: Any, **given: Any) -> Predictions:
    return Predictions(values=np.asarray(values), **given)


THREE = np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]] * 200)


@pytest.mark.parametrize(
    ("served", "predictions", "truth", "means", "reason"),
    [
        ([1.5, 2.5] * 200, ask([1.5, 2.5] * 200), [1.0, 2.0] * 200, "value", "no probability"),
        ([0, 1] * 200, ask([0, 1] * 200), [0, 1] * 200, "value", "no probability"),
        (
            ["b", "a"] * 200,
            ask(["b", "a"] * 200, probabilities=THREE, classes=("a", "b", "c")),
            ["b", "a"] * 200,
            "value",
            "3 classes",
        ),
        (
            [1, 0] * 200,
            ask(["b", "a"] * 200, probabilities=THREE, classes=("a", "b", "c")),
            ["b", "a"] * 200,
            "position",
            "3 classes",
        ),
        ([0.2, 0.7] * 200, ask([0.2, 0.7] * 200), [0, 1] * 200, "probability", None),
        ([0.2, 0.7] * 50, ask([0.2, 0.7] * 50), [0, 1] * 50, "probability", "100 rows, 50 of the rarer"),
        ([0.2, 0.7] * 200, ask([0.2, 0.7] * 200), [0] * 400, "probability", "0 of the rarer class"),
        ([0.2, float("nan")] * 200, ask([0.2, 0.5] * 200), [0, 1] * 200, "value", "no probability"),
    ],
    ids=["regression", "labels", "of three", "positions", "pyfunc", "few", "one class", "NaN"],
)
def test_what_the_log_will_hold_is_recognised(
    served: list[Any], predictions: Predictions, truth: list[Any], means: str, reason: str | None
) -> None:
    found = calibrate(served, predictions, np.asarray(truth), seconds=None, seed=0)
    assert found.served == means
    assert (found.reason is None) if reason is None else (reason in str(found.reason))
    assert bool(found.drawn) == (reason is None)
