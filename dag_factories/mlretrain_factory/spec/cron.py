"""Cron expressions, checked field by field, so that a fault names the field and its range."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from mlretrain_factory.spec.section import fault

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()

    def accepts(self, text: str) -> bool:
        return all(self._accepts_item(item) for item in text.split(","))

    def _accepts_item(self, item: str) -> bool:
        if self.name == "day of month" and item.lower() == "l":
            return True
        if self.name == "day of week" and re.fullmatch(r"[0-7]#[1-5]|l[0-7]", item.lower()):
            return True
        span, slash, step = item.partition("/")
        if slash and not (re.fullmatch(r"[1-9]\d?", step) and (span == "*" or "-" in span)):
            return False
        if span == "*":
            return True
        first, dash, last = span.partition("-")
        low, high = self._number(first), self._number(last if dash else first)
        return low is not None and high is not None and low <= high

    def _number(self, text: str) -> int | None:
        if text.lower() in self.words:
            return self.words.index(text.lower()) + self.lowest
        in_range = re.fullmatch(r"\d{1,2}", text) and self.lowest <= int(text) <= self.highest
        return int(text) if in_range else None


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)


def check_cron(value: str) -> str:
    """``value`` if it is five cron fields or a preset."""
    if value in PRESETS:
        return value
    parts = value.split()
    if len(parts) != len(_FIELDS):
        raise fault(
            "not a cron expression",
            remedy='Write minute, hour, day of month, month and day of week, such as "0 6 * * 1".',
            found=f"'{value}'",
            allowed=f"five fields, or {', '.join(PRESETS)}",
        )
    for field, part in zip(_FIELDS, parts, strict=True):
        if not field.accepts(part):
            raise fault(
                f"not a cron expression: its {field.name} is wrong",
                remedy="Correct that field.",
                found=f"'{part}'",
                allowed=f"*, {field.lowest}-{field.highest}, lists, ranges and steps",
            )
    return value


Cron = Annotated[str, AfterValidator(check_cron)]
"""A cron expression."""
