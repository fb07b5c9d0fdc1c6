"""Days on which nothing is retrained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from mlretrain_factory.spec.schedule import Timezone
from mlretrain_factory.spec.section import Section, fault

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)

_LEAP_YEAR = 2024
_YEAR = frozenset(f"{date(_LEAP_YEAR, 1, 1) + timedelta(days=i):%m-%d}" for i in range(366))
_DAY = r"(\d{4}-)?\d{2}-\d{2}"


def _check_day(value: Any) -> Any:
    """``2026-12-20``, or ``12-20`` of every year."""
    text = value if isinstance(value, str) and re.fullmatch(_DAY, value) else None
    try:
        date.fromisoformat(text if text and len(text) > 5 else f"{_LEAP_YEAR}-{text}")
    except ValueError:
        remedy = "Write year, month and day such as `2026-12-20`, or `12-20` with `every: year`."
        raise fault("not a day", remedy=remedy, found=f"'{value}'") from None
    return text


Day = Annotated[
    str,
    BeforeValidator(_check_day),
    WithJsonSchema({"type": "string", "pattern": f"^{_DAY}$", "examples": ["2026-12-20", "12-20"]}),
]
"""A day, of one year or of every year."""


class BlackoutSpec(Section):
    """A span of days, the same span of every year, or weekdays; by the clock of the data."""

    first: Day | None = Field(default=None, alias="from", description="First day, `2026-12-20` or `12-20`.")
    last: Day | None = Field(default=None, alias="to", description="Last day, which is part of it.")
    every: Literal["year"] | None = Field(
        default=None, description="`year`: the same days of every year, written `12-20`."
    )
    weekdays: tuple[Weekday, ...] | None = Field(
        default=None, min_length=1, description="Only these days of the week; without a span: of every week."
    )
    timezone: Timezone | None = Field(
        default=None, description="IANA time zone of its days; left out: that of `monitor.schedule`."
    )
    why: str | None = Field(default=None, min_length=1, description="Told with each decision it holds back.")

    @model_validator(mode="after")
    def _has_days(self) -> BlackoutSpec:
        if self.first is not None and self.last is not None:
            self._check_span(self.first, self.last)
        elif self.weekdays is None or (self.first or self.last or self.every):
            raise fault(
                "a blackout without days",
                remedy="Add `from` and `to`, or `weekdays: [sat, sun]` alone.",
                allowed="from and to, or weekdays, or both",
            )
        return self

    def _check_span(self, first: str, last: str) -> None:
        yearly = self.every == "year"
        for name, day in (("from", first), ("to", last)):
            if (len(day) == len("12-20")) != yearly:
                remedy = (
                    "Write month and day, such as `12-20`." if yearly else "Add the year, or `every: year`."
                )
                which = "every year has no year" if yearly else "one year needs its year"
                raise fault(f"a blackout of {which}", at=(name,), remedy=remedy)
        if not yearly and last < first:
            remedy = "Write the earlier day first."
            raise fault("the blackout ends before it begins", at=("to",), remedy=remedy, found=f"'{last}'")

    def days(self) -> frozenset[str]:
        """Month and day, ``12-20``, of each day that it may take in every year."""
        if self.first is None or self.last is None:
            return _YEAR
        if self.every is None:
            return frozenset()
        if self.first <= self.last:
            return frozenset(day for day in _YEAR if self.first <= day <= self.last)
        return frozenset(day for day in _YEAR if day >= self.first or day <= self.last)


def covers_every_day(blackouts: Sequence[BlackoutSpec]) -> bool:
    """Whether no day is left, but perhaps the 29th of February."""
    taken: dict[str, set[Weekday]] = {day: set() for day in _YEAR - {"02-29"}}
    for each in blackouts:
        for day in each.days() - {"02-29"}:
            taken[day].update(each.weekdays or WEEKDAYS)
    return all(len(weekdays) == len(WEEKDAYS) for weekdays in taken.values())
