"""Numbers of a replay, and which setting they speak for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from mlretrain.simulation.outcome import Outcome, Tile, difference, outcome, spans
from mlretrain.simulation.recommend import Candidate, recommend
from mlretrain.simulation.replay import Champion, Replay, Setting

START = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_spans_cover_everything_once_and_the_last_takes_the_rest() -> None:
    assert spans(START, START + timedelta(days=17), WEEK) == [
        (START, START + WEEK),
        (START + WEEK, START + timedelta(days=17)),
    ]
    assert spans(START, START + timedelta(days=3), WEEK) == [(START, START + timedelta(days=3))]


def test_quality_is_weighted_by_rows_and_undefined_spans_are_left_out() -> None:
    found = _outcome([(0.5, 100), (0.9, 300), (math.nan, 1000)])

    assert found.quality == pytest.approx(0.8)
    assert found.worst is not None
    assert found.worst.value == 0.5


def test_the_worst_of_an_error_is_the_largest() -> None:
    assert (worst := _outcome([(1.0, 10), (3.0, 10)], higher_is_better=False).worst) is not None
    assert worst.value == 3.0


def test_a_difference_is_taken_span_by_span() -> None:
    ours, theirs = _outcome([(0.9, 10), (0.5, 10)]), _outcome([(0.8, 10), (0.4, 10)])

    found = difference(ours, theirs, higher_is_better=True)

    assert found.value == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0)
    assert difference(ours, theirs, higher_is_better=False).value == pytest.approx(-0.1)


def test_the_fewest_retrains_that_are_nearly_as_good_as_the_best_are_recommended() -> None:
    found = recommend(
        [
            _candidate("as written", 0.712, 4),
            _candidate("cooldown=3d", 0.713, 9),
            _candidate("never", 0.68, 0, is_fixed=True),
            _candidate("always", 0.714, 38, is_fixed=True),
        ],
        metric="roc_auc",
        higher_is_better=True,
    )

    assert found.setting == "as written"
    assert found.reason == (
        "as written: 4 retrains keep roc_auc at 0.712, within 0.002 of the best (always, 38 retrains); "
        "never saves 4 retrains and loses 0.032."
    )


def test_never_is_recommended_where_nothing_is_gained() -> None:
    found = recommend(
        [_candidate("as written", 0.7, 5), _candidate("never", 0.7, 0, is_fixed=True)],
        metric="roc_auc",
        higher_is_better=True,
    )

    assert found.setting == "never"
    assert "as written adds 5 retrains for +0" in found.reason


def test_of_an_error_less_is_better() -> None:
    found = recommend(
        [_candidate("as written", 10.0, 5), _candidate("never", 14.0, 0, is_fixed=True)],
        metric="rmse",
        higher_is_better=False,
    )

    assert found.setting == "as written"
    assert found.reason.endswith("the best of all; never saves 5 retrains and loses 4.")


def test_without_models_nothing_is_recommended() -> None:
    bare = Candidate(name="as written", outcome=_outcome([]), is_fixed=False)

    found = recommend([bare], metric="roc_auc", higher_is_better=True)

    assert found.setting is None
    assert "--train" in found.reason


def _candidate(name: str, quality: float, retrains: int, *, is_fixed: bool = False) -> Candidate:
    from dataclasses import replace

    found = replace(_outcome([(quality, 1000), (quality, 1000)]), retrains=retrains)
    return Candidate(name=name, outcome=found, is_fixed=is_fixed)


def _outcome(values: Sequence[tuple[float, int]], *, higher_is_better: bool = True) -> Outcome:
    replay = Replay(
        setting=Setting(name="any"),
        steps=(),
        retrains=(),
        champions=(Champion(version="1", trained=START, since=START),),
    )
    tiles = [
        Tile(start=START + i * WEEK, end=START + (i + 1) * WEEK, rows=rows, value=value)
        for i, (value, rows) in enumerate(values)
    ]
    return outcome(replay, tiles, higher_is_better=higher_is_better)
