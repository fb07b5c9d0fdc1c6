"""The instants of cron expressions, as Airflow's scheduler means them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlretrain_factory.simulation.calendar import instants

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = START + timedelta(days=365)


@pytest.mark.parametrize(
    ("cron", "count", "first"),
    [
        ("@hourly", 8760, "2026-01-01T01:00"),
        ("@daily", 365, "2026-01-02T00:00"),
        ("@weekly", 52, "2026-01-04T00:00"),
        ("@monthly", 12, "2026-02-01T00:00"),
        ("@quarterly", 4, "2026-04-01T00:00"),
        ("@yearly", 1, "2027-01-01T00:00"),
        ("0 6 * * 1", 52, "2026-01-05T06:00"),
        ("0 6 * * mon-fri", 261, "2026-01-01T06:00"),
        ("*/30 6,7 * * *", 1460, "2026-01-01T06:00"),
        ("0 0 1 jan-mar *", 3, "2026-02-01T00:00"),
        ("0 0 l * *", 12, "2026-01-31T00:00"),
        ("0 0 1,l * *", 24, "2026-01-31T00:00"),
        ("0 0 * * 1#2", 12, "2026-01-12T00:00"),
        ("0 0 * * l5", 12, "2026-01-30T00:00"),
        ("0 0 13 * 5", 62, "2026-01-02T00:00"),
        ("0 0 * * 7", 52, "2026-01-04T00:00"),
    ],
)
def test_a_year_of(cron: str, count: int, first: str) -> None:
    found = instants(cron, "UTC", START, YEAR)

    assert len(found) == count
    assert found[0] == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert all(START < each <= YEAR for each in found)


def test_summer_time_is_followed() -> None:
    start = datetime(2026, 3, 7, tzinfo=UTC)
    found = instants("0 6 * * *", "America/New_York", start, start + timedelta(days=3))

    assert [each.hour for each in found] == [11, 10, 10]


def test_a_skipped_hour_still_has_its_run() -> None:
    start = datetime(2026, 3, 8, tzinfo=UTC)
    found = instants("30 2 * * *", "America/New_York", start, start + timedelta(days=1))

    assert len(found) == 1
