"""What the platform demands of pipelines: approvals, gates, strategies; never less than it says.

The same functions judge a pipeline's file before anything runs, and what a run has shown before it promotes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from mlretrain import wire
from mlretrain.errors import ConfigError
from mlretrain.strictness import WORDS, covers, said, worded

Needed = Literal["never", "always", "when_worse", "first"]
"""When a person is asked: never, always, when the candidate is worse somewhere, when there is no champion."""

Strategy = Literal["direct", "canary", "blue_green", "shadow", "none"]
SmokeTest = Literal["none", "job", "clean"]
Mode = Literal["enforce", "dry_run"]
TimeoutAnswer = Literal["reject", "approve"]
Reason = Literal["required", "optional"]

VERSION = 1
"""Of the format of policy files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who is asked, when, and what counts if nobody answers.

    :param assignees: ids of users; empty: everybody who may.
    """

    required: Needed = "never"
    assignees: tuple[str, ...] = ()
    on_timeout: TimeoutAnswer = "reject"
    reason: Reason = "optional"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a pipeline promotes; the defaults ask for nothing.

    :param gates: the conditions, in the words of :mod:`mlretrain.strictness`; ``guards`` likewise.
    :param stages: the candidate's share of the traffic in each stage, in percent.
    """

    mode: Mode = "enforce"
    gates: tuple[Mapping[str, Any], ...] = ()
    smoke_test: SmokeTest = "none"
    approval: Approval = field(default_factory=Approval)
    strategy: Strategy = "none"
    stages: tuple[int, ...] = ()
    guards: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliesTo:
    """Which pipelines a policy is about: any match counts; nothing said means all of them.

    :param pipelines: names, with ``*`` and ``?``.
    """

    tiers: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()

    def matches(self, *, pipeline: str, tags: Iterable[str], owner: str | None, tier: int | None) -> bool:
        """Whether a pipeline is among them."""
        if not (self.tiers or self.tags or self.owners or self.pipelines):
            return True
        return (
            tier in self.tiers
            or owner in self.owners
            or not set(tags).isdisjoint(self.tags)
            or any(fnmatchcase(pipeline, pattern) for pattern in self.pipelines)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredApproval:
    """What a policy demands of :class:`Approval`; what it leaves out is free.

    :param assignees: nobody else may answer.
    """

    required: Literal["always", "when_worse", "first"]
    assignees: tuple[str, ...] = ()
    on_timeout: Literal["reject"] | None = None
    reason: Literal["required"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """What a policy demands; what it leaves out is free.

    :param gates: a gate of the pipeline must cover each; see :func:`mlretrain.strictness.covers`.
    :param guards: likewise; a text is the name of a metric.
    :param stages: shares of the traffic that must be among the pipeline's, in this order.
    :param first_stage_at_most: in percent of the answered requests.
    """

    mode: Literal["enforce"] | None = None
    strategies: tuple[Strategy, ...] = ()
    approval: RequiredApproval | None = None
    gates: tuple[Mapping[str, Any], ...] = ()
    guards: tuple[str | Mapping[str, Any], ...] = ()
    smoke_test: Literal["job", "clean"] | None = None
    stages: tuple[int, ...] = ()
    first_stage_at_most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy of the platform. Raises :class:`ConfigError` if its conditions use an unknown word."""

    name: str
    description: str = ""
    applies_to: AppliesTo = field(default_factory=AppliesTo)
    require: Require = field(default_factory=Require)

    def __post_init__(self) -> None:
        for condition in (*self.require.gates, *self.guards):
            unknown = sorted(set(condition) - set(WORDS))
            if unknown or not said(condition):
                raise ConfigError(
                    "a condition that nothing can be held against",
                    where=f"policy {self.name}",
                    found=", ".join(unknown) or "nothing",
                    allowed=", ".join(WORDS),
                )

    @property
    def guards(self) -> tuple[Mapping[str, Any], ...]:
        """The demanded guards, all as conditions."""
        return tuple({"metric": each} if isinstance(each, str) else each for each in self.require.guards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One demand that is not met.

    :param path: the keys in the pipeline's file, from the top.
    """

    policy: str
    path: tuple[str | int, ...]
    found: str
    demanded: str

    @property
    def dotted(self) -> str:
        """The path with dots: ``deploy.stages.0.traffic``."""
        return ".".join(str(key) for key in self.path)

    def __str__(self) -> str:
        return f"policy {self.policy} demands {self.demanded}; {self.dotted} is {self.found}"


def read_policy(data: Mapping[str, Any], *, where: str) -> Policy:
    """The policy that a file holds, as plain data.

    Raises :class:`~mlretrain.errors.ContractError` or :class:`ConfigError` for what is not a policy.

    :param where: the file, for messages.
    """
    fields = dict(data)
    version = fields.pop("version", None)
    if version != VERSION:
        raise ConfigError(
            "not a policy of the platform", where=where, found=f"version {version}", allowed=f"{VERSION}"
        )
    return wire.from_wire(Policy, {"name": fields.pop("policy", None), **fields})


def applying(
    policies: Iterable[Policy],
    *,
    pipeline: str,
    tags: Iterable[str] = (),
    owner: str | None = None,
    tier: int | None = None,
) -> tuple[Policy, ...]:
    """The policies that are about this pipeline; all of them hold."""
    tags = tuple(tags)
    return tuple(
        policy
        for policy in policies
        if policy.applies_to.matches(pipeline=pipeline, tags=tags, owner=owner, tier=tier)
    )


def violations(policy: Policy, terms: Terms) -> list[Violation]:
    """What the policy demands and the terms do not give, in the order of a pipeline's file."""
    found = (*_of_promotion(policy, terms), *_of_approval(policy, terms), *_of_rollout(policy, terms))
    return [
        Violation(policy=policy.name, path=path, found=seen, demanded=demanded)
        for path, seen, demanded in found
    ]


_Finding = tuple[tuple[str | int, ...], str, str]
_SMOKE_TESTS: tuple[SmokeTest, ...] = get_args(SmokeTest)


def _of_promotion(policy: Policy, terms: Terms) -> Iterator[_Finding]:
    require = policy.require
    for demanded in require.gates:
        if not any(covers(gate, demanded) for gate in terms.gates):
            yield ("promote", "gates"), _listed(terms.gates), f"a gate at least like {worded(demanded)}"
    if require.mode is not None and terms.mode != require.mode:
        yield ("promote", "mode"), terms.mode, f"`mode: {require.mode}`"
    if require.smoke_test is not None and _SMOKE_TESTS.index(terms.smoke_test) < _SMOKE_TESTS.index(
        require.smoke_test
    ):
        yield ("promote", "smoke_test"), terms.smoke_test, f"`smoke_test: {require.smoke_test}`"


def _of_approval(policy: Policy, terms: Terms) -> Iterator[_Finding]:
    demand, approval = policy.require.approval, terms.approval
    if demand is None:
        return
    where = ("promote", "approval")
    if approval.required not in ("always", demand.required):
        yield (*where, "required"), approval.required, f"approval, `required: {demand.required}`"
    if demand.assignees and not (approval.assignees and set(approval.assignees) <= set(demand.assignees)):
        found = ", ".join(approval.assignees) or "everybody"
        yield (*where, "assignees"), found, f"approval by nobody but {', '.join(demand.assignees)}"
    if demand.on_timeout is not None and approval.on_timeout != demand.on_timeout:
        yield (*where, "on_timeout"), approval.on_timeout, f"`on_timeout: {demand.on_timeout}`"
    if demand.reason is not None and approval.reason != demand.reason:
        yield (*where, "reason"), approval.reason, f"`reason: {demand.reason}`"


def _of_rollout(policy: Policy, terms: Terms) -> Iterator[_Finding]:
    require = policy.require
    if require.strategies and terms.strategy not in require.strategies:
        yield ("deploy", "strategy"), terms.strategy, f"`strategy: {' or '.join(require.strategies)}`"
    if not _in_order(require.stages, terms.stages):
        yield (
            ("deploy", "stages"),
            _shares(terms.stages),
            f"stages of {_shares(require.stages)} of the traffic",
        )
    most = require.first_stage_at_most
    if most is not None and (first := _first_share(terms)) > most:
        path = ("deploy", "stages", 0, "traffic") if terms.stages else ("deploy", "strategy")
        found = f"{first} %" if terms.stages else f"{terms.strategy}, all traffic at once"
        yield path, found, f"at most {most} % of the traffic in the first stage"
    for demanded in policy.guards:
        if not any(covers(guard, demanded) for guard in terms.guards):
            yield ("deploy", "guards"), _listed(terms.guards), f"a guard at least like {worded(demanded)}"


def _first_share(terms: Terms) -> int:
    """The share of requests that a candidate answers first; of mirrored ones it answers none."""
    if terms.strategy == "shadow" and terms.stages:
        return 0
    return terms.stages[0] if terms.stages else 100


def _in_order(wanted: tuple[int, ...], given: tuple[int, ...]) -> bool:
    rest = iter(given)
    return all(share in rest for share in wanted)


def _shares(stages: tuple[int, ...]) -> str:
    return ", ".join(f"{share} %" for share in stages) or "none"


def _listed(conditions: tuple[Mapping[str, Any], ...]) -> str:
    return ", ".join(worded(each) for each in conditions) or "none"
