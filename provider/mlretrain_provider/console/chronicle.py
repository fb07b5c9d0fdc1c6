"""A pipeline's history in words, for a terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from mlretrain import wire
from mlretrain.errors import MlretrainError, NotFound
from mlretrain.gates import evidence
from mlretrain.history import Grounds, Reign, Spell
from mlretrain.ledger import LedgerEvent
from mlretrain.standing import Standing
from mlretrain.verdict import Check

Read = Callable[[str], bytes]


def table(pipeline: str, found: Sequence[Reign]) -> str:
    """Every reign: a line of times, and below it why, on what evidence, and how it ended."""
    if not found:
        return f"{pipeline}: no version has been champion yet.\n"
    width = max(len("version"), *(len(each.version) + 1 for each in found))
    lines = [f"{'version':{width}}  {'from':23}  until"]
    for each in found:
        lines.append(f"{f'v{each.version}':{width}}  {_at(each.since):23}  {_at(each.until)}")
        lines += [f"{'':{width}}  {line}" for line in _reign(each)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def answer(pipeline: str, when: str, found: Sequence[Spell], head: Standing | None, read: Read) -> str:
    """Who served then, why, on what evidence; and the command that changes it.

    :param head: what is in force now.
    :param read: gives an evidence file's bytes.
    """
    lines = list(_spells(pipeline, when, found))
    for version, reign, grounds in _subjects(found):
        lines += ["", *_subject(version, reign), *_grounds(grounds), *_evidence(grounds, read)]
        lines += [f"  {line}" for line in _way_back(pipeline, version, head)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _reign(reign: Reign) -> Iterator[str]:
    by = f" (asked for by {_plain(reign.by)})" if reign.by else ""
    yield f"why       {_plain(reign.reason)}{by}"
    yield from _grounds(reign.grounds, indent="")
    if reign.ended is not None:
        yield f"ended     {_ending(reign.ended)}"


def _ending(event: LedgerEvent) -> str:
    by = f" by {_plain(event.by)}" if event.by else ""
    if event.kind == "rolled_back":
        return f"rolled back{by} to v{event.version}: {_plain(event.reason)}"
    return f"v{event.version} took over{by}"


def _grounds(grounds: Grounds, indent: str = "  ") -> Iterator[str]:
    if grounds.gated is not None:
        yield f"{indent}gates     {_plain(grounds.gated.reason) or grounds.gated.outcome}"
    answered = grounds.approved
    if answered is None:
        yield f"{indent}approved  nobody was asked"
    else:
        why = f": {_plain(answered.reason)}" if answered.reason else ", without a reason"
        yield f"{indent}approved  by {_plain(answered.by)} on {_at(answered.at)}{why}"


def _spells(pipeline: str, when: str, found: Sequence[Spell]) -> Iterator[str]:
    if not found or all(each.reign is None and not each.traffic.weights for each in found):
        yield f"{pipeline} at {when}: no version served yet."
        return
    yield f"{pipeline} at {when}:"
    for each in found:
        until = _at(each.until) if each.until else "now"
        yield f"  from {_at(each.since)} until {until}: {_served(each)}"


def _served(spell: Spell) -> str:
    traffic = spell.traffic
    shares = [f"v{version} answered {share} %" for version, share in traffic.served.items()]
    if len(traffic.served) == 1:
        shares = [f"v{version} answered all requests" for version in traffic.served]
    shares += [f"v{version} got copies of {share} %" for version, share in traffic.mirrored.items()]
    shares += [f"v{version} stood by" for version, share in traffic.weights.items() if not share]
    if not shares:
        shares = [f"v{spell.reign.version} was champion, nothing was served"] if spell.reign else ["nothing"]
    shares += [f"the rollout of run {spell.rollout} was under way"] if spell.rollout else []
    return "; ".join(shares)


def _subjects(found: Sequence[Spell]) -> list[tuple[str, Reign | None, Grounds]]:
    """The versions that it was about, each once: champions first."""
    subjects: dict[str, tuple[str, Reign | None, Grounds]] = {}
    for spell in found:
        if spell.reign is not None:
            subjects[spell.reign.version] = (spell.reign.version, spell.reign, spell.reign.grounds)
    for spell in found:
        for version, grounds in spell.candidates.items():
            subjects.setdefault(version, (version, None, grounds))
    return list(subjects.values())


def _subject(version: str, reign: Reign | None) -> Iterator[str]:
    if reign is None:
        yield f"v{version}, a candidate"
        return
    until = f"until {_at(reign.until)}" if reign.until else "and is it now"
    yield f"v{version}, champion from {_at(reign.since)} {until}"
    by = f" (asked for by {_plain(reign.by)})" if reign.by else ""
    yield f"  why       {_plain(reign.reason)}{by}"


def _evidence(grounds: Grounds, read: Read) -> Iterator[str]:
    uri = grounds.gated.evidence.get("checks_uri") if grounds.gated else None
    if not uri:
        return
    yield f"  evidence  {uri}"
    try:
        content = json.loads(read(str(uri)))
        listed = content["checks"] if isinstance(content, dict) else content
        rows = evidence.text([wire.from_wire(Check, each) for each in listed])
    except NotFound:
        rows = ["the file is gone"]
    except (MlretrainError, ValueError, KeyError) as error:
        rows = [f"it cannot be read: {error}"]
    yield from (f"    {row}" for row in rows)


def _way_back(pipeline: str, version: str, head: Standing | None) -> Iterator[str]:
    """The command that takes it back if it is champion now, else the one that goes back to it."""
    champion, before = (head.champion, head.before) if head else (None, None)
    if version == champion and before is None:
        yield "There was no champion before it to go back to."
        return
    to = before if version == champion else version
    yield "To take it back:" if version == champion else "To have it serve again:"
    yield f"  mlretrain rollback {shlex.quote(pipeline)} --to v{to} --reason '…'"


def _at(instant: datetime | None) -> str:
    if instant is None:
        return ""
    time = instant.astimezone(UTC)
    return (
        f"{time:%Y-%m-%d %H:%M:%S} UTC" if time.second or time.microsecond else f"{time:%Y-%m-%d %H:%M} UTC"
    )


def _plain(words: str) -> str:
    """On one line, without anything that steers a terminal."""
    return "".join(each for each in " ".join(words.split()) if each.isprintable())
