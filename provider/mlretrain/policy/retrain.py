"""Retrain now, or keep the champion? A pure decision on windows and earlier retrains, in data time only.

The loop stops because every request, whatever came of it, holds the next one back for a cooldown, because
only windows measured against the champion in force count (promotion moves the baseline), and because
retrains in a row that help nothing end in a call for a person. How a retrain ended changes the wording of
later reasons, never a verdict, so that a decision can be reproduced from the records at any later time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlretrain.policy.blackout import Blackout
from mlretrain.policy.checks import checks_of
from mlretrain.policy.escalation import Escalation, Level, Paging
from mlretrain.policy.signals import Signals, WindowState
from mlretrain.policy.situation import (
    CAUSES,
    Cause,
    Retrain,
    RetrainPolicy,
    Situation,
    drift_run_id,
    situation,
)
from mlretrain.policy.window import SIGNALS, Signal, WindowRecord, new_rows, window_slug
from mlretrain.policy.wording import sentence
from mlretrain.verdict import Check, Retraining

__all__ = [
    "CAUSES",
    "SIGNALS",
    "Blackout",
    "Cause",
    "Escalation",
    "Level",
    "Paging",
    "Retrain",
    "RetrainDecision",
    "RetrainPolicy",
    "Signal",
    "Signals",
    "WindowRecord",
    "WindowState",
    "decide",
    "drift_run_id",
    "new_rows",
    "window_slug",
]

EVIDENCE = frozenset({"windows", "latest window", "warm-up"})
"""The checks that say whether a retrain is called for; the others say what holds it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainDecision:
    """Retrain or keep, in one sentence, with each check that led there and the run id to start.

    :param level: what people are told: nothing, a warning, that it retrains, or that a person must look;
        ``retrain`` goes with that verdict, the others with ``keep``.
    :param state: what the window itself came to.
    :param windows: those against the champion in force from the first that counted on, merged.
    """

    verdict: Retraining
    level: Level
    reason: str
    checks: tuple[Check, ...]
    run_id: str
    state: WindowState
    windows: tuple[WindowRecord, ...] = ()


def decide(
    policy: RetrainPolicy,
    windows: Iterable[WindowRecord],
    retrains: Iterable[Retrain],
    *,
    window_end: datetime,
    champion: str,
) -> RetrainDecision:
    """The decision for the window that ends at ``window_end``, with ``champion`` in force (none: ``""``).

    Records may come doubled and in any order. Later windows are ignored. A later retrain answers "keep",
    for it has learnt this window already; a request that this very window has made stands.
    """
    at = situation(policy, windows, retrains, window_end=window_end, champion=champion)
    checks = checks_of(at)
    retrain = at.requested or (bool(champion) and all(check.passed for check in checks))
    level: Level = "retrain" if retrain else _level(at, checks)
    return RetrainDecision(
        verdict="retrain" if retrain else "keep",
        level=level,
        reason=sentence(level, at, checks),
        checks=checks,
        run_id=drift_run_id(window_end),
        state=at.state,
        windows=_counted(at),
    )


def _level(at: Situation, checks: Sequence[Check]) -> Level:
    failed = {check.name for check in checks if not check.passed}
    gave_up = "failed retrains" in failed and not failed & EVIDENCE
    if "page signals" in failed or gave_up or at.unknown >= at.policy.escalation.page.unknown:
        return "page"
    if at.state == "violated" and at.violated >= at.policy.escalation.warn:
        return "warn"
    return "warn" if at.blind and at.state != "unknown" else "none"


def _counted(at: Situation) -> tuple[WindowRecord, ...]:
    last = at.mine[-at.policy.escalation.page.unknown :]
    first = min((each.window_end for each in (*at.recent, *last)), default=at.window_end)
    return tuple(each for each in at.mine if each.window_end >= first)
