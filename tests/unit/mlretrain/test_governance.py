"""What the platform demands: whom a policy is about, what it finds missing, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlretrain import wire
from mlretrain.errors import ConfigError, ContractError
from mlretrain.governance import (
    AppliesTo,
    Approval,
    Policy,
    Require,
    RequiredApproval,
    Terms,
    applying,
    read_policy,
    violations,
)
from tests.fakes.own_demands import demands_of

TIER_1 = {
    "version": 1,
    "policy": "tier-1",
    "description": "Models that cost money when they are wrong.",
    "applies_to": {"tiers": [1], "tags": ["payments"], "owners": ["ops-ml"], "pipelines": ["flight-*"]},
    "require": {
        "mode": "enforce",
        "strategies": ["canary", "shadow"],
        "approval": {"required": "always", "assignees": ["alice", "bob"], "on_timeout": "reject"},
        "gates": [{"slices": "all"}, {"versus": "champion", "confidence": 0.95}],
        "guards": ["error_rate"],
        "smoke_test": "clean",
        "first_stage_at_most": 10,
    },
}
GOOD = Terms(
    gates=(
        {"metric": "roc_auc", "versus": "champion", "min_improvement": 0.0, "confidence": 0.95},
        {"metric": "roc_auc", "slices": "all", "max_drop": 0.03, "min_support": 100},
    ),
    smoke_test="clean",
    approval=Approval(required="always", assignees=("alice",)),
    strategy="canary",
    stages=(10, 50),
    guards=({"metric": "error_rate", "max": 0.01},),
)


def tier_1() -> Policy:
    return read_policy(TIER_1, where="policies/tier-1.yaml")


def paths(policy: Policy, terms: Terms) -> list[str]:
    return [each.dotted for each in violations(policy, terms)]


def test_a_policy_is_read_and_travels() -> None:
    policy = tier_1()
    assert policy.name == "tier-1"
    assert policy.require.strategies == ("canary", "shadow")
    assert wire.from_wire(Policy, wire.to_wire(policy)) == policy


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"version": 2}, ConfigError, "version 2"),
        ({"policy": None}, ContractError, "Policy.name"),
        ({"requires": {}}, ContractError, "requires"),
        ({"require": {"mode": "dry_run"}}, ContractError, "require.mode"),
        ({"require": {"gates": ["roc_auc"]}}, ContractError, "require.gates"),
        ({"require": {"gates": [{"min_suport": 5}]}}, ConfigError, "min_suport"),
        ({"require": {"gates": [{}]}}, ConfigError, "nothing"),
        ({"require": {"guards": [None]}}, ContractError, "require.guards"),
        ({"require": {"approval": {"assignees": ["alice"]}}}, ContractError, "missing"),
        ({"require": {"approval": {"required": "never"}}}, ContractError, "required"),
    ],
)
def test_what_is_no_policy_is_refused(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_policy({**TIER_1, **change}, where="policies/tier-1.yaml")


@pytest.mark.parametrize(
    ("facts", "about"),
    [
        ({"pipeline": "flight-delay"}, True),
        ({"pipeline": "churn", "tier": 1}, True),
        ({"pipeline": "churn", "tier": 2}, False),
        ({"pipeline": "churn", "tags": ["x", "payments"]}, True),
        ({"pipeline": "churn", "owner": "ops-ml"}, True),
        ({"pipeline": "Flight-delay"}, False),
        ({"pipeline": "churn"}, False),
    ],
)
def test_any_match_counts(facts: dict[str, Any], about: bool) -> None:
    assert bool(applying([tier_1()], **facts)) is about


def test_a_policy_that_names_nobody_is_about_everybody() -> None:
    policy = replace(tier_1(), applies_to=AppliesTo())
    assert applying([policy], pipeline="churn") == (policy,)


def test_what_gives_everything_violates_nothing() -> None:
    assert violations(tier_1(), GOOD) == []


def test_what_gives_nothing_violates_everything() -> None:
    assert paths(tier_1(), Terms(mode="dry_run", approval=Approval(on_timeout="approve"))) == [
        "promote.gates",
        "promote.gates",
        "promote.mode",
        "promote.smoke_test",
        "promote.approval.required",
        "promote.approval.assignees",
        "promote.approval.on_timeout",
        "deploy.strategy",
        "deploy.strategy",
        "deploy.guards",
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mode": "dry_run"}, "policy tier-1 demands `mode: enforce`; promote.mode is dry_run"),
        ({"smoke_test": "job"}, "policy tier-1 demands `smoke_test: clean`; promote.smoke_test is job"),
        (
            {"approval": Approval(required="always")},
            "policy tier-1 demands approval by nobody but alice, bob; "
            "promote.approval.assignees is everybody",
        ),
        (
            {"approval": Approval(required="when_worse", assignees=("bob",))},
            "policy tier-1 demands approval, `required: always`; promote.approval.required is when_worse",
        ),
        (
            {"approval": Approval(required="always", assignees=("bob", "mallory"))},
            "policy tier-1 demands approval by nobody but alice, bob; "
            "promote.approval.assignees is bob, mallory",
        ),
        (
            {"strategy": "blue_green", "stages": (10,)},
            "policy tier-1 demands `strategy: canary or shadow`; deploy.strategy is blue_green",
        ),
        (
            {"stages": (25, 50)},
            "policy tier-1 demands at most 10 % of the traffic in the first stage; "
            "deploy.stages.0.traffic is 25 %",
        ),
        (
            {"guards": ({"metric": "latency_p95_ms", "max": 50},)},
            "policy tier-1 demands a guard at least like {metric: error_rate}; "
            "deploy.guards is {metric: latency_p95_ms, max: 50}",
        ),
        (
            {"gates": GOOD.gates[1:]},
            "policy tier-1 demands a gate at least like {versus: champion, confidence: 0.95}; "
            "promote.gates is {metric: roc_auc, slices: all, max_drop: 0.03, min_support: 100}",
        ),
    ],
)
def test_a_violation_says_what_was_found_and_what_is_demanded(change: dict[str, Any], sentence: str) -> None:
    assert [str(each) for each in violations(tier_1(), replace(GOOD, **change))] == [sentence]


def test_mirrored_requests_are_no_traffic() -> None:
    shadow = replace(GOOD, strategy="shadow", stages=(100,))
    assert violations(tier_1(), shadow) == []


def test_an_approval_for_the_first_is_none_for_the_worse() -> None:
    policy = Policy(name="p", require=Require(approval=RequiredApproval(required="first")))
    assert paths(policy, Terms(approval=Approval(required="when_worse"))) == ["promote.approval.required"]
    assert paths(policy, Terms(approval=Approval(required="first"))) == []
    assert paths(policy, Terms(approval=Approval(required="always"))) == []


def test_a_rejection_on_timeout_is_enough_where_approval_is_free() -> None:
    policy = Policy(name="p", require=Require(approval=RequiredApproval(required="always")))
    assert paths(policy, Terms(approval=Approval(required="always", on_timeout="approve"))) == []


def test_stages_may_be_added_between_but_not_left_out() -> None:
    policy = Policy(name="p", require=Require(stages=(10, 50)))
    assert paths(policy, Terms(strategy="canary", stages=(5, 10, 25, 50))) == []
    assert paths(policy, Terms(strategy="canary", stages=(50,))) == ["deploy.stages"]
    assert paths(policy, Terms(strategy="canary", stages=(50, 10))) == ["deploy.stages"]


def test_a_pipeline_meets_its_own_demands_and_nothing_less() -> None:
    own = demands_of(GOOD, name="churn")
    assert violations(own, GOOD) == []
    assert paths(own, replace(GOOD, stages=(50,))) == ["deploy.stages"]
    assert paths(own, replace(GOOD, approval=Approval())) == [
        "promote.approval.required",
        "promote.approval.assignees",
    ]
