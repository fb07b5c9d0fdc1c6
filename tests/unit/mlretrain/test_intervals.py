"""Intervals are paired, reproducible and as wide as theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlretrain import intervals
from mlretrain.intervals import difference_interval, quantiles, score_interval, time_blocks
from mlretrain.scoring import Array, Predictions


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


HOUR, DAY, WEEK = 3600, 86400, 7 * 86400


@pytest.mark.parametrize(
    ("length", "blocks"),
    [(7 * DAY, 7), (30 * DAY, 30), (90 * DAY, 13), (DAY, 24), (HOUR, 6 * 10)],
    ids=["days of a week", "days of a month", "weeks of a quarter", "hours of a day", "minutes of an hour"],
)
def test_blocks_are_as_long_as_can_be(length: int, blocks: int) -> None:
    start = 2244 * WEEK - 3 * DAY  # 1970 began on a Thursday: this is one
    found = time_blocks(np.linspace(start, start + length, 5000, endpoint=False))
    assert found is not None
    assert len(np.unique(found)) == pytest.approx(blocks, abs=1)
    assert found.min() == 0


def test_rows_without_a_time_are_a_block_of_their_own() -> None:
    found = time_blocks(np.r_[np.arange(10) * DAY, np.nan, np.nan])
    assert found is not None
    assert found[-1] == found[-2]
    assert len(np.unique(found)) == 11


def test_times_that_are_all_alike_say_nothing() -> None:
    assert time_blocks(np.full(100, 1e9)) is None


def _days(random: np.random.Generator, days: int, rows: int) -> tuple[Array, Array, Array]:
    """Rows whose labels follow their scores better on some days than on others: day, score, label."""
    day = np.repeat(np.arange(days), rows)
    steepness, level = np.exp(random.normal(0, 0.6, days))[day], random.normal(0, 0.6, days)[day]
    logit = random.normal(0, 1, days * rows)
    label = random.random(days * rows) < 1 / (1 + np.exp(-(steepness * logit + level)))
    return day, 1 / (1 + np.exp(-logit)), label.astype(int)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy"])
def test_blocks_make_the_interval_of_clustered_rows_honest(metric: str, random: np.random.Generator) -> None:
    _, scores, labels = _days(random, 20_000, 20)
    truth, _, _ = score_interval(
        metric, labels, Predictions(values=scores), confidence=0.95, seed=0, resamples=2
    )
    covered = {"rows": 0, "blocks": 0}
    for seed in range(150):
        day, scores, labels = _days(random, 14, 100)
        for name, blocks in (("rows", None), ("blocks", day)):
            _, low, high = score_interval(
                metric,
                labels,
                Predictions(values=scores),
                confidence=0.95,
                seed=seed,
                blocks=blocks,
                resamples=200,
            )
            covered[name] += low <= truth <= high
    assert covered["rows"] / 150 < 0.8
    assert covered["blocks"] / 150 >= 0.9


def test_a_difference_is_drawn_in_blocks_too(random: np.random.Generator) -> None:
    day, scores, labels = _days(random, 20, 50)
    better, worse = Predictions(values=scores), Predictions(values=np.clip(scores + day / 40, 0, 1))
    by_row, by_block = (
        difference_interval("brier", labels, better, worse, confidence=0.95, seed=1, blocks=blocks)
        for blocks in (None, day)
    )
    assert by_row[0] == by_block[0]
    assert by_block[2] - by_block[1] > 1.5 * (by_row[2] - by_row[1])


def test_draws_without_a_score_are_left_out_or_leave_no_interval() -> None:
    samples = np.r_[np.linspace(0, 1, 95), np.full(5, np.nan)]
    assert quantiles(samples, 0.9, 50) == pytest.approx((0.05, 0.95), abs=0.01)
    assert all(map(math.isnan, quantiles(np.r_[samples, np.full(20, np.nan)], 0.9, 50)))
    assert all(map(math.isnan, quantiles(samples, 0.9, 1)))


def test_few_blocks_make_the_interval_wider() -> None:
    samples = np.linspace(0, 1, 1001)
    widths = [high - low for low, high in (quantiles(samples, 0.9, units) for units in (7, 30, 10_000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(0.9, abs=0.001)
