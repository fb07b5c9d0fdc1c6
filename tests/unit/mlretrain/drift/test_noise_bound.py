"""The bound that one more unchanged time chunk stays below."""

from __future__ import annotations

import numpy as np
import pytest

from mlretrain.drift.metrics import UNBOUNDED, Method
from mlretrain.drift.noise import _bound


@pytest.mark.parametrize("chunks", [4, 6, 12])
@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_one_more_chunk_is_beyond_in_less_than_one_of_a_hundred(chunks: int, spread: float) -> None:
    random = np.random.default_rng(chunks)
    effects = np.minimum(1.0, np.abs(random.normal(0, spread, (4_000, chunks + 1))))
    beyond = [row[-1] > _bound("ks", row[:-1].tolist()) for row in effects]
    assert np.mean(beyond) < 0.01


def test_it_is_exceeded_at_the_same_rate_by_distances_without_an_upper_end() -> None:
    random = np.random.default_rng(1)
    effects = np.abs(random.normal(0, 3, (4_000, 13)))
    assert np.mean([row[-1] > _bound("wasserstein", row[:-1].tolist()) for row in effects]) < 0.01


@pytest.mark.parametrize("method", ["ks", "total_variation", "missing_rate"])
def test_a_share_stays_one(method: Method) -> None:
    assert method not in UNBOUNDED
    assert _bound(method, [0.2, 0.9, 0.5, 0.99, 0.1]) <= 1.0


def test_chunks_that_are_all_alike_have_the_effect_that_they_all_show() -> None:
    assert _bound("ks", [0.1] * 8) == pytest.approx(0.1)
    assert _bound("ks", [0.0] * 8) == 0.0


def test_few_chunks_give_twice_the_largest() -> None:
    assert _bound("ks", [0.1, 0.2, 0.05]) == 0.4


def test_more_chunks_allow_a_tighter_bound() -> None:
    seen = [0.1, 0.2, 0.15]
    assert _bound("psi", seen * 6) < _bound("psi", seen * 3) < _bound("psi", [*seen, 0.15])
