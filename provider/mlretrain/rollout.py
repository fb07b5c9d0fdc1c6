"""The acts that move traffic and crown champions, in an order that survives a crash between any two.

The ledger decides; registry and serving target follow. Every act first writes to the ledger what is to be in
force, and is refused there if somebody else has acted in the meantime; then it makes it so. The number of the
ledger's link goes along as the order's generation, so that a target refuses an order that comes too late.
Whoever comes later, the same task again or another one, finds in the ledger what is left to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mlretrain.claim import Claim
from mlretrain.errors import MlretrainError, NotFound, TransientError
from mlretrain.follower import Follower, everything_to
from mlretrain.ledger import Allowed, Appended, EventKind, Ledger, LedgerEvent, Link
from mlretrain.ports import CHAMPION, ModelRegistry, ServingTarget, Traffic
from mlretrain.standing import Standing

ADOPTED = "adopted"
"""The run of the event that enters a champion from before the ledger."""
ALONE = "alone"
"""The outcome of an order that leaves all requests, and the place of standbys, to one version."""


class Done(NamedTuple):
    """The event of an act, and whether it has been done just now."""

    event: LedgerEvent
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One run's hand on a pipeline's champion and traffic. Every method may be repeated.

    :param target: where models are served; none: only the champion's alias moves.
    :param begun: when this task began; see :class:`~mlretrain.claim.Claim`.
    :param now: the wall clock.
    """

    pipeline: str
    run_id: str
    window_end: datetime
    ledger: Ledger
    registry: ModelRegistry
    target: ServingTarget | None = None
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def shift(
        self,
        version: str,
        traffic: Traffic,
        *,
        champion: str | None,
        outcome: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> Link:
        """Order ``traffic`` in favour of ``version``, and see that it is served.

        An order that this run has given before and gone on from changes nothing. One that the target refuses
        for good is taken back. A run's first order takes over from whichever run's rollout is open.

        :param champion: who was champion when the version was judged.
        :param outcome: tells the run's orders apart: the share, or ``standby``.
        :raises Superseded: another run has acted since, or this one has withdrawn.
        """
        self.adopt()
        begun = self._begun()

        def allowed(standing: Standing) -> None:
            self._expect(standing, version, champion, mine=begun)

        link, _ = self._append(
            "shifted",
            allowed,
            version=version,
            previous=champion,
            outcome=outcome,
            traffic=traffic,
            evidence=evidence or {},
        )
        self._serve(link, version)
        return link

    def adopt(self) -> Standing:
        """What is in force; a champion that the registry had before there was a ledger is entered first."""
        standing = self.ledger.standing()
        found = None if standing.champion else self.registry.version(self.pipeline, f"@{CHAMPION}")
        if found is None:
            return standing
        traffic = self._follower.current()
        entry = replace(
            self._event("promoted"),
            run_id=ADOPTED,
            version=found.version,
            outcome="promoted",
            reason="it was the champion before the ledger knew of any",
            traffic=traffic if traffic.weights and not self._begun() else None,
        )
        return self.ledger.append(entry, _unless_crowned).link.standing

    def withdraw(self, version: str, reason: str) -> bool:
        """Give all requests back to the champion at once; ``False`` if there is nothing to take back.

        The run's rollout is over: :meth:`roll_back` only says so.
        """
        if self._withdrawn():
            return True
        standing = self.ledger.standing()
        if not self._claim.holds(standing) or standing.champion is None:
            return False

        def allowed(now: Standing) -> None:
            self._claim.expect_open()
            self._claim.expect_rollout(now)
            self._claim.expect_champion(now, version, standing.champion)

        self._withdraw(version, standing, allowed, reason=reason)
        return True

    def take_back(self, version: str | None, reason: str) -> None:
        """End this run's rollout by ordering what was served before; nothing if it is not under way."""
        standing = self.ledger.standing()
        if not self._withdrawn() and self._claim.holds(standing):
            self._take_back(version, standing, reason)

    def promote(self, version: str, *, champion: str | None, reason: str) -> Done:
        """Make ``version`` the champion: all traffic, the ledger, then alias and tags.

        :param champion: who was champion when the version was judged.
        :raises Superseded: the champion has changed since, or another run has taken over.
        :raises NotFound: there is no such version.
        """
        if self.registry.version(self.pipeline, version) is None:
            raise NotFound("no such version", where=self.pipeline, found=version)
        self.adopt()
        if self.target is not None and not self.ledger.of_run(self.run_id, "promoted"):
            self.shift(version, everything_to(version), champion=champion, outcome=ALONE)
        begun = self._begun()

        def allowed(standing: Standing) -> None:
            self._expect(standing, version, champion, mine=begun)

        done = self._append(
            "promoted",
            allowed,
            version=version,
            previous=champion,
            outcome="promoted",
            reason=reason,
        )
        if self.settle().champion == version:
            self._follower.close(version, "promoted")
            self._retire(champion, version)
        return Done(done.link.event, done.new)

    def roll_back(self, version: str | None, reason: str) -> Done | None:
        """End this run's rollout: the champion answers everything; ``None`` if the run has moved nothing.

        Without a champion what is served stays: nothing else could answer.
        """
        if known := self._ended("rolled_back"):
            return known
        if not self._begun() or self.ledger.of_run(self.run_id, "promoted"):
            return None
        before = self.ledger.standing()
        mine = self._claim.holds(before)

        def allowed(now: Standing) -> None:
            self._claim.expect_unended()
            if now.champion != before.champion or self._claim.holds(now) != mine:
                raise TransientError("the champion has just changed", where=self.pipeline)

        done = self._append(
            "rolled_back",
            allowed,
            version=before.champion,
            previous=version,
            outcome="rolled_back",
            reason=reason,
            traffic=self._follower.without_candidate(before) if mine else None,
        )
        return self._rolled_back(done, version)

    def move_back(self, to: str, *, reason: str, by: str = "") -> Done:
        """Make an earlier version the champion again, whatever rollout is under way.

        :raises NotFound: there is no such version.
        :raises InvalidInput: it cannot be served; what was served is served again.
        """
        if self.registry.version(self.pipeline, to) is None:
            raise NotFound(
                "no such version to roll back to",
                where=self.pipeline,
                found=repr(to),
                remedy=f"Look at the versions of the registered model {self.pipeline!r} in MLflow.",
            )
        if known := self._ended("rolled_back"):
            return known
        champion = self.adopt().champion
        if self.target is not None:
            self._take_over(to, champion)

        def allowed(standing: Standing) -> None:
            self._claim.expect_open()
            self._claim.expect_not_withdrawn()
            if self.target is not None:
                self._claim.expect_rollout(standing)

        done = self._append(
            "rolled_back",
            allowed,
            version=to,
            previous=champion if champion != to else None,
            outcome="rolled_back",
            reason=reason,
            by=by,
        )
        return self._rolled_back(done, done.link.event.previous)

    def settle(self) -> Standing:
        """Make alias and traffic what the ledger says is in force; nothing is done where they are."""
        return self._follower.settle()

    @property
    def _claim(self) -> Claim:
        return Claim(run_id=self.run_id, ledger=self.ledger, begun=self.begun)

    @property
    def _follower(self) -> Follower:
        return Follower(
            pipeline=self.pipeline, ledger=self.ledger, registry=self.registry, target=self.target
        )

    def _begun(self) -> bool:
        """Whether this run has ordered anything yet."""
        return bool(self.ledger.of_run(self.run_id, "shifted", "withdrawn"))

    def _expect(self, standing: Standing, version: str, champion: str | None, *, mine: bool) -> None:
        self._claim.expect_open()
        self._claim.expect_champion(standing, version, champion)
        self._claim.expect_not_withdrawn()
        if mine:
            self._claim.expect_rollout(standing)

    def _append(self, kind: EventKind, allowed: Allowed | None, **fields: Any) -> Appended:
        return self.ledger.append(self._event(kind, **fields), allowed)

    def _event(self, kind: EventKind, **fields: Any) -> LedgerEvent:
        return LedgerEvent(
            pipeline=self.pipeline,
            run_id=self.run_id,
            kind=kind,
            at=self.now(),
            window_end=self.window_end,
            **fields,
        )

    def _serve(self, link: Link, version: str) -> None:
        """See that what a link orders is served; what the target refuses for good is taken back."""
        try:
            self._follower.serve(link)
        except MlretrainError as error:
            standing = self.ledger.standing()
            in_force = standing.traffic == link.standing.traffic
            if not error.retryable and in_force and self._is_nobody_elses(standing):
                self._take_back(version, standing, str(error))
            raise

    def _take_back(self, version: str | None, standing: Standing, reason: str) -> None:
        def allowed(now: Standing) -> None:
            self._claim.expect_unended()
            if now.traffic != standing.traffic or not self._is_nobody_elses(now):
                raise TransientError("the traffic has just changed", where=self.pipeline)

        self._withdraw(version, standing, allowed, reason=reason)

    def _is_nobody_elses(self, standing: Standing) -> bool:
        return standing.rollout is None or self._claim.holds(standing)

    def _withdrawn(self) -> bool:
        """Whether this run has withdrawn, which is seen to once more."""
        known = bool(self.ledger.of_run(self.run_id, "withdrawn"))
        if known:
            self.settle()
        return known

    def _take_over(self, to: str, champion: str | None) -> None:
        """All traffic to ``to``, whoever's rollout is open."""
        link, _ = self._append(
            "shifted",
            lambda standing: self._claim.expect_open(),
            version=to,
            previous=champion,
            outcome=ALONE,
            traffic=everything_to(to),
        )
        self._serve(link, to)

    def _withdraw(self, version: str | None, standing: Standing, allowed: Allowed, **fields: Any) -> None:
        link, _ = self._append(
            "withdrawn",
            allowed,
            version=version,
            previous=standing.champion,
            outcome="withdrawn",
            traffic=self._follower.without_candidate(standing),
            **fields,
        )
        self._follower.serve(link)

    def _ended(self, kind: EventKind) -> Done | None:
        """How this run has ended, which is seen to once more."""
        known = self.ledger.of_run(self.run_id, kind)
        if not known:
            return None
        self.settle()
        self._follower.confirm()
        return Done(known[0], new=False)

    def _rolled_back(self, done: Appended, version: str | None) -> Done:
        self.settle()
        self._follower.close(version, "rolled_back")
        self._follower.confirm()
        return Done(done.link.event, done.new)

    def _retire(self, champion: str | None, version: str) -> None:
        if champion is not None and champion != version:
            reason = f"version {version} took over"
            self._append("retired", None, version=champion, outcome="retired", reason=reason)


def _unless_crowned(standing: Standing) -> None:
    if standing.champion is not None:
        raise TransientError("a champion has just been entered", found=f"version {standing.champion}")
