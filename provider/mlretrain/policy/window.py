"""What was measured in a window of data, and how several measurements of one window are one record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal, get_args

from mlretrain.wire import canonical, utc

Signal = Literal["drift", "prediction", "domain", "schema", "quality", "performance"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

_SLUG = re.compile(r"(\d{8}T\d{6})(?:\.(\d{6}))?Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecord:
    """What was measured in one window of data ``[window_start, window_end)`` against one champion.

    :param champion: the version in force, whose own data or quality was the reference.
    :param signals: by name: true if violated, false if fine, ``None`` where it could not be measured.
    :param summary: one sentence with the evidence.
    :param report_uri: a page for people.
    :param profile_uri: the window's profile, a reference for later windows.
    :param measure: who measured, where it is not drift: ``performance``.
    """

    pipeline: str
    window_start: datetime
    window_end: datetime
    rows: int
    champion: str
    signals: Mapping[str, bool | None]
    summary: str = ""
    report_uri: str | None = None
    profile_uri: str | None = None
    measure: str = ""


def window_slug(window_end: datetime) -> str:
    """An instant as a path segment or part of a run id: ``20130506T000000Z``, in UTC."""
    time = utc(window_end)
    fraction = f".{time.microsecond:06d}" if time.microsecond else ""
    return f"{time:%Y%m%dT%H%M%S}{fraction}Z"


def slug_time(slug: str) -> datetime | None:
    """The instant that :func:`window_slug` wrote; ``None`` if it wrote something else."""
    found = _SLUG.fullmatch(slug)
    if found is None:
        return None
    try:
        time = datetime.strptime(found[1], "%Y%m%dT%H%M%S")
    except ValueError:
        return None
    return time.replace(microsecond=int(found[2] or 0), tzinfo=UTC)


def merged(records: Iterable[WindowRecord]) -> tuple[WindowRecord, ...]:
    """One record for each window and champion, oldest window first; doubled records count once.

    The signals are those of all measures together, a measured one before one that could not be. Span, rows
    and addresses are those of the drift measure, if there is one.
    """
    unique: dict[tuple[datetime, str, str], WindowRecord] = {}
    for each in records:
        known = unique.setdefault(_part(each), each)
        if known is not each and known != each:
            unique[_part(each)] = max(known, each, key=canonical)
    ordered = (unique[part] for part in sorted(unique))
    return tuple(_union(tuple(group)) for _, group in groupby(ordered, key=lambda each: _part(each)[:2]))


def _part(record: WindowRecord) -> tuple[datetime, str, str]:
    return record.window_end, record.champion, record.measure


def _union(parts: Sequence[WindowRecord]) -> WindowRecord:
    if len(parts) == 1:
        return parts[0]
    first, told = parts[0], [each for each in parts if each.signals] or parts
    signals: dict[str, bool | None] = {}
    for name in sorted({name for each in parts for name in each.signals}):
        known = [value for each in parts if (value := each.signals.get(name)) is not None]
        signals[name] = any(known) if known else None
    return WindowRecord(
        pipeline=first.pipeline,
        window_start=first.window_start,
        window_end=first.window_end,
        rows=first.rows,
        champion=first.champion,
        signals=signals,
        summary="; ".join(each.summary.rstrip(". ") for each in told if each.summary),
        report_uri=next((each.report_uri for each in parts if each.report_uri), None),
        profile_uri=next((each.profile_uri for each in parts if each.profile_uri), None),
        measure=first.measure,
    )


def new_rows(windows: Iterable[WindowRecord], since: datetime | None) -> float:
    """Rows that arrived after ``since``; what windows share in time is counted once, pro rata.

    Counted from the latest window backwards, so that an older window never lessens the sum. A window of
    unknown length (its start is its end) counts whole.
    """
    total, uncovered = 0.0, datetime.max.replace(tzinfo=UTC)
    for each in sorted(windows, key=lambda w: (w.window_end, -w.rows, w.champion), reverse=True):
        if since is not None and each.window_end <= since:
            break
        start = each.window_start if since is None else max(each.window_start, since)
        length = (each.window_end - each.window_start).total_seconds()
        fresh = (min(each.window_end, uncovered) - start).total_seconds()
        if length <= 0:
            total += each.rows if each.window_end < uncovered else 0
        elif fresh > 0:
            total += each.rows * fresh / length
        uncovered = min(uncovered, each.window_start)
    return total
