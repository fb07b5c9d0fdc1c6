"""Whoever looks after every request is not fooled by chance, and sees what is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from mlretrain.gates.certainty import (
    ERROR_RATE,
    deviations,
    quantile_error,
    rate_exceeds,
    rates_differ,
)

RUNS = 200
LOOKS = range(20, 1500, 20)


def share_of(runs: Callable[[np.random.Generator], bool]) -> float:
    return float(np.mean([runs(np.random.default_rng(seed)) for seed in range(RUNS)]))


@pytest.mark.parametrize(("rate", "limit", "caught"), [(0.02, 0.02, False), (0.08, 0.02, True)])
def test_an_error_rate_at_its_limit_is_not_taken_for_more(rate: float, limit: float, caught: bool) -> None:
    def run(random: np.random.Generator) -> bool:
        errors = np.cumsum(random.random(1500) < rate)
        return any(rate_exceeds(int(errors[n - 1]), n, limit) for n in range(1, 1500))

    share = share_of(run)
    assert share == 1.0 if caught else share <= ERROR_RATE


@pytest.mark.parametrize(("rate", "caught"), [(0.03, False), (0.12, True)])
def test_as_many_errors_as_the_champion_has_are_no_more(rate: float, caught: bool) -> None:
    def run(random: np.random.Generator) -> bool:
        errors, theirs = np.cumsum(random.random(1500) < rate), np.cumsum(random.random(13_500) < 0.03)
        return any(
            rates_differ(
                int(errors[n - 1]), n, int(theirs[9 * n - 1]), 9 * n, ratio=1.0, increase=0.0, least=20
            )
            for n in LOOKS
        )

    share = share_of(run)
    assert share == 1.0 if caught else share <= ERROR_RATE


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
@pytest.mark.parametrize(("slower", "caught"), [(1.0, False), (2.0, True)])
def test_a_latency_at_its_limit_is_not_taken_for_more(share: float, slower: float, caught: bool) -> None:
    limit = math.exp(0.5 * NormalDist().inv_cdf(share))

    def run(random: np.random.Generator) -> bool:
        latencies = slower * np.exp(random.normal(0, 0.5, 1500))
        return any(beyond(latencies[:n], share, limit) for n in LOOKS[::2])

    found = share_of(run)
    assert found > 0.99 if caught else found <= ERROR_RATE


def beyond(latencies: NDArray[np.float64], share: float, limit: float) -> bool:
    n = len(latencies)
    p50, p95, p99 = np.quantile(latencies, [0.5, 0.95, 0.99], method="inverted_cdf")
    value = {0.5: p50, 0.95: p95, 0.99: p99}[share]
    return bool(math.log(value / limit) > deviations(n / 20) * quantile_error(share, n, p50, p95, p99))


@pytest.mark.parametrize(
    ("events", "n", "limit", "certain"),
    [(0, 0, 0.0, False), (1, 1000, 0.0, True), (5, 5, 1.0, False), (0, 9, 0.5, False), (1, 1, 0.5, False)],
)
def test_the_ends_of_the_scale(events: int, n: int, limit: float, certain: bool) -> None:
    assert rate_exceeds(events, n, limit) is certain


def test_the_bound_widens_slowly() -> None:
    assert deviations(0.1) == deviations(1) == pytest.approx(2.77, abs=0.05)
    assert deviations(100) == pytest.approx(3.32, abs=0.05)
