"""A canary advances, holds or is rolled back."""

from __future__ import annotations

import pytest

from mlretrain.gates.canary import Guard, judge_canary
from mlretrain.ports import VersionStats

GUARDS = (Guard(metric="error_rate", max=0.01), Guard(metric="latency_p95_ms", max=200))


@pytest.mark.parametrize(
    ("stats", "reason"),
    [
        (
            VersionStats(requests=500, errors=5, latency_p95_ms=200.0),
            "advance: 2 guards hold over 500 requests",
        ),
        (VersionStats(requests=20, latency_p95_ms=900.0), "hold: requests is 20, required ≥ 100; "),
        (VersionStats(requests=20, errors=1, latency_p95_ms=9.0), "hold: requests is 20, required ≥ 100; "),
        (
            VersionStats(requests=20, errors=2, latency_p95_ms=9.0),
            "roll_back: error_rate is 0.1, required ≤ 0.01 (20 requests)",
        ),
        (
            VersionStats(requests=100, errors=1, latency_p95_ms=201.0),
            "roll_back: latency_p95_ms is 201, required ≤ 200 (100 requests)",
        ),
        (VersionStats(requests=100), "hold: latency_p95_ms is not measured, required ≤ 200"),
        (None, "hold: requests is 0, required ≥ 100; "),
    ],
)
def test_the_verdict_is_its_reasons_first_word(stats: VersionStats | None, reason: str) -> None:
    verdict = judge_canary(GUARDS, stats, min_requests=100)
    assert verdict.reason.startswith(reason)
    assert verdict.reason.startswith(verdict.verdict)
