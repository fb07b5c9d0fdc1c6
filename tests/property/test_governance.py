"""At least as strict: what meets the given condition meets the demanded one, whatever a pipeline adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlretrain import wire
from mlretrain.errors import ConfigError
from mlretrain.gates.evaluation import Evaluation, Interval, Scores, SliceScores
from mlretrain.gates.gate import Gate
from mlretrain.gates.promotion import judge
from mlretrain.governance import (
    Approval,
    Mode,
    Needed,
    Policy,
    Reason,
    Require,
    RequiredApproval,
    SmokeTest,
    Strategy,
    Terms,
    TimeoutAnswer,
    violations,
)
from mlretrain.strictness import MIN_SUPPORT, covers
from tests.fakes.own_demands import demands_of

few = st.sampled_from([-0.1, 0.0, 0.05, 0.5])
conditions = st.fixed_dictionaries(
    {"metric": st.sampled_from(["roc_auc", "log_loss"])},
    optional={
        "min": few,
        "max": few,
        "versus": st.just("champion"),
        "min_improvement": few,
        "confidence": st.sampled_from([0.9, 0.95]),
        "slices": st.just("all"),
        "max_drop": few,
        "max_gap": few,
        "groups": st.sampled_from(["carrier", "origin"]),
        "min_support": st.sampled_from([1, 50, 100, 200]),
    },
)
demands = conditions.flatmap(
    lambda whole: st.sets(st.sampled_from(sorted(whole)), min_size=1).map(
        lambda kept: {name: whole[name] for name in kept}
    )
)
scores = st.sampled_from([0.5, 0.52, 0.48, 0.6, float("nan")])


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Evidence in which an interval's worse end is no better than the estimate."""
    names = ("roc_auc", "log_loss")
    sizes = {"A": 60, "B": 150, "C": 240}  # Two are judged whatever is demanded here.

    def one() -> Scores:
        slices = {
            column: {
                value: SliceScores(n=n, metrics={name: draw(scores) for name in names})
                for value, n in sizes.items()
            }
            for column in ("carrier", "origin")
        }
        return Scores(holdout_sha256="a", metrics={name: draw(scores) for name in names}, slices=slices)

    ours, theirs = one(), one() if draw(st.booleans()) else None
    differences = {}
    for name in names if theirs else ():
        estimate = ours.metrics[name] - theirs.metrics[name] if theirs else 0.0
        width = draw(st.floats(0, 0.2))
        differences[name] = Interval(
            estimate=estimate, low=estimate - width, high=estimate + width, confidence=0.95
        )
    return Evaluation(
        holdout_sha256="a",
        rows=sum(sizes.values()),
        candidate=ours,
        champion=theirs,
        champion_version="7" if theirs else None,
        differences=differences,
    )


def gate_of(condition: dict[str, Any]) -> Gate | None:
    try:
        return Gate(**condition)
    except ConfigError:
        return None


@st.composite
def gates(draw: st.DrawFn) -> dict[str, Any]:
    """A gate that a pipeline may have."""
    gate: dict[str, Any] = {"metric": draw(st.sampled_from(["roc_auc", "log_loss"]))}
    for word in draw(st.sets(st.sampled_from(["min", "max"]))):
        gate[word] = draw(few)
    if draw(st.booleans()):
        gate |= {"versus": "champion"}
        gate |= draw(st.fixed_dictionaries({}, optional={"min_improvement": few}))
        gate |= draw(st.fixed_dictionaries({}, optional={"confidence": st.sampled_from([0.9, 0.95])}))
    if draw(st.booleans()):
        gate |= {"slices": "all", "max_drop": draw(few)}
    if draw(st.booleans()):
        gate |= {"groups": "carrier", "max_gap": draw(few)}
    if len(gate) == 1:
        gate["min"] = draw(few)
    return gate | draw(
        st.fixed_dictionaries({}, optional={"min_support": st.sampled_from([1, 50, 100, 200])})
    )


@st.composite
def loosened(draw: st.DrawFn, gate: dict[str, Any]) -> dict[str, Any]:
    """A demand made of some words of a gate, some of them looser, some stricter."""
    kept = draw(st.sets(st.sampled_from(sorted(gate)), min_size=1))
    steps = st.sampled_from([-0.05, 0.0, 0.0, 0.05])
    return {
        name: gate[name] + draw(steps) if isinstance(gate[name], float) else gate[name]
        for name in sorted(kept)
    }


pairs = gates().flatmap(lambda gate: st.tuples(st.just(gate), loosened(gate)))


def judged_alike(gate: dict[str, Any], demanded: dict[str, Any], evidence: Evaluation) -> bool | None:
    """Whether what the gate promotes meets the demand too; ``None`` if the gate does not promote."""
    if judge([Gate(**gate)], evidence).verdict != "promote":
        return None
    loose = gate_of({"metric": gate["metric"], "min_support": MIN_SUPPORT, **demanded})
    return loose is None or judge([loose], evidence).verdict == "promote"


