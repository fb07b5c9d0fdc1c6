"""What a run has shown, by its ledger, in the words in which it is demanded.

A demand is met by what the ledger says was done, never by the state of a task: one that is marked as success
by hand has written nothing there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast, get_args

from mlretrain import wire
from mlretrain.approval import why_asked
from mlretrain.governance import (
    Approval,
    Policy,
    SmokeTest,
    Strategy,
    Terms,
    Violation,
    violations,
)
from mlretrain.ledger import EventKind, LedgerEvent

Event = LedgerEvent | None


def unmet(policies: Iterable[Policy], events: Sequence[LedgerEvent], *, version: str) -> list[Violation]:
    """What is demanded and the run has not shown of a version; to be empty before it is the champion.

    :param events: those of the run, in order.
    """
    own = _about(events, version)
    return _held_against(policies, conduct(own), own)


def unmet_before_traffic(
    policies: Iterable[Policy],
    events: Sequence[LedgerEvent],
    *,
    version: str,
    strategy: str,
    share: int,
) -> list[Violation]:
    """What is to be there before a version gets any traffic: all but the rollout that is about to begin.

    :param share: of the requests, in percent, that it is about to answer; 0 for copies or none.
    """
    own = _about(events, version)
    shown = conduct(own)
    terms = replace(shown, strategy=_known(strategy), stages=shown.stages or (share,))
    begins = (("deploy", "strategy"), ("deploy", "stages", 0, "traffic"))
    found = _held_against(policies, terms, own)
    return [each for each in found if each.path[0] == "promote" or each.path in begins]


def conduct(events: Sequence[LedgerEvent]) -> Terms:
    """The terms that a run has kept.

    Read of the events' evidence: ``gated``: ``gates``; ``tested``: ``environment``; ``approved``: ``judged``,
    ``asked`` and ``timed_out``; ``shifted``: ``strategy``; ``observed``: ``guards``. What is not there is not
    shown, and an approval of other evidence than the last verdict's is none.
    """
    gated = _last(events, "gated")
    promotes = gated is not None and gated.outcome == "promote"
    return Terms(
        mode="enforce" if promotes else "dry_run",
        gates=_conditions(gated, "gates") if promotes else (),
        smoke_test=_smoke_test(_last(events, "tested")),
        approval=_approval(_last(events, "approved", "rejected"), gated),
        strategy=_strategy(events),
        stages=_stages(events),
        guards=_guards(events),
    )


def judged(gated: LedgerEvent) -> str:
    """What names the evidence that a verdict was given on, for an approval to be one of just that."""
    return wire.digest(gated.evidence, 16)


def _about(events: Sequence[LedgerEvent], version: str) -> tuple[LedgerEvent, ...]:
    return tuple(event for event in events if event.version == version)


def _held_against(policies: Iterable[Policy], terms: Terms, events: Sequence[LedgerEvent]) -> list[Violation]:
    gated, first = _last(events, "gated"), _is_first(events)
    shown = {
        "promote.mode": f"the verdict {gated.outcome}" if gated else "no verdict of the gates",
        "promote.smoke_test": "no such test that was passed",
        "promote.approval.required": "no approval",
    }
    found = [each for policy in policies for each in violations(_due(policy, gated, first=first), terms)]
    return [replace(each, found=shown.get(each.dotted, each.found)) for each in found]


def _is_first(events: Sequence[LedgerEvent]) -> bool:
    """Whether there was no champion when the version was judged, or if it was not, when it got traffic."""
    seen = _last(events, "gated") or _last(events, "shifted")
    return seen is not None and seen.previous is None


def _due(policy: Policy, gated: Event, *, first: bool) -> Policy:
    """The policy without what this candidate is spared.

    An approval on a condition that does not hold; and stages while there is no champion who could answer the
    rest of the requests.
    """
    require = policy.require
    if require.approval and gated and not why_asked(require.approval.required, gated.evidence):
        require = replace(require, approval=None)
    if first:
        require = replace(require, stages=(), first_stage_at_most=None)
    return replace(policy, require=require)


def _smoke_test(tested: Event) -> SmokeTest:
    if tested is None or tested.outcome != "passed":
        return "none"
    kind = tested.evidence.get("environment")
    return cast("SmokeTest", kind) if kind in get_args(SmokeTest) else "none"


def _approval(answer: Event, gated: Event) -> Approval:
    if answer is None or answer.kind != "approved" or gated is None:
        return Approval()
    if answer.evidence.get("judged") != judged(gated):
        return Approval()
    if answer.evidence.get("timed_out"):
        asked = tuple(str(each) for each in answer.evidence.get("asked") or ())
        return Approval(required="always", assignees=asked, on_timeout="approve", reason="required")
    return Approval(
        required="always",
        assignees=(answer.by,),
        reason="required" if answer.reason.strip() else "optional",
    )


def _strategy(events: Sequence[LedgerEvent]) -> Strategy:
    """The strategy that the run names, unless its traffic belies it."""
    shifts = [event for event in events if event.kind == "shifted" and "strategy" in event.evidence]
    named = shifts[0].evidence["strategy"] if shifts else "direct"
    served = [_share(event) for event in shifts if _share(event)]
    if named == "shadow" and served:
        return "direct"
    if named == "canary" and served[:1] == [100] and shifts[0].previous is not None:
        return "direct"
    return _known(named)


def _known(strategy: str) -> Strategy:
    """A strategy of our own; any other one may do whatever it likes."""
    return cast("Strategy", strategy) if strategy in get_args(Strategy) else "direct"


def _stages(events: Sequence[LedgerEvent]) -> tuple[int, ...]:
    """The shares that were tried and found good, in percent; of a mirrored version those of the copies."""
    passed = {event.outcome for event in events if event.kind == "observed"}
    stages = []
    for event in events:
        share, copies = _share(event), _share(event, of="mirrored")
        if event.kind == "shifted" and (
            (share and f"advance-{share}" in passed) or (copies and "advance-mirrored" in passed)
        ):
            stages.append(share or copies)
    return tuple(stages)


def _guards(events: Sequence[LedgerEvent]) -> tuple[Mapping[str, Any], ...]:
    """The guards that every stage was judged by."""
    stages = [_conditions(event, "guards") for event in events if event.kind == "observed"]
    first, rest = (stages[0], stages[1:]) if stages else ((), [])
    return tuple(guard for guard in first if all(guard in each for each in rest))


def _share(event: LedgerEvent, *, of: Literal["weights", "mirrored"] = "weights") -> int:
    if event.traffic is None or event.version is None:
        return 0
    shares = event.traffic.weights if of == "weights" else event.traffic.mirrored
    return shares.get(event.version, 0)


def _conditions(event: Event, name: str) -> tuple[Mapping[str, Any], ...]:
    found = event.evidence.get(name) if event else None
    return tuple(each for each in found or () if isinstance(each, Mapping))


def _last(events: Sequence[LedgerEvent], *kinds: EventKind) -> Event:
    return next((event for event in reversed(events) if event.kind in kinds), None)
