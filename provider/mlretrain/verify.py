"""Do ledger, registry and what is served agree? What differs, and how it is mended.

Whatever is lost or changed in one copy of the ledger is mended from another (:mod:`mlretrain.copies`): a
whole ledger from the tags, all tags from the ledger. Registry and target are mended from the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from mlretrain import wire
from mlretrain.copies import Chain, Copies, Misplaced
from mlretrain.errors import ContractError, TransientError
from mlretrain.follower import Follower
from mlretrain.heirloom import heirlooms, left_out
from mlretrain.ledger import Ledger, LedgerEvent, Link
from mlretrain.ports import CHAMPION, ArtifactStore, ModelRegistry, ServingTarget, Traffic
from mlretrain.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that differs.

    :param subject: what it is about: ``ledger``, ``tags``, ``champion``, ``traffic``, ``rollout``.
    :param message: what was found, in a sentence.
    :param mendable: whether there is a true copy to mend it from.
    :param mended: whether that has been done.
    :param news: whether it is something to know, and no difference.
    """

    subject: Literal["ledger", "tags", "champion", "traffic", "rollout"]
    message: str
    mendable: bool = True
    mended: bool = False
    news: bool = False

    @property
    def differs(self) -> bool:
        """Whether there is something left to mend."""
        return not self.news and not self.mended


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The three who have to agree on one pipeline.

    :param target: where models are served; none: nowhere.
    """

    pipeline: str
    store: ArtifactStore
    registry: ModelRegistry
    target: ServingTarget | None = None

    def verify(self) -> tuple[Finding, ...]:
        """What differs; nothing if all agree. Changes nothing."""
        copies = self._copies()
        chain = copies.chain()
        standing = chain.links[-1].standing if chain.links else Standing()
        return (*self._of_the_ledger(copies, chain), *self._world(standing))

    def repair(self, *, by: str = "") -> tuple[Finding, ...]:
        """Mend what differs and enter that in the ledger; what could not be mended says so.

        An event that was changed everywhere stays as it is; if it is the last one, nobody knows what is in
        force, and nothing is mended.

        :param by: who asked for it.
        """
        copies = self._copies()
        chain = copies.chain()
        if max(copies.found, default=0) in chain.untrue:
            return self.verify()
        found = self._of_the_ledger(copies, chain)
        for link, place, _ in copies.misplaced(_true_links(chain)):
            copies.restore(link, place)
        ledger = Ledger(self.store, self.pipeline, self.registry)
        self._inherit(chain.links, ledger)
        differs = list(self._world(ledger.standing()))
        if any(each.mendable for each in differs):
            self._settle(ledger)
        mended = [replace(each, mended=each.mendable) for each in (*found, *differs)]
        if any(each.mended for each in mended):
            ledger.append(self._repaired(mended, by))
        return tuple(mended)

    def _copies(self) -> Copies:
        return Copies.of(self.pipeline, self.store, self.registry)

    def _of_the_ledger(self, copies: Copies, chain: Chain) -> list[Finding]:
        untrue = [_untrue(sequence, bool(copies.known(sequence))) for sequence in chain.untrue]
        misplaced = [_misplaced(each, copies.ledger) for each in copies.misplaced(_true_links(chain))]
        return [*untrue, *misplaced, *self._inherited(chain.links)]

    def _inherited(self, chain: list[Link]) -> Iterator[Finding]:
        """What a ledger from before the chain has, and the chain has not."""
        try:
            missing, may_enter = left_out(heirlooms(self.store, self.pipeline), chain)
        except ContractError as error:
            yield Finding(subject="ledger", message=str(error), mendable=False)
            return
        if missing:
            events = "1 event is" if len(missing) == 1 else f"{len(missing)} events are"
            since = f", from {_words(missing[0])} on"
            gone_on = "" if may_enter else "; it has gone on without"
            yield Finding(
                subject="ledger",
                message=f"{events} from before the ledger's chain and not in it{since}{gone_on}",
                mendable=may_enter,
                news=not may_enter,
            )

    def _inherit(self, chain: list[Link], ledger: Ledger) -> None:
        """Make a ledger from before the chain the beginning of the chain."""
        try:
            missing, may_enter = left_out(heirlooms(self.store, self.pipeline), chain)
        except ContractError:
            return
        for event in missing if may_enter else ():
            ledger.append(event)

    def _world(self, standing: Standing) -> Iterator[Finding]:
        found = self.registry.version(self.pipeline, f"@{CHAMPION}")
        alias = found.version if found else None
        if alias != standing.champion:
            yield Finding(
                subject="champion",
                message=f"the alias champion points to {_named(alias)}, the ledger says "
                f"{_named(standing.champion)}",
                mendable=standing.champion is not None,
            )
        if self.target is not None and (standing.traffic.weights or standing.champion):
            yield from self._served(self.target, standing)
        if standing.rollout is not None:
            yield Finding(
                subject="rollout",
                message=f"the rollout of run {standing.rollout} is under way",
                mendable=False,
                news=True,
            )

    def _served(self, target: ServingTarget, standing: Standing) -> Iterator[Finding]:
        try:
            current = target.current(self.pipeline)
        except TransientError as error:
            yield Finding(
                subject="traffic", message=f"what is served cannot be seen: {error}", mendable=False
            )
            return
        wanted = standing.traffic
        if current.served != wanted.served or dict(current.mirrored) != dict(wanted.mirrored):
            yield Finding(
                subject="traffic",
                message=f"{_traffic(current)}, the ledger says {_traffic(wanted)}",
                mendable=bool(wanted.weights),
            )
        elif current.generation > wanted.generation:
            yield Finding(
                subject="traffic",
                message=f"what is served was ordered as generation {current.generation}, of which the "
                f"ledger knows {wanted.generation}",
            )

    def _settle(self, ledger: Ledger) -> None:
        follower = Follower(pipeline=self.pipeline, ledger=ledger, registry=self.registry, target=self.target)
        wanted, ahead = ledger.standing().traffic, follower.current().generation
        if ahead > wanted.generation and wanted.weights:
            anew = replace(wanted, generation=ahead + 1)
            ledger.append(replace(self._repaired([], ""), traffic=anew))
        follower.settle()
        follower.confirm()

    def _repaired(self, findings: list[Finding], by: str) -> LedgerEvent:
        now = datetime.now(UTC)
        mended = [each.message for each in findings if each.mended]
        return LedgerEvent(
            pipeline=self.pipeline,
            run_id=_run_id(now),
            kind="repaired",
            at=now,
            window_end=now,
            outcome="mended" if mended else "ordered anew",
            reason="; ".join(mended) or "the serving target followed a later order than the ledger knew",
            by=by,
        )


def _true_links(chain: Chain) -> list[Link]:
    return [each for each in chain.links if each.sequence not in chain.untrue]


def _untrue(sequence: int, known: bool) -> Finding:
    what = "not the one" if known else "lost, the one"
    message = f"event {sequence} is {what} that event {sequence + 1} followed"
    return Finding(subject="ledger", message=message, mendable=False)


def _misplaced(found: Misplaced, ledger: Ledger) -> Finding:
    link, place, changed = found
    match place:
        case "chain":
            where = ledger.chain_path(link.sequence)
        case "run":
            where = ledger.run_path(link)
        case "tag":
            where = f"the tag {link.tag} of version {link.carrier}"
    how = "has been changed" if changed else "is missing"
    return Finding(
        subject="tags" if place == "tag" else "ledger", message=f"{where} {how}: {_words(link.event)}"
    )


def _words(event: LedgerEvent) -> str:
    version = f" version {event.version}" if event.version else ""
    return f"{event.kind.replace('_', ' ')}{version} at {wire.utc(event.at):%Y-%m-%d %H:%M:%S} UTC"


def _named(version: str | None) -> str:
    return f"version {version}" if version else "none"


def _traffic(traffic: Traffic) -> str:
    served = ", ".join(f"version {version} {weight} %" for version, weight in traffic.served.items())
    mirrored = ", ".join(f"version {version} {share} %" for version, share in traffic.mirrored.items())
    return f"{served or 'nothing'} is served" + (f" and {mirrored} mirrored" if mirrored else "")


def _run_id(now: datetime) -> str:
    return f"repair__{now:%Y%m%dT%H%M%S.%f}"
