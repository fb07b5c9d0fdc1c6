"""The calendar of days on which nothing is retrained by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.policy.blackout import Blackout, covering


def covered(blackout: Blackout, *times: str) -> list[bool]:
    return [blackout.covers(datetime.fromisoformat(time).replace(tzinfo=UTC)) for time in times]


def test_both_ends_of_a_span_are_part_of_it() -> None:
    span = Blackout(first="2026-12-20", last="2027-01-05")
    assert covered(
        span, "2026-12-19T23:59", "2026-12-20", "2027-01-05T23:59", "2027-01-06", "2027-12-25"
    ) == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_days_are_those_of_the_time_zone() -> None:
    new_york = Blackout(first="2026-07-04", last="2026-07-04", timezone="America/New_York")
    assert covered(new_york, "2026-07-04T03:59", "2026-07-04T04:00", "2026-07-05T03:59") == [
        False,
        True,
        True,
    ]
    sunday = Blackout(weekdays=("sun",), timezone="America/New_York")
    assert covered(sunday, "2026-11-22T04:59", "2026-11-22T05:00", "2026-11-23T04:59") == [False, True, True]


def test_a_span_of_every_year_may_go_over_new_year() -> None:
    winter = Blackout(first="12-20", last="01-05", every="year")
    assert covered(winter, "2026-12-19", "2026-12-20", "2031-01-05", "2031-01-06") == [
        False,
        True,
        True,
        False,
    ]
    leap = Blackout(first="02-29", last="03-01", every="year")
    assert covered(leap, "2027-02-28", "2027-03-01", "2028-02-29", "2028-03-02") == [False, True, True, False]


def test_all_that_is_said_must_hold() -> None:
    weekends = Blackout(first="2026-12-01", last="2026-12-31", weekdays=("sat", "sun"))
    assert covered(weekends, "2026-12-05", "2026-12-07", "2027-01-02") == [True, False, False]


def test_entries_are_told_in_words() -> None:
    assert Blackout(first="12-20", last="01-05", every="year", why="holidays").text == (
        "holidays (12-20 to 01-05 each year)"
    )
    assert Blackout(weekdays=("sat", "sun")).text == "sat, sun"
    weekends = Blackout(weekdays=("sat",), why="weekend")
    assert covering((Blackout(weekdays=("fri",)), weekends), datetime(2026, 11, 21, tzinfo=UTC)) == weekends


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"first": "2026-12-20"},
        {"every": "year"},
        {"first": "2026-12-20", "last": "2026-12-19"},
        {"first": "12-20", "last": "01-05"},
        {"first": "2026-12-20", "last": "2027-01-05", "every": "year"},
        {"first": "02-30", "last": "03-02", "every": "year"},
        {"first": "2026-13-01", "last": "2027-01-05"},
        {"weekdays": ("saturday",)},
    ],
)
def test_entries_that_say_no_days_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the blackout says no days"):
        Blackout(**wrong)


def test_a_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no such time zone \(found 'Mars/Olympus'"):
        Blackout(weekdays=("sat",), timezone="Mars/Olympus")
