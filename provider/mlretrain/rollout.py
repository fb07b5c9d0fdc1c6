"""The acts that move traffic and crown champions, in an order that survives a crash between any two.

The ledger decides; registry and serving target follow. Every act first writes to the ledger what is to be in
force, and is refused there if somebody else has acted in the meantime; then it makes it so. The number of the
ledger's link goes along as the order's generation, so that a target refuses an order that comes too late.
Whoever comes later, the same task again or another one, finds in the ledger what is left to be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mlretrain.errors import ContractError, MlretrainError, NotFound, Superseded, TransientError
from mlretrain.ledger import Appended, EventKind, Ledger, LedgerEvent, Link
from mlretrain.ports import CHALLENGER, CHAMPION, ModelRegistry, ServingTarget, Traffic
from mlretrain.runtime.contract import run_slug
from mlretrain.standing import Standing

OUTCOME = "mlretrain.outcome"
"""The model version's tag that says what became of it."""
ADOPTED = "adopted"
"""The run of the event that enters a champion from before the ledger."""
ALONE = "alone"
"""The outcome of an order that leaves all requests, and the place of standbys, to one version."""

logger = logging.getLogger(__name__)


class Done(NamedTuple):
    """The event of an act, and whether it has been done just now."""

    event: LedgerEvent
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One run's hand on a pipeline's champion and traffic. Every method may be repeated.

    :param target: where models are served; none: only the champion's alias moves.
    :param begun: when this task began: what it does after its run has ended without it is too late.
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

        An order that this run has given before and gone on from changes nothing.

        :param champion: who was champion when the version was judged.
        :param outcome: tells the run's orders apart: the share, or ``standby``.
        :raises Superseded: another run has acted since, or this one has withdrawn.
        """
        self.adopt()
        mine = self._orders()

        def allowed(standing: Standing) -> None:
            self._expect_open()
            self._expect(standing, version, champion)
            if mine and standing.rollout != self._slug:
                raise self._overtaken(standing)

        link, _ = self._append(
            "shifted",
            allowed,
            version=version,
            previous=champion,
            outcome=outcome,
            traffic=traffic,
            evidence=evidence or {},
        )
        try:
            self._serve(link)
        except MlretrainError as error:
            if not error.retryable:
                self.take_back(version, str(error))
            raise
        return link

    def adopt(self) -> Standing:
        """What is in force; a champion that the registry had before there was a ledger is entered first."""
        standing = self.ledger.standing()
        found = None if standing.champion else self.registry.version(self.pipeline, f"@{CHAMPION}")
        if found is None:
            return standing
        traffic = self.target.current(self.pipeline) if self.target is not None else Traffic()
        entry = replace(
            self._event("promoted"),
            run_id=ADOPTED,
            version=found.version,
            outcome="promoted",
            reason="it was the champion before the ledger knew of any",
            traffic=traffic if traffic.weights and not self._orders() else None,
        )
        return self.ledger.append(entry, _unless_crowned).link.standing

    def withdraw(self, version: str, reason: str, evidence: Mapping[str, Any] | None = None) -> bool:
        """Give all requests back to the champion at once; ``False`` if there is nothing to take back.

        The run's rollout stays open until :meth:`roll_back` closes it, and can only end so.
        """
        standing = self.ledger.standing()
        if standing.rollout != self._slug or standing.champion is None:
            return False
        champion = standing.champion

        def allowed(now: Standing) -> None:
            self._expect_open()
            if now.rollout != self._slug or now.champion != champion:
                raise self._overtaken(now)

        link, _ = self._append(
            "withdrawn",
            allowed,
            version=version,
            previous=champion,
            outcome="withdrawn",
            reason=reason,
            traffic=Traffic(weights={champion: 100}),
            evidence=evidence or {},
        )
        self._serve(link)
        return True

    def take_back(self, version: str | None, reason: str) -> None:
        """Order what was served before ``version``, if this run's rollout is open."""
        standing = self.ledger.standing()
        if standing.rollout != self._slug:
            return
        link, _ = self._append(
            "withdrawn",
            lambda now: self._expect_unended(),
            version=version,
            previous=standing.champion,
            outcome="withdrawn",
            reason=reason,
            traffic=self._without_candidate(standing),
        )
        self._serve(link)

    def promote(
        self, version: str, *, champion: str | None, reason: str, evidence: Mapping[str, Any] | None = None
    ) -> Done:
        """Make ``version`` the champion: all traffic, the ledger, then alias and tags.

        :param champion: who was champion when the version was judged.
        :raises Superseded: the champion has changed since, or another run has taken over.
        :raises NotFound: there is no such version.
        """
        if self.registry.version(self.pipeline, version) is None:
            raise NotFound("no such version", where=self.pipeline, found=version)
        self.adopt()
        if self.target is not None and not self._recorded("promoted"):
            self.shift(version, _all(version), champion=champion, outcome=ALONE)
        ordered = bool(self._orders())

        def allowed(standing: Standing) -> None:
            self._expect_open()
            self._expect(standing, version, champion)
            if ordered and standing.rollout != self._slug:
                raise self._overtaken(standing)

        done = self._append(
            "promoted",
            allowed,
            version=version,
            previous=champion,
            outcome="promoted",
            reason=reason,
            evidence=evidence or {},
        )
        if self.settle().champion == version:
            self._close(version, "promoted")
            self._retire(champion, version)
        return Done(done.link.event, done.new)

    def roll_back(self, version: str | None, reason: str) -> Done | None:
        """End this run's rollout: the champion answers everything; ``None`` if the run has moved nothing.

        Without a champion what is served stays: nothing else could answer.
        """
        if known := self._ended("rolled_back"):
            return known
        if not self._orders() or self._recorded("promoted"):
            return None
        standing = self.ledger.standing()
        champion = standing.champion
        traffic = None
        if standing.rollout == self._slug:
            traffic = self._without_candidate(standing)

        def allowed(now: Standing) -> None:
            self._expect_unended()
            if now.champion != champion or (traffic is not None and now.rollout != self._slug):
                raise TransientError("the champion has just changed", where=self.pipeline)

        done = self._append(
            "rolled_back",
            allowed,
            version=champion,
            previous=version,
            outcome="rolled_back",
            reason=reason,
            traffic=traffic,
        )
        self.settle()
        self._close(version, "rolled_back")
        self.confirm()
        return Done(done.link.event, done.new)

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
        before = self.adopt()
        champion = before.champion
        if self.target is not None:
            self._serve_or_restore(to, before)

        def allowed(standing: Standing) -> None:
            self._expect_open()
            self._expect_not_withdrawn()
            if self.target is not None and standing.rollout != self._slug:
                raise self._overtaken(standing)

        appended = self._append(
            "rolled_back",
            allowed,
            version=to,
            previous=champion if champion != to else None,
            outcome="rolled_back",
            reason=reason,
            by=by,
        )
        self.settle()
        if appended.link.event.previous:
            self._close(appended.link.event.previous, "rolled_back")
        self.confirm()
        return Done(appended.link.event, appended.new)

    def settle(self) -> Standing:
        """Make alias and traffic what the ledger says is in force; nothing is done where they are."""
        while True:
            standing = self.ledger.standing()
            self._crown(standing)
            served = self._order(standing.traffic)
            if self.ledger.standing() != standing:
                continue
            if not served:
                raise ContractError(
                    "the serving target follows a later order than the ledger knows",
                    where=self.pipeline,
                    found=f"generation {self._generation()}",
                    allowed=f"at most {standing.traffic.generation}",
                    remedy=f"mlretrain verify {self.pipeline} --repair",
                )
            return standing

    def confirm(self) -> None:
        """Raises :class:`TransientError` unless what is served is what the ledger says."""
        standing = self.ledger.standing()
        if self.target is None or not standing.traffic.weights:
            return
        found = self.target.current(self.pipeline)
        if found.served != standing.traffic.served or set(found.mirrored) != set(standing.traffic.mirrored):
            raise TransientError(
                "what is served is not what the ledger says",
                where=self.pipeline,
                found=f"{found.served}, mirrored {dict(found.mirrored)}",
                allowed=f"{standing.traffic.served}, mirrored {dict(standing.traffic.mirrored)}",
                remedy=f"mlretrain verify {self.pipeline} --repair",
            )

    @property
    def _slug(self) -> str:
        return run_slug(self.run_id)

    def _orders(self) -> tuple[LedgerEvent, ...]:
        return self.ledger.of_run(self.run_id, "shifted", "withdrawn")

    def _recorded(self, kind: EventKind) -> bool:
        return bool(self.ledger.of_run(self.run_id, kind))

    def _ended(self, kind: EventKind) -> Done | None:
        """How this run has ended, which is seen to once more."""
        known = self.ledger.of_run(self.run_id, kind)
        if not known:
            return None
        self.settle()
        self.confirm()
        return Done(known[0], new=False)

    def _expect_unended(self) -> None:
        """Nothing follows what ended the run; a task that is doubled finds that when it is tried again."""
        ends = self.ledger.of_run(self.run_id, "promoted", "rolled_back")
        if ends:
            raise TransientError(
                "this run has just ended", where=self.run_id, found=ends[0].kind.replace("_", " ")
            )

    def _expect_open(self) -> None:
        self._expect_unended()
        end = self.ledger.concluded(self.run_id)
        if end is not None and end.at > self.begun:
            raise Superseded("this run ended before its task did", where=self.run_id, found=end.reason)

    def _append(self, kind: EventKind, allowed: Callable[[Standing], None] | None, **fields: Any) -> Appended:
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

    def _expect(self, standing: Standing, version: str, champion: str | None) -> None:
        if standing.champion not in (champion, version):
            raise Superseded(
                "the champion has changed since the candidate was judged",
                where=self.pipeline,
                found=f"version {standing.champion}",
                allowed=f"version {champion}",
                remedy="Start a new retraining; if this comes again, mlretrain verify says what differs.",
            )
        self._expect_not_withdrawn()

    def _expect_not_withdrawn(self) -> None:
        withdrawn = self.ledger.of_run(self.run_id, "withdrawn")
        if withdrawn:
            raise Superseded(
                "this run's order was withdrawn",
                where=self.pipeline,
                found=withdrawn[0].reason,
                remedy="Start a new run.",
            )

    def _overtaken(self, standing: Standing) -> Superseded:
        return Superseded(
            "another run has taken over",
            where=self.pipeline,
            found=f"run {standing.rollout}" if standing.rollout else "no rollout under way",
            allowed=f"run {self._slug}",
            remedy="Start a new run.",
        )

    def _serve(self, link: Link) -> None:
        """Have the target do what the link orders, unless something newer is in force."""
        if self.target is None or link.event.traffic is None:
            return
        standing = self.ledger.standing()
        if standing.traffic.same(link.event.traffic):
            self._order(standing.traffic)

    def _order(self, traffic: Traffic) -> bool:
        """Have the target serve what the ledger said a moment ago; ``False`` if a later order is in force."""
        if self.target is None or not traffic.weights:
            return True
        try:
            self.target.apply(self.pipeline, traffic)
        except Superseded:
            logger.info("A later order than %s is in force.", traffic)
            return False
        return True

    def _generation(self) -> int:
        return self.target.current(self.pipeline).generation if self.target else 0

    def _serve_or_restore(self, to: str, before: Standing) -> None:
        """All traffic to ``to``, or again where it was if that cannot be."""
        link, _ = self._append(
            "shifted",
            lambda standing: self._expect_open(),
            version=to,
            previous=before.champion,
            outcome=ALONE,
            traffic=_all(to),
        )
        try:
            self._serve(link)
        except MlretrainError as error:
            if not error.retryable:
                self.take_back(to, str(error))
            raise

    def _without_candidate(self, standing: Standing) -> Traffic | None:
        """All requests to the champion; without one, what is served whatever was ordered."""
        if self.target is None:
            return None
        if standing.champion is not None:
            return _all(standing.champion)
        return replace(self.target.current(self.pipeline), generation=0)

    def _retire(self, champion: str | None, version: str) -> None:
        if champion is not None and champion != version:
            reason = f"version {version} took over"
            self._append("retired", None, version=champion, outcome="retired", reason=reason)

    def _crown(self, standing: Standing) -> None:
        found = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if standing.champion is not None and (found is None or found.version != standing.champion):
            self.registry.set_alias(self.pipeline, CHAMPION, standing.champion)

    def _close(self, version: str | None, outcome: str) -> None:
        """Say on the version what became of it, and that it is nobody's challenger any more."""
        if version is None:
            return
        challenger = self.registry.version(self.pipeline, f"@{CHALLENGER}")
        if challenger is not None and challenger.version == version:
            self.registry.set_alias(self.pipeline, CHALLENGER, None)
        try:
            self.registry.tag(self.pipeline, version, {OUTCOME: outcome})
        except NotFound:
            logger.warning("Version %s is gone from the registry.", version)


def _unless_crowned(standing: Standing) -> None:
    if standing.champion is not None:
        raise TransientError("a champion has just been entered", found=f"version {standing.champion}")


def _all(version: str) -> Traffic:
    return Traffic(weights={version: 100})
