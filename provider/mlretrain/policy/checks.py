"""The conditions of a retrain, each with what was observed and what was required."""

from __future__ import annotations

from datetime import timedelta

from mlretrain.policy.blackout import covering
from mlretrain.policy.situation import Situation
from mlretrain.policy.window import new_rows
from mlretrain.policy.wording import day, span
from mlretrain.verdict import Check

_WORDS = {"violated": "violated", "fine": "stable", "unknown": "not measured"}


def checks_of(situation: Situation) -> tuple[Check, ...]:
    """Every check; a retrain takes them all."""
    return (
        _windows(situation),
        _latest(situation),
        *_warm_up(situation),
        _signals(situation),
        _failed(situation),
        _flight(situation),
        _cooldown(situation),
        _later(situation),
        *_blackout(situation),
        *_rows(situation),
        *_budget(situation),
    )


def _windows(at: Situation) -> Check:
    return Check(
        name="windows",
        passed=at.violated >= at.policy.violated,
        observed=f"{at.policy.when.text} in {at.violated} of the last {len(at.recent)} windows",
        required=f"{at.policy.violated} of {at.policy.of}",
        note="windows measured against the champion in force",
    )


def _latest(at: Situation) -> Check:
    """What could not be measured starts nothing, also where the window need not be violated itself."""
    return Check(
        name="latest window",
        passed=at.state == "violated" or (at.state == "fine" and not at.policy.latest),
        observed=_WORDS[at.state],
        required="violated" if at.policy.latest else "measured",
    )


def _warm_up(at: Situation) -> tuple[Check, ...]:
    if not at.policy.warm_up:
        return ()
    before = min(max(at.measured - 1, 0), at.policy.warm_up)
    return (
        Check(
            name="warm-up",
            passed=before >= at.policy.warm_up,
            observed=f"{before} windows before this one",
            required=f"at least {at.policy.warm_up}",
            note="windows measured against the champion in force",
        ),
    )


def _signals(at: Situation) -> Check:
    names = at.policy.escalation.page.signals
    found = [name for name in names if at.latest and at.latest.signals.get(name)]
    return Check(
        name="page signals",
        passed=not found,
        observed=", ".join(found) or "none",
        required="none",
        note=f"a person must look: {', '.join(names)}" if names else None,
    )


def _failed(at: Situation) -> Check:
    most = at.policy.escalation.page.failed_retrains
    return Check(
        name="failed retrains",
        passed=not at.uncured,
        observed=f"{most} in a row" if at.uncured else f"not {most} in a row",
        required=f"fewer than {most} in a row",
        note="by drift from the champion in force, no window fine since",
    )


def _flight(at: Situation) -> Check:
    last = at.last
    flying = last is not None and last.outcome is None and last.age_s(at.window_end) < at.policy.cooldown_s
    return Check(
        name="in flight",
        passed=not flying,
        observed=last.run_id if flying and last else "none",
        required="none",
        note="a request without a conclusion counts for one cooldown",
    )


def _cooldown(at: Situation) -> Check:
    until = at.last.window_end + timedelta(seconds=at.policy.cooldown_s) if at.last else None
    return Check(
        name="cooldown",
        passed=until is None or at.window_end >= until,
        observed=f"last retrain {span(at.last.age_s(at.window_end))} ago"
        if at.last
        else "no earlier retrain",
        required=f"{span(at.policy.cooldown_s)} between retrains",
        note=f"until {day(until)}" if until else None,
    )


def _later(at: Situation) -> Check:
    return Check(
        name="later retrain",
        passed=not at.later,
        observed=at.later[0].run_id if at.later else "none",
        required="none",
        note="a later retrain has learnt this window already",
    )


def _blackout(at: Situation) -> tuple[Check, ...]:
    if not at.policy.blackout:
        return ()
    found = covering(at.policy.blackout, at.window_end)
    observed = found.text if found else "none"
    return (Check(name="blackout", passed=found is None, observed=observed, required="none"),)


def _rows(at: Situation) -> tuple[Check, ...]:
    least = at.policy.min_new_rows
    if not least:
        return ()
    rows = round(new_rows(at.arrived, at.last.window_end if at.last else None))
    return (
        Check(
            name="new rows",
            passed=rows >= least,
            observed=f"{least} or more" if rows >= least else str(rows),
            required=f"at least {least}",
            note=f"since {day(at.last.window_end)}" if at.last else None,
        ),
    )


def _budget(at: Situation) -> tuple[Check, ...]:
    most, per = at.policy.budget_max, at.policy.budget_per_s
    if most is None or per is None:
        return ()
    spent = sum(each.age_s(at.window_end) < per for each in at.earlier)
    return (
        Check(
            name="budget",
            passed=spent < most,
            observed=f"{spent} retrains",
            required=f"fewer than {most} in {span(per)}",
        ),
    )
