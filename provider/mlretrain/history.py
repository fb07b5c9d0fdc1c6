"""Which version served when, who agreed to it, on what evidence: read from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from mlretrain.ledger import STARTS, LedgerEvent, Link
from mlretrain.ports import Traffic

Clock = Literal["wall", "data"]
"""By the clock on the wall, or by the windows of data that the runs were about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """Why a version may serve; ``None`` where nothing is recorded.

    :param trained: its registration, with the reason for the training.
    :param gated: the last verdict of the promotion gate, with the evidence that it judged by.
    :param approved: the last answer of the person who agreed, if one was asked.
    """

    trained: LedgerEvent | None = None
    gated: LedgerEvent | None = None
    approved: LedgerEvent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """One version's time as champion.

    :param since: when it became champion; ``until`` when it ceased to be, ``None`` while it is.
    :param crowned: the event that made it champion, ``ended`` the one that ended it.
    """

    version: str
    since: datetime
    until: datetime | None
    crowned: LedgerEvent
    grounds: Grounds = Grounds()
    ended: LedgerEvent | None = None

    @property
    def reason(self) -> str:
        """Why it became champion: why it was trained, or what somebody said who went back to it."""
        trained = self.grounds.trained
        if self.crowned.kind == "promoted" and trained is not None and trained.reason:
            return trained.reason
        return self.crowned.reason

    @property
    def by(self) -> str:
        """Who asked for it; empty: the run itself."""
        return self.crowned.by


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A time in which nothing changed.

    :param reign: the champion's; ``None`` before there was any.
    :param traffic: who answered requests; empty if nothing was served.
    :param rollout: the run, as a path segment, that was moving traffic.
    :param candidates: why the versions beside the champion may have got requests, or copies of them.
    """

    since: datetime
    until: datetime | None
    reign: Reign | None = None
    traffic: Traffic = field(default_factory=Traffic)
    rollout: str | None = None
    candidates: Mapping[str, Grounds] = field(default_factory=dict)


def reigns(links: Iterable[Link], clock: Clock = "wall") -> tuple[Reign, ...]:
    """Every reign, oldest first."""
    return tuple(_crowned(_timed(tuple(links), clock)).values())


def spells(links: Iterable[Link], clock: Clock = "wall") -> tuple[Spell, ...]:
    """Every spell, oldest first; what lasted no time by this clock is left out."""
    timed = _timed(tuple(links), clock)
    crowned = _crowned(timed)
    found: list[Spell] = []
    for i, (instant, link) in enumerate(timed):
        reign = crowned.get(i) or (found[-1].reign if found else None)
        spell = Spell(
            since=instant,
            until=None,
            reign=reign,
            traffic=link.standing.traffic,
            rollout=link.standing.rollout,
            candidates={each: grounds(_past(timed, i), each) for each in _beside(link)},
        )
        found.append(spell)
    ended = [replace(each, until=after.since) for each, after in pairwise(found)] + found[-1:]
    return tuple(_merged(each for each in ended if each.since != each.until))


def during(links: Iterable[Link], start: datetime, end: datetime, clock: Clock = "wall") -> tuple[Spell, ...]:
    """The spells of which a part is in the time from ``start`` to before ``end``."""
    return tuple(
        each
        for each in spells(links, clock)
        if each.since < end and (each.until is None or start < each.until)
    )


def at(links: Iterable[Link], instant: datetime, clock: Clock = "wall") -> Spell:
    """The spell of ``instant``; what happened at that very instant has happened."""
    known = spells(links, clock)
    found = [each for each in known if each.since <= instant]
    first = known[0].since if known else None
    return found[-1] if found else Spell(since=instant, until=first)


def grounds(events: Iterable[LedgerEvent], version: str) -> Grounds:
    """Why ``version`` may serve, by these events."""
    last: dict[str, Any] = {each.kind: each for each in events if each.version == version}
    return Grounds(trained=last.get("registered"), gated=last.get("gated"), approved=last.get("approved"))


def _timed(links: Sequence[Link], clock: Clock) -> list[tuple[datetime, Link]]:
    """Each link with its instant; never before that of the link before, whatever a worker's clock says."""
    instants = [link.event.at for link in links] if clock == "wall" else _windows(links)
    found: list[tuple[datetime, Link]] = []
    for instant, link in zip(instants, links, strict=True):
        found.append((max(instant, found[-1][0]) if found else instant, link))
    return found


def _windows(links: Sequence[Link]) -> list[datetime]:
    """The end of each run's window. What is about none, such as a roll-back by hand, came before the window
    of the next retrain: where the data are of the past, its own clock says nothing.
    """
    retrains = {link.event.run_id for link in links if link.event.kind in STARTS}
    following: datetime | None = None
    found: list[datetime] = []
    for link in reversed(links):
        end = link.event.window_end
        if link.event.run_id in retrains:
            following = end
        found.append(end if following is None else min(end, following))
    return found[::-1]


def _crowned(timed: Sequence[tuple[datetime, Link]]) -> dict[int, Reign]:
    """Every reign by the position of the link that it began with."""
    places: list[int] = []
    before: str | None = None
    for i, (_, link) in enumerate(timed):
        if link.standing.champion != before:
            places.append(i)
        before = link.standing.champion
    found: dict[int, Reign] = {}
    for i, following in zip(places, [*places[1:], None], strict=False):
        since, link = timed[i]
        version = str(link.standing.champion)
        found[i] = Reign(
            version=version,
            since=since,
            until=None if following is None else timed[following][0],
            crowned=link.event,
            grounds=grounds(_past(timed, i), version),
            ended=None if following is None else timed[following][1].event,
        )
    return found


def _past(timed: Sequence[tuple[datetime, Link]], place: int) -> list[LedgerEvent]:
    return [link.event for _, link in timed[: place + 1]]


def _beside(link: Link) -> list[str]:
    traffic = link.standing.traffic
    return [each for each in (*traffic.weights, *traffic.mirrored) if each != link.standing.champion]


def _merged(pieces: Iterable[Spell]) -> list[Spell]:
    found: list[Spell] = []
    for each in pieces:
        if found and _alike(found[-1], each):
            found[-1] = replace(found[-1], until=each.until)
        else:
            found.append(each)
    return found


def _alike(one: Spell, other: Spell) -> bool:
    same = one.traffic.same(other.traffic) and one.rollout == other.rollout
    return same and one.reign == other.reign
