"""Which version served when, who agreed to it, on what evidence: read from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, Literal

from mlretrain.ledger import LedgerEvent, Link
from mlretrain.ports import Traffic

Clock = Literal["wall", "data"]
"""By the clock on the wall, or by the windows of data that the runs were about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """One version's time as champion.

    :param since: when it became champion; ``until`` when it ceased to be, ``None`` while it is.
    :param reason: why it became champion; ``by`` who asked for it, if a person did.
    :param approved: the answer of the person who agreed to it, if one was asked.
    :param verdict: what the gates said, with the evidence that they judged by.
    :param ended: the event that ended it.
    """

    version: str
    since: datetime
    until: datetime | None
    run_id: str
    reason: str
    by: str = ""
    approved: LedgerEvent | None = None
    verdict: LedgerEvent | None = None
    ended: LedgerEvent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was in force at one instant.

    :param reign: the champion's; ``None`` before there was any.
    :param traffic: who answered requests; empty if nothing was served.
    :param rollout: the run that was moving traffic.
    """

    instant: datetime
    reign: Reign | None
    traffic: Traffic = field(default_factory=Traffic)
    rollout: str | None = None


def reigns(links: Iterable[Link], clock: Clock = "wall") -> tuple[Reign, ...]:
    """Every reign, oldest first."""
    links = tuple(links)
    of_run: dict[str, list[LedgerEvent]] = {}
    for link in links:
        of_run.setdefault(link.event.run_id, []).append(link.event)
    crowned = [
        (instant, link)
        for before, (instant, link) in zip([None, *links], _timed(links, clock), strict=False)
        if link.standing.champion != (before.standing.champion if before else None)
    ]
    return tuple(
        _reign(link, since, following, of_run)
        for (since, link), following in zip_longest(crowned, crowned[1:])
        if link.standing.champion is not None
    )


def at(links: Iterable[Link], instant: datetime, clock: Clock = "wall") -> Moment:
    """What was in force at ``instant``, which what happened at that very instant is part of."""
    links = tuple(links)
    last: Link | None = None
    for when, link in _timed(links, clock):
        if when <= instant:
            last = link
    if last is None:
        return Moment(instant=instant, reign=None)
    found = [
        each
        for each in reigns(links, clock)
        if each.since <= instant and (each.until is None or instant < each.until)
    ]
    return Moment(
        instant=instant,
        reign=found[-1] if found else None,
        traffic=last.standing.traffic,
        rollout=last.standing.rollout,
    )


def _timed(links: Iterable[Link], clock: Clock) -> list[tuple[datetime, Link]]:
    """Each link with its instant; never before that of the link before, whatever a worker's clock says."""
    found: list[tuple[datetime, Link]] = []
    for link in links:
        instant = link.event.at if clock == "wall" else link.event.window_end
        found.append((max(instant, found[-1][0]) if found else instant, link))
    return found


def _reign(
    link: Link,
    since: datetime,
    following: tuple[datetime, Link] | None,
    of_run: Mapping[str, list[LedgerEvent]],
) -> Reign:
    event = link.event
    of_the_run: dict[str, Any] = {each.kind: each for each in of_run[event.run_id]}
    until, ending = following or (None, None)
    return Reign(
        version=str(link.standing.champion),
        since=since,
        until=until,
        run_id=event.run_id,
        reason=event.reason,
        by=event.by,
        approved=of_the_run.get("approved"),
        verdict=of_the_run.get("gated"),
        ended=ending.event if ending else None,
    )