@settings(max_examples=1500, suppress_health_check=[HealthCheck.filter_too_much])
@given(pairs, evaluations())
def test_what_passes_the_given_gate_passes_the_demanded_one(
    pair: tuple[dict[str, Any], dict[str, Any]], evidence: Evaluation
) -> None:
    assume(covers(*pair))
    assert judged_alike(*pair, evidence) is not False


@given(conditions)
def test_a_condition_covers_itself_and_each_of_its_words(condition: dict[str, Any]) -> None:
    assert covers(condition, condition)
    assert covers(condition, {"metric": condition["metric"]})


@given(conditions, demands, demands)
def test_covering_is_handed_on(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    if covers(one, two) and covers(two, three):
        assert covers(one, three)


@given(conditions, demands, st.sampled_from(["min_suport", "weight"]))
def test_an_unknown_word_covers_nothing(
    given_gate: dict[str, Any], demanded: dict[str, Any], word: str
) -> None:
    assert not covers({**given_gate, word: 1}, demanded)


def test_the_holes_that_were_thought_of() -> None:
    demanded = {"metric": "roc_auc", "versus": "champion", "confidence": 0.95}
    good = {**demanded, "min_improvement": 0.0}
    assert covers(good, demanded)
    assert not covers({**good, "min_improvement": -0.5}, demanded)
    assert not covers({**good, "confidence": 0.6}, demanded)
    assert not covers({**good, "confidence": float("nan")}, demanded)
    assert not covers({**good, "metric": "log_loss"}, demanded)
    assert not covers({"metric": "roc_auc", "min": 0.7, "slices": "all"}, {"metric": "roc_auc", "min": 0.7})
    assert not covers({"slices": "all", "max_drop": 0.1, "min_support": MIN_SUPPORT + 1}, {"slices": "all"})
    assert covers({"slices": "all", "max_drop": 0.1}, {"slices": "all"})
    assert not covers({"metric": "latency_p95_ms", "max": True}, {"metric": "latency_p95_ms", "max": 50})


terms = st.builds(
    Terms,
    mode=st.sampled_from(get_args(Mode)),
    gates=st.lists(conditions, max_size=3).map(tuple),
    smoke_test=st.sampled_from(get_args(SmokeTest)),
    approval=st.builds(
        Approval,
        required=st.sampled_from(get_args(Needed)),
        assignees=st.sets(st.sampled_from(["alice", "bob", "mallory"])).map(lambda each: tuple(sorted(each))),
        on_timeout=st.sampled_from(get_args(TimeoutAnswer)),
        reason=st.sampled_from(get_args(Reason)),
    ),
    strategy=st.sampled_from(get_args(Strategy)),
    stages=st.lists(st.integers(1, 100), max_size=3).map(tuple),
    guards=st.lists(st.fixed_dictionaries({"metric": st.just("error_rate"), "max": few}), max_size=2).map(
        tuple
    ),
)
policies = st.builds(
    Policy,
    name=st.just("p"),
    require=st.builds(
        Require,
        mode=st.sampled_from([None, "enforce"]),
        strategies=st.lists(st.sampled_from(get_args(Strategy)), max_size=2).map(tuple),
        approval=st.none()
        | st.builds(
            RequiredApproval,
            required=st.sampled_from(["always", "when_worse", "first"]),
            assignees=st.sets(st.sampled_from(["alice", "bob"])).map(lambda each: tuple(sorted(each))),
            on_timeout=st.sampled_from([None, "reject"]),
            reason=st.sampled_from([None, "required"]),
        ),
        gates=st.lists(demands, max_size=2).map(tuple),
        guards=st.lists(st.just("error_rate"), max_size=1).map(tuple),
        smoke_test=st.sampled_from([None, "job", "clean"]),
        first_stage_at_most=st.none() | st.integers(1, 100),
    ),
)


@given(terms)
def test_a_pipeline_meets_what_it_demands_of_itself(pipeline: Terms) -> None:
    assert violations(demands_of(pipeline, name="p"), pipeline) == []


@given(policies, terms, conditions)
def test_a_gate_or_guard_more_violates_nothing_more(
    policy: Policy, pipeline: Terms, more: dict[str, Any]
) -> None:
    before = {each.path for each in violations(policy, pipeline)}
    added = replace(pipeline, gates=(*pipeline.gates, more), guards=(*pipeline.guards, more))
    assert {each.path for each in violations(policy, added)} <= before


@given(policies, terms)
def test_what_meets_a_policy_meets_each_part_of_it(policy: Policy, pipeline: Terms) -> None:
    """Demanding less never finds more: a policy is the sum of its demands."""
    whole = set(map(str, violations(policy, pipeline)))
    nothing = Require()
    for name in ("mode", "strategies", "approval", "gates", "guards", "smoke_test", "first_stage_at_most"):
        part = replace(policy, require=replace(nothing, **{name: getattr(policy.require, name)}))
        assert set(map(str, violations(part, pipeline))) <= whole


@given(policies)
def test_policies_travel(policy: Policy) -> None:
    assert wire.from_wire(Policy, wire.to_wire(policy)) == policy
