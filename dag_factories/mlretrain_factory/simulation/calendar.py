"""The instants that a cron expression means, in its time zone: what Airflow's scheduler would have done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Days:
    """Which days a date may be: of the month, of the week; if both are restricted, one of them is enough."""

    of_month: str
    of_week: str

    def includes(self, day: date) -> bool:
        in_month, in_week = self._in_month(day), self._in_week(day)
        if self.of_month.startswith("*") or self.of_week.startswith("*"):
            return in_month and in_week
        return in_month or in_week

    def _in_month(self, day: date) -> bool:
        is_last = (day + _DAY).month != day.month
        items = self.of_month.lower().split(",")
        plain = ",".join(each for each in items if each != "l")
        return (is_last and "l" in items) or bool(plain and day.day in _numbers(plain, 1, 31))

    def _in_week(self, day: date) -> bool:
        return any(_is_weekday(item, day) for item in self.of_week.lower().split(","))


def instants(cron: str, timezone: str, start: datetime, end: datetime) -> list[datetime]:
    """Every instant after ``start`` and not after ``end``, in UTC; ``cron`` has been checked.

    A local time that summer time skips is the one just after the gap; one that it repeats is taken once.
    """
    minute, hour, of_month, month, of_week = _PRESETS.get(cron, cron).split()
    zone, days, months = ZoneInfo(timezone), _Days(of_month, of_week), _numbers(month, 1, 12, _MONTHS)
    times = [time(h, m) for h in sorted(_numbers(hour, 0, 23)) for m in sorted(_numbers(minute, 0, 59))]
    found = (
        datetime.combine(day, at, zone).astimezone(UTC)
        for day in _dates(start.astimezone(zone).date(), end.astimezone(zone).date())
        if day.month in months and days.includes(day)
        for at in times
    )
    return sorted({each for each in found if start < each <= end})


def _dates(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += _DAY


def _is_weekday(item: str, day: date) -> bool:
    weekday = day.isoweekday() % 7
    if item.startswith("l"):
        return int(item[1:]) % 7 == weekday and (day + 7 * _DAY).month != day.month
    name, hash_, count = item.partition("#")
    if hash_:
        return int(name) % 7 == weekday and (day.day - 1) // 7 + 1 == int(count)
    return weekday in {each % 7 for each in _numbers(item, 0, 7, _WEEKDAYS)}


def _numbers(field: str, lowest: int, highest: int, words: tuple[str, ...] = ()) -> set[int]:
    """The numbers that one field lists."""
    found = set[int]()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        low = lowest if span == "*" else _number(first, lowest, words)
        high = highest if span == "*" else _number(last, lowest, words) if dash else low
        found.update(range(low, high + 1, int(step or 1)))
    return found


def _number(text: str, lowest: int, words: tuple[str, ...]) -> int:
    return words.index(text.lower()) + lowest if text.lower() in words else int(text)
