"""Window records: their names, what several measures of one window come to, and rows counted once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mlretrain.policy.window import merged, new_rows, slug_time, window_slug
from tests.unit.mlretrain.policy.windows import day, window


@pytest.mark.parametrize(
    ("time", "slug"),
    [
        (datetime(2013, 5, 6, tzinfo=UTC), "20130506T000000Z"),
        (datetime(2013, 5, 6, 1, 2, 3, 45, tzinfo=UTC), "20130506T010203.000045Z"),
    ],
)
def test_slugs_name_instants_in_utc(time: datetime, slug: str) -> None:
    assert window_slug(time) == window_slug(time.replace(tzinfo=None)) == slug
    assert slug_time(slug) == time


@pytest.mark.parametrize("other", ["", "v7", "20130506", "20131306T000000Z", "20130506T000000"])
def test_other_names_are_no_instants(other: str) -> None:
    assert slug_time(other) is None


def test_the_measures_of_a_window_are_one_record() -> None:
    drift = window(9, False)
    quality = window(9, measure="performance", performance=True, rows=10, days=3, summary="roc_auc is 0.61.")
    (found,) = merged([quality, drift, drift])
    assert found.signals == {"drift": False, "performance": True}
    assert found.summary == "6 of 9 columns drifted; roc_auc is 0.61"
    assert (found.rows, found.window_start, found.measure) == (1000, day(8), "")
    assert merged([found]) == (found,)


def test_a_measured_signal_goes_before_one_that_could_not_be() -> None:
    (found,) = merged([window(9, None), replace(window(9), measure="again")])
    assert found.signals == {"drift": True}


def test_windows_and_champions_stay_apart() -> None:
    windows = (window(9), window(9, champion="8"), window(10))
    assert merged([*windows, *reversed(windows)]) == windows


def test_rows_since_the_last_training_are_counted_once() -> None:
    weekly = [window(end, days=7) for end in (7, 8, 9)]
    assert new_rows(weekly, None) == pytest.approx(1000 * 9 / 7)
    assert new_rows(weekly, day(8)) == pytest.approx(1000 / 7)
    assert new_rows([window(9), window(9, champion="6")], day(8)) == 1000
    assert new_rows([window(9, days=0), window(9, days=0, champion="6")], None) == 1000
