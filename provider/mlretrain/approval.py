"""Asking a person before a promotion: whether somebody is to be asked, and what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mlretrain.errors import ConfigError
from mlretrain.governance import Needed, TimeoutAnswer

TIMEOUT = "timeout"
"""Who answered when nobody did."""

NOT_KNOWN = "whether it is worse than the champion is not known"


def why_asked(required: Needed, gated: Mapping[str, Any]) -> str:
    """Why a person is to be asked about a candidate, in a clause; empty if nobody is.

    :param gated: the evidence of the gate's event: ``champion_version``, and in ``worse`` a clause for
        everything in which the candidate is worse than the champion. What is not known counts as worse.
    """
    match required:
        case "never":
            return ""
        case "always":
            return "every promotion is to be approved"
        case "first":
            return "" if gated.get("champion_version") else "there is no champion yet"
        case "when_worse":
            worse = gated.get("worse")
            return NOT_KNOWN if worse is None else "; ".join(str(each) for each in worse)
    raise ConfigError("no such approval", found=repr(required), allowed="never, always, when_worse, first")


def question(pipeline: str, version: str) -> str:
    """The headline."""
    return f"Promote {pipeline} version {version}?"


def case(
    *,
    pipeline: str,
    version: str,
    champion: str | None,
    asked: str,
    reason: str,
    verdict: str,
    evidence_md: str,
    links: Mapping[str, str],
    timeout: timedelta | None,
    on_timeout: TimeoutAnswer,
) -> str:
    """All that is needed for an answer, as Markdown.

    :param asked: why a person is asked.
    :param reason: why the model was trained; empty if nobody said.
    :param verdict: the gate's, in a sentence.
    :param links: addresses by their names.
    """
    would = f"would replace version {champion}" if champion else "would be the first champion"
    facts = [f"**{pipeline} version {version}** {would}."]
    facts += [f"- **Why you are asked:** {asked}"]
    facts += [f"- **Why it was trained:** {reason}"] if reason else []
    facts += [f"- **The gates say:** {verdict}"]
    lines = [facts[0], "\n".join(facts[1:])]
    lines += [evidence_md.strip()] if evidence_md.strip() else []
    lines += [" · ".join(f"[{name}]({url})" for name, url in links.items())] if links else []
    lines += [_deadline(timeout, on_timeout)] if timeout else []
    return "\n\n".join(lines) + "\n"


def nobody(timeout: timedelta | None, on_timeout: TimeoutAnswer) -> str:
    """What is recorded as the reason when nobody answered."""
    waited = f" in {worded(timeout)}" if timeout else ""
    return f"nobody answered{waited}; on_timeout: {on_timeout}"


def worded(duration: timedelta) -> str:
    """A duration for people: ``1 day``, ``90 minutes``, ``30 seconds``."""
    seconds = round(duration.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return _counted(seconds // size, unit)
    return _counted(seconds, "second")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _deadline(timeout: timedelta, on_timeout: TimeoutAnswer) -> str:
    end = "it is promoted" if on_timeout == "approve" else "it is rejected"
    return f"If nobody answers within {worded(timeout)}, {end}."
