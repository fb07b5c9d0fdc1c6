from datetime import UTC, datetime

import pytest

from mlretrain.serving.compare import Comparison
from mlretrain.serving.stats import KEPT_S, ServedStats, StatsLog

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = MONDAY.timestamp()

    def __call__(self) -> float:
        return self.now


def test_errors_are_the_models_and_client_errors_the_callers() -> None:
    log = StatsLog(Clock())
    for code in (200, 200, 400, 415, 500, 504):
        log.record("m", "7", code, 0.01)

    stats = log.since("m", MONDAY)["7"]

    assert (stats.requests, stats.errors, stats.client_errors) == (6, 2, 2)


def test_only_requests_since_the_instants_second_count() -> None:
    clock = Clock()
    log = StatsLog(clock)
    for second in range(5):
        clock.now = MONDAY.timestamp() + second + 0.7
        log.record("m", "7", 200, 0.01)

    assert log.since("m", MONDAY.replace(second=3, microsecond=900_000))["7"].requests == 2
    assert log.since("m", MONDAY)["7"].requests == 5
    assert log.since("m", MONDAY.replace(second=9)) == {}


def test_models_are_kept_apart_and_idle_versions_can_be_listed() -> None:
    log = StatsLog(Clock())
    log.record("m", "7", 200, 0.01)
    log.record("other", "7", 500, 0.01)

    stats = log.since("m", MONDAY, ["7", "8"])

    assert stats["7"].errors == 0
    assert stats["8"] == ServedStats()


def test_seconds_older_than_a_day_are_forgotten() -> None:
    clock = Clock()
    log = StatsLog(clock)
    log.record("m", "7", 200, 0.01)
    clock.now += KEPT_S
    log.record("m", "7", 200, 0.01)

    assert log.since("m", MONDAY)["7"].requests == 1


@pytest.mark.parametrize("scale_s", [0.0005, 0.02, 3.0])
def test_quantiles_are_within_one_percent(scale_s: float) -> None:
    log = StatsLog(Clock())
    latencies = [scale_s * (1 + i / 100) for i in range(1000)]
    for latency in latencies:
        log.record("m", "7", 200, latency)

    stats = log.since("m", MONDAY)["7"]

    assert stats.latency_p50_ms == pytest.approx(1000 * latencies[499], rel=0.0101)
    assert stats.latency_p95_ms == pytest.approx(1000 * latencies[949], rel=0.0101)
    assert stats.latency_p99_ms == pytest.approx(1000 * latencies[989], rel=0.0101)


def test_answers_that_were_compared_count_from_the_instant() -> None:
    clock = Clock()
    log = StatsLog(clock)
    log.compared("m", "8", Comparison(rows=5, differing=5, differences=(9.0,) * 5))
    clock.now += 10
    log.compared("m", "8", Comparison(rows=90, differing=0, differences=(0.0,) * 90))
    log.compared("m", "8", Comparison(rows=10, differing=9, differences=(0.0, *(0.25,) * 9)))

    stats = log.since("m", MONDAY.replace(second=10))["8"]

    assert (stats.requests, stats.compared, stats.disagreement) == (0, 100, 0.09)
    assert stats.difference_p95 == pytest.approx(0.25, rel=0.0101)


def test_labels_have_no_difference_and_equal_numbers_one_of_zero() -> None:
    log = StatsLog(Clock())
    log.compared("m", "8", Comparison(rows=2, differing=1))
    log.compared("m", "9", Comparison(rows=2, differing=0, differences=(0.0, 1e-15)))

    stats = log.since("m", MONDAY)

    assert (stats["8"].disagreement, stats["8"].difference_p95) == (0.5, None)
    assert (stats["9"].disagreement, stats["9"].difference_p95) == (0.0, 0.0)
