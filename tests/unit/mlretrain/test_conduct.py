"""What a run has shown: only the ledger counts, only of the version in question, and only what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mlretrain.conduct import conduct, judged, unmet, unmet_before_traffic
from mlretrain.governance import Approval, Policy, Require, RequiredApproval, Terms
from mlretrain.ledger import LedgerEvent
from mlretrain.ports import Traffic

AT = datetime(2026, 3, 9, tzinfo=UTC)
GATE = {"metric": "roc_auc", "min": 0.7}
GUARD = {"metric": "error_rate", "max": 0.01}


def event(kind: Any, **fields: Any) -> LedgerEvent:
    given = {"version": "8", "previous": "7", **fields}
    return LedgerEvent(pipeline="churn", run_id="r", kind=kind, at=AT, window_end=AT, **given)


def shift(weight: int, **fields: Any) -> LedgerEvent:
    traffic = Traffic(weights={"7": 100 - weight, "8": weight})
    given = {"traffic": traffic, "outcome": str(weight), "evidence": {"strategy": "canary"}, **fields}
    return event("shifted", **given)


def watched(stage: Any, verdict: str = "advance", *guards: dict[str, Any]) -> LedgerEvent:
    evidence = {"guards": list(guards or (GUARD,))}
    return event("observed", outcome=f"{verdict}-{stage}", evidence=evidence)


GATED = event("gated", outcome="promote", evidence={"gates": [GATE], "champion_version": "7", "worse": []})
TESTED = event("tested", outcome="passed", evidence={"environment": "clean"})
APPROVED = event(
    "approved",
    outcome="approved",
    by="alice",
    reason="fine",
    evidence={"judged": judged(GATED), "asked": ["alice", "bob"]},
)
TIMED_OUT = replace(
    APPROVED, by="timeout", reason="nobody", evidence={**APPROVED.evidence, "timed_out": True}
)
STAGES = (shift(10), watched(10), shift(50), watched(50))
RUN = (TESTED, GATED, APPROVED, *STAGES)
STRICT = Policy(
    name="strict",
    require=Require(
        mode="enforce",
        strategies=("canary", "shadow"),
        approval=RequiredApproval(
            required="always", assignees=("alice",), on_timeout="reject", reason="required"
        ),
        gates=({"metric": "roc_auc"},),
        guards=("error_rate",),
        smoke_test="clean",
        stages=(10, 50),
        first_stage_at_most=10,
    ),
)


def missing(events: Sequence[LedgerEvent], policy: Policy = STRICT, version: str = "8") -> list[str]:
    return [each.dotted for each in unmet([policy], events, version=version)]


def without(*kinds: str) -> tuple[LedgerEvent, ...]:
    return tuple(each for each in RUN if each.kind not in kinds)


def test_a_run_that_did_everything_has_shown_everything() -> None:
    assert conduct(RUN) == Terms(
        mode="enforce",
        gates=(GATE,),
        smoke_test="clean",
        approval=Approval(required="always", assignees=("alice",), reason="required"),
        strategy="canary",
        stages=(10, 50),
        guards=(GUARD,),
    )
    assert missing(RUN) == []


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        ("tested", ["promote.smoke_test"]),
        (
            "gated",
            [
                "promote.gates",
                "promote.mode",
                "promote.approval.required",
                "promote.approval.assignees",
                "promote.approval.reason",
            ],
        ),
        (
            "approved",
            ["promote.approval.required", "promote.approval.assignees", "promote.approval.reason"],
        ),
        ("observed", ["deploy.stages", "deploy.strategy", "deploy.guards"]),
    ],
)
def test_whatever_was_left_out_is_missing(kind: str, paths: list[str]) -> None:
    assert missing(without(kind)) == paths


def test_what_another_version_has_shown_does_not_count() -> None:
    assert missing(RUN, version="9") == missing(())


@pytest.mark.parametrize(
    ("instead", "path"),
    [
        (replace(GATED, outcome="dry_run"), "promote.mode"),
        (replace(GATED, outcome="reject"), "promote.mode"),
        (replace(GATED, evidence={}), "promote.gates"),
        (replace(TESTED, outcome="failed"), "promote.smoke_test"),
        (replace(TESTED, evidence={"environment": "job"}), "promote.smoke_test"),
        (replace(TESTED, evidence={}), "promote.smoke_test"),
        (replace(APPROVED, by="mallory"), "promote.approval.assignees"),
        (replace(APPROVED, reason=" "), "promote.approval.reason"),
        (replace(APPROVED, kind="rejected", outcome="rejected"), "promote.approval.required"),
        (TIMED_OUT, "promote.approval.on_timeout"),
    ],
)
def test_what_was_done_otherwise_does_not_count(instead: LedgerEvent, path: str) -> None:
    kinds = ("approved", "rejected") if instead.kind in ("approved", "rejected") else (instead.kind,)
    rest = without(*kinds)
    assert path in missing((rest[0], instead, *rest[1:]))


def test_an_approval_is_one_of_the_evidence_that_was_shown() -> None:
    again = replace(GATED, evidence={**GATED.evidence, "worse": ["f1 is 0.1, the champion's 0.9"]})
    assert "promote.approval.required" in missing((*RUN, again))
    approved = replace(APPROVED, evidence={"judged": judged(again)})
    assert missing((*RUN, again, approved)) == []


def test_the_last_answer_counts() -> None:
    assert "promote.approval.required" in missing((*RUN, event("rejected", outcome="rejected", by="bob")))


def test_nobody_is_missed_where_the_timeout_may_approve() -> None:
    policy = Policy(
        name="p", require=Require(approval=RequiredApproval(required="always", reason="required"))
    )
    assert missing((GATED, TIMED_OUT), policy) == []


@pytest.mark.parametrize(
    ("required", "evidence", "asked"),
    [
        ("when_worse", {"champion_version": "7", "worse": []}, False),
        ("when_worse", {"champion_version": "7", "worse": ["roc_auc is 0.7, the champion's 0.8"]}, True),
        ("when_worse", {"champion_version": "7"}, True),
        ("first", {"champion_version": "7"}, False),
        ("first", {"champion_version": None}, True),
    ],
)
def test_an_approval_is_missed_when_it_was_due(required: Any, evidence: dict[str, Any], asked: bool) -> None:
    policy = Policy(name="p", require=Require(approval=RequiredApproval(required=required)))
    gated = replace(GATED, evidence=evidence)
    assert missing((gated,), policy) == (["promote.approval.required"] if asked else [])


def test_without_a_verdict_every_approval_is_due() -> None:
    policy = Policy(name="p", require=Require(approval=RequiredApproval(required="first")))
    assert missing((), policy) == ["promote.approval.required"]


def test_a_stage_counts_when_it_was_found_good() -> None:
    shifted_only = (TESTED, GATED, APPROVED, shift(10), shift(50), watched(50))
    assert missing(shifted_only) == ["deploy.stages", "deploy.stages.0.traffic"]
    rolled_back = (TESTED, GATED, APPROVED, shift(10), watched(10, "roll_back"))
    assert "deploy.stages" in missing(rolled_back)


def test_a_guard_counts_when_every_stage_was_judged_by_it() -> None:
    other = {"metric": "latency_p95_ms", "max": 50}
    run = (TESTED, GATED, APPROVED, shift(10), watched(10, "advance", other), shift(50), watched(50))
    assert missing(run) == ["deploy.guards"]


def test_copies_count_as_the_stage_of_a_shadow() -> None:
    mirrored = shift(
        0,
        traffic=Traffic(weights={"7": 100}, mirrored={"8": 20}),
        outcome="mirror",
        evidence={"strategy": "shadow"},
    )
    terms = conduct((mirrored, watched("mirrored")))
    assert (terms.strategy, terms.stages) == ("shadow", (20,))


@pytest.mark.parametrize(("strategy", "weight"), [("shadow", 10), ("canary", 100), ("my_own", 10)])
def test_a_strategy_that_the_traffic_belies_is_none(strategy: str, weight: int) -> None:
    assert conduct((shift(weight, evidence={"strategy": strategy}),)).strategy == "direct"


def test_the_first_model_is_spared_the_stages_that_nobody_else_could_answer() -> None:
    gated = replace(GATED, previous=None, evidence={**GATED.evidence, "champion_version": None})
    approved = replace(APPROVED, evidence={"judged": judged(gated)})
    alone = shift(100, previous=None, traffic=Traffic(weights={"8": 100}))
    assert missing((TESTED, gated, approved, alone, watched(100))) == []
    assert "promote.approval.required" in missing((TESTED, gated, alone, watched(100)))


def test_before_traffic_all_but_the_rollout_must_be_there() -> None:
    def before(*events: LedgerEvent, strategy: str = "canary", share: int = 10) -> list[str]:
        found = unmet_before_traffic([STRICT], events, version="8", strategy=strategy, share=share)
        return [each.dotted for each in found]

    assert before(TESTED, GATED, APPROVED) == []
    assert before(TESTED, GATED, APPROVED, shift(10), watched(10), share=50) == []
    assert before(TESTED, GATED, APPROVED, share=25) == ["deploy.stages.0.traffic"]
    assert before(TESTED, GATED, APPROVED, strategy="shadow", share=0) == []
    assert before(TESTED, GATED, APPROVED, strategy="blue_green", share=0) == ["deploy.strategy"]
    assert before(TESTED, GATED, APPROVED, strategy="my_own") == ["deploy.strategy"]
    assert before(GATED, APPROVED) == ["promote.smoke_test"]


def test_what_is_missing_is_said_in_words() -> None:
    (found,) = unmet([Policy(name="p", require=Require(mode="enforce"))], (), version="8")
    assert (found.demanded, found.found) == ("`mode: enforce`", "no verdict of the gates")
