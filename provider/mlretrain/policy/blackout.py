"""When nothing is retrained by itself: holidays, peak seasons, weekends; in data time, in a time zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mlretrain.errors import ConfigError
from mlretrain.wire import utc

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_LEAP_YEAR = "2024"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackout:
    """One entry of the calendar. All that is given must hold.

    :param first: the first day, ``2026-12-20``; with ``every`` a day of the year, ``12-20``.
    :param last: the last day, which is part of it; one of the year may be before ``first``, in the next year.
    :param every: ``year``: again each year.
    :param weekdays: days of the week, of ``mon`` … ``sun``.
    :param timezone: the IANA name of the zone whose days these are.
    :param why: what people call it.
    """

    first: str | None = None
    last: str | None = None
    every: Literal["year"] | None = None
    weekdays: tuple[str, ...] = ()
    timezone: str = "UTC"
    why: str = ""

    def __post_init__(self) -> None:
        given = [day for day in (self.first, self.last) if day is not None]
        _require(len(given) != 1, "only one of the two", "first with last")
        _require(bool(given or self.weekdays), "nothing", "first and last, or weekdays")
        _require(bool(given) or self.every is None, "every alone", "every with first and last")
        for day in given:
            example = "12-20" if self.every else "2026-12-20"
            _require(_is_day(day, yearly=self.every is not None), repr(day), f"a day such as {example}")
        if given and not self.every:
            _require(given[0] <= given[1], f"{given[0]} to {given[1]}", "the earlier day first")
        wrong = sorted(set(self.weekdays) - set(WEEKDAYS))
        _require(not wrong, ", ".join(wrong), ", ".join(WEEKDAYS))
        _zone(self.timezone)

    def covers(self, instant: datetime) -> bool:
        """Whether nothing is retrained at this instant."""
        local = utc(instant).astimezone(_zone(self.timezone))
        if self.weekdays and WEEKDAYS[local.weekday()] not in self.weekdays:
            return False
        if self.first is None or self.last is None:
            return True
        day = f"{local:%m-%d}" if self.every else local.date().isoformat()
        if self.first <= self.last:
            return self.first <= day <= self.last
        return day >= self.first or day <= self.last

    @property
    def text(self) -> str:
        """The entry in words: ``holidays (2026-12-20 to 2027-01-05)``."""
        yearly = " each year" if self.every else ""
        span = f"{self.first} to {self.last}{yearly}" if self.first else ""
        found = " on ".join(each for each in (span, ", ".join(self.weekdays)) if each)
        return f"{self.why} ({found})" if self.why else found


def covering(calendar: Sequence[Blackout], instant: datetime) -> Blackout | None:
    """The first entry that covers the instant."""
    return next((each for each in calendar if each.covers(instant)), None)


def _is_day(text: str, *, yearly: bool) -> bool:
    if not re.fullmatch(r"\d{2}-\d{2}" if yearly else r"\d{4}-\d{2}-\d{2}", text):
        return False
    try:
        date.fromisoformat(f"{_LEAP_YEAR}-{text}" if yearly else text)
    except ValueError:
        return False
    return True


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            "no such time zone",
            where="retrain.blackout.timezone",
            found=repr(name),
            allowed="an IANA name, such as America/New_York",
        ) from error


def _require(holds: bool, found: str, allowed: str) -> None:
    if not holds:
        raise ConfigError("the blackout says no days", where="retrain.blackout", found=found, allowed=allowed)
