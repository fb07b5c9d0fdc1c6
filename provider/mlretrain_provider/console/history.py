"""``mlretrain history``: which version served when, who agreed to it, on what evidence, and the way back."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from mlretrain import wire
from mlretrain.errors import ConfigError, ContractError
from mlretrain.history import Reign, Spell, at, during, reigns
from mlretrain.ledger import Link
from mlretrain_provider.console import chronicle
from mlretrain_provider.console.place import Place

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mlretrain history``."""
    parser.add_argument(
        "--at",
        metavar="2026-03-03[T12:00]",
        help="who served then: on that whole day, or at that instant; in UTC unless it says otherwise",
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "data"],
        default="wall",
        help="the clock on the wall, or that of the windows of data (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def main(options: argparse.Namespace) -> None:
    """The whole history, or that of a day or an instant, on stdout."""
    place = Place(**options.whereabouts(options.pipeline, options.dags))
    links = tuple(place.ledger.links())
    if options.at is None:
        known = reigns(links, options.clock)
        sys.stdout.write(_json(place, known) if options.json else chronicle.table(place.pipeline, known))
        return
    found = _spells(links, options)
    head = links[-1].standing if links else None
    if options.json:
        sys.stdout.write(_json(place, found))
    else:
        sys.stdout.write(chronicle.answer(place.pipeline, options.at, found, head, place.read))


def _spells(links: Sequence[Link], options: argparse.Namespace) -> tuple[Spell, ...]:
    start, end = span(options.at)
    if end is None:
        return (at(links, start, options.clock),)
    return during(links, start, end, options.clock)


def span(text: str) -> tuple[datetime, datetime | None]:
    """A day from its beginning to its end, in UTC; an instant has no end."""
    try:
        if _DAY.fullmatch(text):
            start = datetime.combine(datetime.fromisoformat(text), time(tzinfo=UTC))
            return start, start + timedelta(days=1)
        return wire.parse_time(text), None
    except (ContractError, ValueError):
        raise ConfigError(
            "not a day, nor an instant",
            where="--at",
            found=repr(text),
            allowed="2026-03-03, 2026-03-03T12:00",
        ) from None


def _json(place: Place, told: Sequence[Reign] | Sequence[Spell]) -> str:
    return wire.pretty({"pipeline": place.pipeline, "history": told}).decode()
