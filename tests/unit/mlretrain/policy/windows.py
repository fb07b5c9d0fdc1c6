"""Windows to decide on, by the day on which they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mlretrain.policy.retrain import WindowRecord

DAY = 86_400.0
START = datetime(2013, 4, 20, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def window(
    end: float,
    drift: bool | None = True,
    *,
    days: float = 1,
    champion: str = "7",
    rows: int = 1000,
    summary: str = "6 of 9 columns drifted",
    measure: str = "",
    **signals: bool | None,
) -> WindowRecord:
    """A window measured for drift, or for the other ``signals`` only where ``measure`` names what did it."""
    return WindowRecord(
        pipeline="flights",
        window_start=day(end - days),
        window_end=day(end),
        rows=rows,
        champion=champion,
        signals={**({} if measure else {"drift": drift}), **signals},
        summary=summary,
        measure=measure,
    )
