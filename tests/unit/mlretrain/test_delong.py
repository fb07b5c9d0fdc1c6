"""DeLong's interval: by the definition, as published, and as wide as the truth needs it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlretrain.delong import LEAST_OF_A_CLASS, delong_interval
from mlretrain.intervals import difference_interval, score_interval
from mlretrain.scoring import Array, Predictions, score

Z = NormalDist().inv_cdf(0.975)


def interval(
    truth: Array, ours: Array, theirs: Array, blocks: Array | None = None
) -> tuple[float, float, float]:
    candidate, champion = (Predictions(values=np.asarray(each, dtype=float)) for each in (ours, theirs))
    return delong_interval(np.asarray(truth), candidate, champion, confidence=0.95, blocks=blocks)


def by_definition(truth: Array, ours: Array, theirs: Array) -> tuple[float, float]:
    """Estimate and standard error from all pairs of rows of either class, as in the paper of 1988."""
    areas, hits, misses = [], [], []
    for scores in (ours, theirs):
        pairs = np.subtract.outer(scores[truth == 1], scores[truth == 0])
        wins = (pairs > 0) + 0.5 * (pairs == 0)
        areas.append(wins.mean())
        hits.append(wins.mean(axis=1))
        misses.append(wins.mean(axis=0))
    covariance = np.cov(hits) / len(hits[0]) + np.cov(misses) / len(misses[0])
    contrast = np.array([1.0, -1.0])
    return areas[0] - areas[1], math.sqrt(max(0.0, contrast @ covariance @ contrast))


grades = st.integers(0, 8).map(lambda grade: grade / 8)


rows = st.lists(st.tuples(grades, grades), min_size=LEAST_OF_A_CLASS, max_size=30)


@given(rows, rows)
def test_the_fast_algorithm_agrees_with_the_definition(
    hits: list[tuple[float, float]], misses: list[tuple[float, float]]
) -> None:
    truth = np.repeat([1, 0], [len(hits), len(misses)])
    ours, theirs = np.array(hits + misses).T
    estimate, low, high = interval(truth, ours, theirs)
    expected, error = by_definition(truth, ours, theirs)
    assert estimate == pytest.approx(expected, abs=1e-12)
    assert (high - low) / 2 / Z == pytest.approx(error, abs=1e-9)


# The ovarian cancer patients of the paper, as SAS/STAT's "Comparing Receiver Operating Characteristic Curves"
# lists them: albumin, total protein, 10 - Krebs-Goplerud score, and whether the operation helped.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1   3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1   4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1   4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1   3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1   3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.mark.parametrize(
    ("test", "area", "error"),
    [("albumin", 0.7366, 0.0927), ("protein", 0.6478, 0.1000), ("score", 0.7258, 0.1028)],
)
def test_areas_and_errors_are_those_published(test: str, area: float, error: float) -> None:
    albumin, protein, grade, helped = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4).T
    scores = {"albumin": albumin / 10, "protein": protein / 10, "score": 1 - grade / 10}[test]
    useless = np.zeros(len(helped))  # has the area 1/2 and adds no variance
    estimate, low, high = interval(helped.astype(int), scores, useless)
    assert estimate + 0.5 == pytest.approx(area, abs=5e-5)
    assert (high - low) / 2 / Z == pytest.approx(error, abs=5e-5)


def _models(random: np.random.Generator, rows: int, days: int | None = None) -> tuple[Array, ...]:
    """Truth, and the scores of two equally good models; with ``days`` each is better on some of them."""
    truth = random.random(rows) < 0.3
    day = None if days is None else np.sort(random.integers(0, days, rows))
    shared = truth * 1.2 + random.normal(0, 0.6, rows)
    scores = []
    for _ in range(2):
        luck = 0.0 if days is None else truth * random.normal(0, 0.6, days)[day]
        scores.append(1 / (1 + np.exp(-(shared + luck + random.normal(0, 0.8, rows)))))
    return truth.astype(int), scores[0], scores[1], day


@pytest.mark.parametrize("rows", [100, 1000])
def test_the_interval_holds_the_truth_as_often_as_it_says(rows: int) -> None:
    random = np.random.default_rng(5)
    found = [interval(*_models(random, rows)) for _ in range(1000)]
    assert np.mean([low <= 0 <= high for _, low, high in found]) == pytest.approx(0.95, abs=0.02)


def test_rows_of_one_day_are_not_taken_for_independent() -> None:
    random = np.random.default_rng(5)
    drawn = [_models(random, 1000, days=14) for _ in range(400)]
    covered = {
        name: np.mean([low <= 0 <= high for _, low, high in found])
        for name, found in {
            "rows": [interval(*each[:3]) for each in drawn],
            "days": [interval(*each) for each in drawn],
        }.items()
    }
    assert covered["rows"] < 0.8
    assert covered["days"] == pytest.approx(0.95, abs=0.03)


def test_it_agrees_with_the_bootstrap() -> None:
    truth, ours, theirs, _ = _models(np.random.default_rng(3), 5000)
    candidate, champion = Predictions(values=ours), Predictions(values=theirs)
    estimate, low, high = interval(truth, ours, theirs)
    other = difference_interval("roc_auc", truth, candidate, champion, confidence=0.95, seed=1)
    assert estimate == pytest.approx(other[0], abs=1e-12)
    assert (low, high) == pytest.approx(other[1:], abs=0.1 * (high - low))


def test_names_of_classes_do_not_matter() -> None:
    truth, ours, theirs, _ = _models(np.random.default_rng(3), 200)
    named = [
        Predictions(
            values=np.where(each > 0.5, "late", "early").astype(object),
            probabilities=np.stack([1 - each, each], axis=1),
            classes=("early", "late"),
        )
        for each in (ours, theirs)
    ]
    words = np.where(truth == 1, "late", "early").astype(object)
    assert delong_interval(words, *named, confidence=0.95) == pytest.approx(interval(truth, ours, theirs))


ONES, HALF = np.ones(30, dtype=int), np.array([0, 1] * 15)
RANKS = np.linspace(0.1, 0.9, 30)


@pytest.mark.parametrize(
    ("truth", "ours", "blocks"),
    [
        (ONES, RANKS, None),
        (np.r_[ONES[:21], np.zeros(9, dtype=int)], RANKS, None),
        (HALF, np.r_[RANKS[:29], np.nan], None),
        (HALF[:0], RANKS[:0], None),
        (HALF, RANKS, np.zeros(30, dtype=int)),
    ],
    ids=["one class", "nine rows of a class", "no number", "no rows", "one block"],
)
def test_where_it_is_not_defined_there_is_none(truth: Array, ours: Array, blocks: Array | None) -> None:
    assert all(map(math.isnan, interval(truth, ours, ours, blocks)[1:]))


def test_more_than_two_classes_have_none() -> None:
    truth = np.array([0, 1, 2] * 20)
    three = Predictions(values=truth, probabilities=np.eye(3)[truth], classes=(0, 1, 2))
    assert math.isnan(delong_interval(truth, three, three, confidence=0.95)[0])


def test_models_that_say_the_same_differ_by_nothing() -> None:
    assert interval(HALF, RANKS, RANKS) == (0.0, 0.0, 0.0)
    values = Predictions(values=RANKS)
    alone, _, _ = score_interval("roc_auc", HALF, values, confidence=0.95, seed=0, resamples=2)
    assert score(["roc_auc"], HALF, values)["roc_auc"] == alone
