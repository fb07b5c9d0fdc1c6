"""A decision in one sentence: what was seen, what follows, and what a person should do if one is needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mlretrain.policy.escalation import Level
from mlretrain.policy.situation import Situation
from mlretrain.verdict import Check, failures
from mlretrain.wire import utc


def sentence(level: Level, situation: Situation, checks: Sequence[Check]) -> str:
    """Why the policy decided so; ``none`` reads ``keep``."""
    failed = {check.name: check for check in checks if not check.passed}
    clause = {
        "retrain": lambda: _evidence(situation),
        "page": lambda: _page(situation, failed),
        "warn": lambda: _warning(situation, failed),
        "none": lambda: _why_not(situation, failed),
    }[level]()
    champion = f"champion v{situation.champion}" if situation.champion else "no champion"
    return f"{'keep' if level == 'none' else level}: {clause}; {_since(situation)}; {champion}"


def _evidence(at: Situation, required: str = "") -> str:
    violated = (each for each in reversed(at.recent) if at.policy.when.state(each.signals) == "violated")
    summary = next((each.summary for each in violated), "")
    text = f"{at.policy.when.text} in {at.violated} of the last {len(at.recent)} windows{required}"
    return f"{text}{_told(summary)}"


def _page(at: Situation, failed: dict[str, Check]) -> str:
    summary = _told(at.latest.summary if at.latest else "")
    if "page signals" in failed:
        return (
            f"{failed['page signals'].observed} in the window{summary}; bring the data back to what the "
            "champion knows, or change the pipeline, and retrain by hand"
        )
    if "failed retrains" in failed:
        tried = ", ".join(f"{each.run_id} {_word(each.outcome or 'without end')}" for each in at.uncured)
        return (
            f"{_evidence(at)}, though {len(at.uncured)} retrains in a row were to cure it ({tried}); find "
            "out why, then retrain by hand or roll back: no other starts by itself before"
        )
    return (
        f"{at.unknown} windows in a row could not be judged{summary}; see whether data still arrives, can be "
        "read and has rows enough"
    )


def _warning(at: Situation, failed: dict[str, Check]) -> str:
    if at.state != "violated":
        names = " and ".join(at.blind)
        last = at.policy.escalation.page.unknown
        return f"{names} could not be measured in the last {last} windows{_told(_latest_summary(at))}"
    if "windows" in failed:
        return _evidence(at, f", required {failed['windows'].required}")
    return f"{_evidence(at)}, but {_held_back(failed)}"


def _why_not(at: Situation, failed: dict[str, Check]) -> str:
    if not at.champion:
        return "there is nothing to compare with"
    if at.state == "unknown":
        return f"the window could not be judged{_told(_latest_summary(at))}"
    for name in ("windows", "latest window"):
        if name in failed:
            return f"{name}: {failed[name].observed}, required {failed[name].required}"
    return _held_back(failed)


def _held_back(failed: dict[str, Check]) -> str:
    if "in flight" in failed:
        return f"{failed['in flight'].observed} has not ended"
    if "cooldown" in failed:
        return f"cooldown {failed['cooldown'].note}"
    if "later retrain" in failed:
        return f"{failed['later retrain'].observed} has learnt this window already"
    if "blackout" in failed:
        return f"blackout {failed['blackout'].observed}"
    return failures(failed.values())


def _latest_summary(at: Situation) -> str:
    return at.latest.summary if at.latest else "it was not measured against this champion"


def _told(summary: str) -> str:
    return f" ({summary.rstrip('. ')})" if summary else ""


def _since(at: Situation) -> str:
    if at.last is None:
        return "no earlier retrain"
    outcome = f", {_word(at.last.outcome)}" if at.last.outcome else ""
    return f"last retrain {span(at.last.age_s(at.window_end))} ago ({at.last.cause}{outcome})"


def _word(outcome: str) -> str:
    return outcome.replace("_", " ")


def span(seconds: float) -> str:
    """A length of time for people: ``9 d``."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def day(time: datetime) -> str:
    """An instant for people, in UTC; the day alone where it is midnight."""
    time = utc(time)
    return f"{time:%Y-%m-%d}" if time.time() == datetime.min.time() else f"{time:%Y-%m-%d %H:%M} UTC"
