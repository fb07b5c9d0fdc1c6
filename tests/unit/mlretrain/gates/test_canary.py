"""A canary advances, holds or is rolled back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.gates.canary import Guard, Sighting, judge_canary
from mlretrain.gates.predictions import PredictionShift
from mlretrain.ports import VersionStats

GUARDS = (Guard(metric="error_rate", max=0.01), Guard(metric="latency_p95_ms", max=200))
FAST: dict[str, Any] = {"latency_p50_ms": 5.0, "latency_p95_ms": 10.0, "latency_p99_ms": 15.0}
SLOW: dict[str, Any] = {"latency_p50_ms": 10.0, "latency_p95_ms": 20.0, "latency_p99_ms": 30.0}


def stats(requests: int, errors: int = 0, **fields: Any) -> VersionStats:
    return replace(VersionStats(requests=requests, errors=errors, **FAST), **fields)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (
            VersionStats(requests=500, errors=5, latency_p95_ms=200.0),
            "advance: 2 guards hold over 500 requests",
        ),
        (VersionStats(requests=20, latency_p95_ms=900.0), "hold: requests is 20, required ≥ 100; "),
        (VersionStats(requests=20, errors=1, latency_p95_ms=9.0), "hold: requests is 20, required ≥ 100; "),
        (
            VersionStats(requests=20, errors=4, latency_p95_ms=9.0),
            "roll_back: error_rate is 0.2, required ≤ 0.01 (20 requests)",
        ),
        (
            VersionStats(requests=100, errors=1, latency_p95_ms=201.0),
            "roll_back: latency_p95_ms is 201, required ≤ 200 (100 requests)",
        ),
        (VersionStats(requests=100), "hold: latency_p95_ms is not measured, required ≤ 200"),
        (VersionStats(), "hold: requests is 0, required ≥ 100; "),
    ],
)
def test_the_verdict_is_its_reasons_first_word(seen: VersionStats, reason: str) -> None:
    verdict = judge_canary(GUARDS, Sighting(stats=seen), min_requests=100)
    assert verdict.reason.startswith(reason)
    assert verdict.reason.startswith(verdict.verdict)


@pytest.mark.parametrize(
    ("requests", "errors", "verdict"),
    [
        (100, 1, "advance"),
        (100, 2, "hold"),
        (100, 6, "hold"),
        (100, 7, "roll_back"),
        (1000, 20, "hold"),
        (1000, 30, "roll_back"),
        # Fewer than asked for, but the budget of one in a hundred is spent, and not by chance.
        (50, 1, "hold"),
        (3, 3, "roll_back"),
    ],
)
def test_errors_are_no_breach_until_chance_is_ruled_out(requests: int, errors: int, verdict: str) -> None:
    guards = (Guard(metric="error_rate", max=0.01),)
    seen = Sighting(stats=stats(requests, errors))

    judged = judge_canary(guards, seen, min_requests=100)

    assert judged.verdict == verdict
    by_chance = "perhaps by chance" in (judged.checks[1].note or "")
    assert by_chance == (verdict == "hold" and errors / requests > 0.01)


@pytest.mark.parametrize(
    ("guard", "version", "champion", "verdict"),
    [
        ({"max_increase": 0.005}, stats(200, 1), stats(2000, 10), "advance"),
        ({"max_increase": 0.005}, stats(200, 4), stats(2000, 10), "hold"),
        ({"max_increase": 0.005}, stats(200, 30), stats(2000, 10), "roll_back"),
        ({"max_ratio": 2.0}, stats(200, 2), stats(2000, 10), "advance"),
        ({"max_ratio": 2.0}, stats(200, 30), stats(2000, 10), "roll_back"),
        ({"max_increase": 0.005}, stats(200, 30), stats(2000, 300), "advance"),
        ({"max_increase": 0.005}, stats(20, 20), stats(2000, 10), "hold"),
        ({"max_increase": 0.005}, stats(200, 30), stats(20, 0), "hold"),
        ({"max_increase": 0.005}, stats(200, 0), VersionStats(), "hold"),
    ],
)
def test_errors_are_compared_with_the_champions_of_the_same_time(
    guard: dict[str, float], version: VersionStats, champion: VersionStats, verdict: str
) -> None:
    guards = (Guard(metric="error_rate", versus="champion", **guard),)
    seen = Sighting(stats=version, champion=champion)

    assert judge_canary(guards, seen, min_requests=50).verdict == verdict


@pytest.mark.parametrize(
    ("guard", "requests", "champion", "verdict"),
    [
        ({"max_ratio": 1.3}, 2000, FAST, "roll_back"),
        ({"max_ratio": 1.9}, 2000, FAST, "hold"),
        ({"max_ratio": 1.8}, 50, FAST, "hold"),
        ({"max_ratio": 2.0}, 2000, FAST, "advance"),
        ({"max_ratio": 1.3}, 2000, SLOW, "advance"),
        ({"max_increase": 2.0}, 2000, FAST, "roll_back"),
        ({"max_increase": 20.0}, 2000, FAST, "advance"),
    ],
)
@pytest.mark.parametrize("metric", ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"])
def test_latencies_are_compared_with_the_champions_of_the_same_time(
    metric: Any, guard: dict[str, Any], requests: int, champion: dict[str, Any], verdict: str
) -> None:
    guards = (Guard(metric=metric, versus="champion", **guard),)
    seen = Sighting(stats=stats(requests, **SLOW), champion=stats(20_000, **champion))

    assert judge_canary(guards, seen, min_requests=50).verdict == verdict


def test_a_first_version_is_compared_with_nobody() -> None:
    guards = (
        Guard(metric="error_rate", versus="champion", max_ratio=1.0),
        Guard(metric="prediction_shift", max=0.1),
    )

    judged = judge_canary(guards, Sighting(stats=stats(100, 9)), min_requests=50)

    assert judged.verdict == "advance"
    assert [check.observed for check in judged.checks] == ["100", *["no champion to compare with"] * 2]


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [
        (PredictionShift(effect=0.08, certain=0.02, rows=500, champion_rows=4000), "advance"),
        (PredictionShift(effect=0.15, certain=0.09, rows=500, champion_rows=4000), "hold"),
        (PredictionShift(effect=0.25, certain=0.11, rows=500, champion_rows=4000), "roll_back"),
        (None, "hold"),
    ],
)
def test_predictions_may_shift_by_chance_and_no_further(shift: PredictionShift | None, verdict: str) -> None:
    seen = Sighting(stats=stats(500), champion=stats(4000), shift=shift)

    assert judge_canary((Guard(metric="prediction_shift", max=0.1),), seen).verdict == verdict


@pytest.mark.parametrize(
    ("guard", "fields", "verdict"),
    [
        ({"metric": "disagreement", "max": 0.05}, {"compared": 400, "disagreement": 0.05}, "advance"),
        ({"metric": "disagreement", "max": 0.05}, {"compared": 400, "disagreement": 0.07}, "hold"),
        ({"metric": "disagreement", "max": 0.05}, {"compared": 400, "disagreement": 0.2}, "roll_back"),
        # A hundred thousand rows of two hundred requests say no more than two hundred.
        ({"metric": "disagreement", "max": 0.05}, {"compared": 100_000, "disagreement": 0.07}, "hold"),
        ({"metric": "disagreement", "max": 0.05}, {}, "hold"),
        ({"metric": "disagreement", "max": 0.0}, {"compared": 400, "disagreement": 0.0}, "advance"),
        ({"metric": "disagreement", "max": 0.0}, {"compared": 400, "disagreement": 0.01}, "roll_back"),
        ({"metric": "difference_p95", "max": 0.1}, {"compared": 400, "difference_p95": 0.1}, "advance"),
        ({"metric": "difference_p95", "max": 0.1}, {"compared": 400, "difference_p95": 0.2}, "roll_back"),
        ({"metric": "difference_p95", "max": 0.1}, {"compared": 400, "disagreement": 0.5}, "hold"),
    ],
)
def test_a_shadow_is_judged_by_how_it_differs(
    guard: dict[str, Any], fields: dict[str, Any], verdict: str
) -> None:
    seen = Sighting(stats=stats(200, **fields), champion=stats(200))

    assert judge_canary((Guard(**guard),), seen, min_requests=50).verdict == verdict


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "error_rate"},
        {"metric": "error_rate", "max": 0.1, "max_ratio": 2.0},
        {"metric": "error_rate", "max_ratio": 2.0},
        {"metric": "error_rate", "versus": "champion"},
        {"metric": "error_rate", "versus": "champion", "max": 0.1},
        {"metric": "error_rate", "versus": "champion", "max_ratio": 2.0, "max_increase": 0.1},
        {"metric": "disagreement", "versus": "champion", "max_ratio": 2.0},
        {"metric": "prediction_shift", "versus": "champion", "max_increase": 0.1},
    ],
)
def test_a_guard_that_says_too_little_or_too_much_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="this guard cannot be judged"):
        Guard(**fields)
