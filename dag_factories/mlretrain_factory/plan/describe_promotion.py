"""What a candidate has to show, who agrees, how it is rolled out, and which policies ask for it."""

from __future__ import annotations

from collections.abc import Iterator

from mlretrain.governance import Policy
from mlretrain.strictness import worded
from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan.wording import listed, named
from mlretrain_factory.spec.deployment import DeploymentSpec, StageSpec
from mlretrain_factory.spec.gate import GateSpec
from mlretrain_factory.spec.guard import GuardSpec
from mlretrain_factory.spec.promotion import ApprovalSpec, PromotionSpec
from mlretrain_factory.spec.quantity import format_duration

_SMOKE_TESTS = {
    "clean": "an environment made of nothing but its requirements",
    "job": "an environment like that of its training",
}
_UNHEARD = " No `notify` tells of `approval_needed`."
_WHEN = {
    "always": "Then",
    "first": "While there is no champion,",
    "when_worse": "When it is worse than the champion in anything that the gates compare,",
}


def describe_promotion(source: PipelineSource) -> Iterator[str]:
    """From the candidate to the champion, a sentence or two each."""
    promote = source.spec.promote
    if promote.smoke_test != "none":
        where = _SMOKE_TESTS[promote.smoke_test]
        yield f"The packaged model must load and answer its own example in {where}."
    yield _gates(promote)
    if promote.approval.required != "never":
        heard = any("approval_needed" in each.on for each in source.spec.notify)
        yield _approval(promote.approval) + ("" if heard else _UNHEARD)
    yield _rollout(source.spec.deploy)
    for policy in source.policies:
        yield _policy(policy)


def describe_gate(gate: GateSpec) -> str:
    """A gate in words."""
    if gate.function is not None:
        return f"`{gate.function}` says so"
    parts = []
    if gate.min is not None:
        parts.append(f"at least {gate.min:g}")
    if gate.max is not None:
        parts.append(f"at most {gate.max:g}")
    if gate.min_improvement is not None:
        by = ", by DeLong" if gate.method == "delong" else ""
        sure = f" ({gate.confidence:.0%} sure{by})" if gate.confidence else ""
        parts.append(f"better than the champion's by at least {gate.min_improvement:g}{sure}")
    if gate.max_ratio is not None:
        parts.append(f"at most {gate.max_ratio:g} times the champion's")
    if gate.max_drop is not None:
        parts.append(f"in no slice worse than the champion's by more than {gate.max_drop:g}")
    if gate.max_gap is not None:
        parts.append(f"with at most {gate.max_gap:g} between the best and the worst `{gate.groups}`")
    return f"`{gate.metric}` {', '.join(parts)}"


def describe_guard(guard: GuardSpec) -> str:
    """What breaches a guard, in words."""
    if guard.max is not None:
        return f"`{guard.metric}` above {guard.max:g}"
    if guard.max_ratio is not None:
        return f"`{guard.metric}` above {guard.max_ratio:g} times the champion's"
    return f"`{guard.metric}` above the champion's by more than {guard.max_increase:g}"


def _gates(promote: PromotionSpec) -> str:
    conditions = "; ".join(describe_gate(gate) for gate in promote.gates)
    if promote.mode == "dry_run":
        return f"Promotes nothing (`dry_run`); says whether {conditions}."
    return f"Promoted when {conditions}."


def _approval(approval: ApprovalSpec) -> str:
    who = listed(approval.assignees, "or") if approval.assignees else "a person"
    within = format_duration(approval.timeout)
    reason = " and give a reason" if approval.reason == "required" else ""
    silence = f"{approval.on_timeout}s"
    return f"{_WHEN[approval.required]} {who} must approve within {within}{reason}; no answer {silence}."


def _rollout(deploy: DeploymentSpec) -> str:
    unless = listed([describe_guard(guard) for guard in deploy.guards], "or") if deploy.guards else ""
    stages = ", ".join(_stage(stage) for stage in deploy.stages)
    match deploy.strategy:
        case "none":
            return "Promotion moves the alias `champion`; nothing is served."
        case "direct":
            watched = f", and watches it for {format_duration(deploy.stages[0].bake)}" if stages else ""
            back = f"; rolled back on {unless}" if unless else ""
            return f"Promotion gives it all traffic at once{watched}{back}."
        case "canary":
            return f"Rolled out to {stages}, then to all; rolled back on {unless}."
        case "blue_green":
            bake = format_duration(deploy.stages[0].bake)
            return (
                "Loaded beside the champion, then given all traffic at once; the champion stays ready for "
                f"{bake} and takes it back on {unless}."
            )
        case "shadow":
            share, bake = deploy.stages[0].traffic, format_duration(deploy.stages[0].bake)
            return (
                f"Gets copies of {share} % of the requests for {bake}, which the champion answers; then all "
                f"traffic, unless it has shown {unless}."
            )


def _stage(stage: StageSpec) -> str:
    return f"{stage.traffic} % for {format_duration(stage.bake)}"


def _policy(policy: Policy) -> str:
    why = f" ({policy.description.rstrip('.')})" if policy.description else ""
    return f"Policy `{policy.name}`{why} demands {'; '.join(_demands(policy))}."


def _demands(policy: Policy) -> Iterator[str]:
    """What a policy asks for, in the order of a pipeline's file."""
    require = policy.require
    for gate in require.gates:
        yield f"a gate at least like `{worded(gate)}`"
    if require.mode is not None:
        yield "gates that reject"
    if require.smoke_test is not None:
        yield f"the smoke test `{require.smoke_test}`"
    if require.approval is not None:
        who = f" by {listed(require.approval.assignees, 'or')}" if require.approval.assignees else ""
        yield f"approval `{require.approval.required}`{who}"
    if require.strategies:
        yield f"the strategy {named(require.strategies, 'or')}"
    if require.stages:
        yield f"stages of {listed([f'{share} %' for share in require.stages], 'and')}"
    if require.first_stage_at_most is not None:
        yield f"at most {require.first_stage_at_most} % of the traffic at first"
    for guard in policy.guards:
        yield f"a guard at least like `{worded(guard)}`"
