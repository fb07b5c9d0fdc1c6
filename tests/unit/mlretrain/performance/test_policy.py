"""When a champion is not good enough: an interval wholly on the wrong side of what is required."""

from __future__ import annotations

import pytest

from mlretrain.errors import ConfigError
from mlretrain.gates.promotion import Interval
from mlretrain.performance.policy import (
    PerformancePolicy,
    Score,
    own_score,
    requirement,
    worse_than_allowed,
)

OWN = Score(value=0.75, low=0.73, high=0.77)
LOSS = Score(value=0.50, low=0.47, high=0.53)


def score(value: float, half: float = 0.02) -> Score:
    return Score(value=value, low=value - half, high=value + half)


@pytest.mark.parametrize(
    ("given", "measured", "own", "violated"),
    [
        ({"min": 0.65}, score(0.62), None, True),
        ({"min": 0.65}, score(0.64), None, False),  # the interval reaches 0.66
        ({"min": 0.65}, score(0.70), None, False),
        ({"max_drop": 0.05}, score(0.66), OWN, True),  # 0.09 less, at least 0.09 - √(0.02² + 0.02²) = 0.062
        ({"max_drop": 0.05}, score(0.68), OWN, False),  # 0.07 less, but maybe only 0.042
        ({"max_drop": 0.05}, score(0.68), Score(value=0.75), False),  # exactly 0.05 is allowed
        ({"max_drop": 0.04}, score(0.68), Score(value=0.75), True),  # an evaluation without interval is exact
        ({"max_drop": 0.05}, score(0.80), OWN, False),
        ({"max_drop": 0.05}, score(0.60), None, None),
        ({"max_drop": 0.05, "min": 0.65}, score(0.60), None, True),
        ({"max_drop": 0.05, "min": 0.65}, score(0.70), None, False),
        ({"max_drop": 0.01, "min": 0.65}, score(0.70, 0.01), OWN, True),
        ({"metric": "log_loss", "max_drop": 0.05}, score(0.62), LOSS, True),
        ({"metric": "log_loss", "max_drop": 0.05}, score(0.58), LOSS, False),
        ({"metric": "log_loss", "max_drop": 0.05}, score(0.30), LOSS, False),
        ({"min": 0.65}, Score(value=None), None, None),
    ],
)
def test_the_whole_interval_must_miss(
    given: dict[str, object], measured: Score, own: Score | None, violated: bool | None
) -> None:
    policy = PerformancePolicy(**({"metric": "roc_auc"} | given))  # type: ignore[arg-type]
    assert worse_than_allowed(policy, measured, own) is violated


@pytest.mark.parametrize(
    ("given", "own", "words"),
    [
        ({"min": 0.65}, OWN, "≥ 0.65"),
        ({"max_drop": 0.05}, OWN, "≥ 0.7 (its evaluation's 0.75 [0.73, 0.77] less 0.05)"),
        ({"max_drop": 0.05, "metric": "brier"}, Score(value=0.2), "≤ 0.25 (its evaluation's 0.2 plus 0.05)"),
        (
            {"max_drop": 0.05, "min": 0.6},
            None,
            "≥ 0.6 and a drop of at most 0.05 from its evaluation, which lacks the metric",
        ),
    ],
)
def test_what_is_required_is_said(given: dict[str, object], own: Score | None, words: str) -> None:
    policy = PerformancePolicy(**({"metric": "roc_auc"} | given))  # type: ignore[arg-type]
    assert requirement(policy, own) == words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing that performance must hold"),
        ({"metric": "rmse", "min": 1.0}, "a lower rmse is better"),
        ({"metric": "auc", "min": 0.5}, "unknown metric"),
        ({"min": 0.5, "confidence": 1.0}, "no level of confidence"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PerformancePolicy(**({"metric": "roc_auc"} | given))  # type: ignore[arg-type]


def test_an_evaluation_without_the_metric_or_with_nan_is_none() -> None:
    assert own_score(None, None) is None
    assert own_score(float("nan"), None) is None
    interval = Interval(estimate=0.7, low=0.6, high=0.8, confidence=0.95)
    assert own_score(0.7, interval) == Score(value=0.7, low=0.6, high=0.8)
