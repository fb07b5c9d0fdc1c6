"""Do ledger, registry and what is served agree? What differs, and how it is mended.

Every link of the ledger stands in three places: in the chain, filed by its run, and in a tag of its model
version. Each link names the digest of the one before, so the true copy of a link is the one that the next
link followed, and that of the last link the one that most places have. Whatever is lost or changed in one
place is mended from another: a whole ledger from the tags, all tags from the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from mlretrain import wire
from mlretrain.errors import ContractError, MlretrainError, NotFound, TransientError
from mlretrain.follower import Follower
from mlretrain.heirloom import heirlooms, left_out
from mlretrain.ledger import TAG_PREFIX, Ledger, LedgerEvent, Link, read_tag
from mlretrain.ports import CHAMPION, ArtifactStore, ModelRegistry, ServingTarget, Traffic
from mlretrain.standing import Standing

Place = Literal["chain", "run", "tag"]


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
        chain, broken = true_chain(copies)
        standing = chain[-1].standing if chain else Standing()
        misplaced = _misplaced(copies, chain, self)
        return (*broken, *misplaced, *self._inherited(chain), *self._world(standing))

    def repair(self, *, by: str = "") -> tuple[Finding, ...]:
        """Mend what differs and enter that in the ledger; what could not be mended says so.

        :param by: who asked for it.
        """
        copies = self._copies()
        chain, broken = true_chain(copies)
        if broken:
            return self.verify()
        found = list(_misplaced(copies, chain, self))
        for link in chain:
            self._restore(link, copies.get(link.sequence, {}))
        ledger = Ledger(self.store, self.pipeline, self.registry)
        found += self._inherited(chain)
        self._inherit(chain, ledger)
        differs = list(self._world(ledger.standing()))
        if any(each.mendable for each in differs):
            self._settle(ledger)
        mended = [replace(each, mended=each.mendable) for each in (*found, *differs)]
        if any(each.mended for each in mended):
            ledger.append(self._repaired(mended, by))
        return tuple(mended)

    @property
    def ledger(self) -> Ledger:
        """The pipeline's ledger."""
        return Ledger(self.store, self.pipeline)

    def _copies(self) -> dict[int, dict[Place, Link | None]]:
        """Every copy of every link by its number; ``None`` where one cannot be read."""
        found: dict[int, dict[Place, Link | None]] = {}
        for place, sequence, link in (*self._chained(), *self._filed(), *self._tagged()):
            found.setdefault(sequence, {})[place] = link
        return found

    def _chained(self) -> Iterator[tuple[Place, int, Link | None]]:
        for path in self.store.list(f"{self.pipeline}/ledger/chain/"):
            number = path.rpartition("/")[2].removesuffix(".json")
            if number.isdigit():
                yield "chain", int(number), self._read(path)

    def _filed(self) -> Iterator[tuple[Place, int, Link | None]]:
        for path in self.store.list(f"{self.pipeline}/ledger/runs/"):
            link = self._read(path)
            if link is not None and self.ledger.run_path(link) == path:
                yield "run", link.sequence, link

    def _tagged(self) -> Iterator[tuple[Place, int, Link | None]]:
        for version in self.registry.versions(self.pipeline):
            for name, text in version.tags.items():
                number = name.removeprefix(TAG_PREFIX)
                if name.startswith(TAG_PREFIX) and number.isdigit():
                    yield "tag", int(number), _tag(text)

    def _read(self, path: str) -> Link | None:
        try:
            return self.ledger.read(path)
        except (ContractError, NotFound):
            return None

    def _restore(self, link: Link, copies: dict[Place, Link | None]) -> None:
        content = wire.pretty(link)
        if copies.get("run") != link:
            self.store.write(self.ledger.run_path(link), content)
        if copies.get("chain") != link:
            self.store.write(self.ledger.chain_path(link.sequence), content)
        if copies.get("tag") != link and link.carrier is not None:
            try:
                self.registry.tag(self.pipeline, link.carrier, {link.tag: wire.canonical(link).decode()})
            except NotFound:
                return

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


def true_chain(copies: dict[int, dict[Place, Link | None]]) -> tuple[list[Link], list[Finding]]:
    """The links as they were written, oldest first, and those of which there is no true copy left."""
    if not copies:
        return [], []
    chain: list[Link] = []
    broken: list[Finding] = []
    for sequence in range(max(copies), 0, -1):
        known = [each for each in copies.get(sequence, {}).values() if each is not None]
        link = _true(known, chain[-1].parent if chain else None)
        if link is None:
            broken.append(
                Finding(
                    subject="ledger",
                    message=f"event {sequence} is {'not the one' if known else 'lost, the one'} that event "
                    f"{sequence + 1} followed",
                    mendable=False,
                )
            )
            link = max(known, key=lambda each: known.count(each), default=None)
        if link is not None:
            chain.append(link)
    return chain[::-1], broken


def _true(known: list[Link], digest: str | None) -> Link | None:
    """The copy with that digest; without one, the copy that most places have."""
    if digest is not None:
        return next((each for each in known if each.digest == digest), None)
    votes = Counter(each.digest for each in known)
    return next((each for each in known if each.digest == votes.most_common(1)[0][0]), None)


def _misplaced(
    copies: dict[int, dict[Place, Link | None]], chain: list[Link], among: Agreement
) -> Iterator[Finding]:
    versions = {each.version for each in among.registry.versions(among.pipeline)}
    for link in chain:
        found = copies.get(link.sequence, {})
        places: list[Place] = ["chain", "run"]
        if link.carrier in versions:
            places.append("tag")
        for place in places:
            if found.get(place) != link:
                how = "has been changed" if place in found else "is missing"
                yield Finding(
                    subject="tags" if place == "tag" else "ledger",
                    message=f"{_place(place, link, among.ledger)} {how}: {_words(link.event)}",
                )


def _place(place: Place, link: Link, ledger: Ledger) -> str:
    match place:
        case "chain":
            return ledger.chain_path(link.sequence)
        case "run":
            return ledger.run_path(link)
        case "tag":
            return f"the tag {link.tag} of version {link.carrier}"


def _words(event: LedgerEvent) -> str:
    version = f" version {event.version}" if event.version else ""
    return f"{event.kind.replace('_', ' ')}{version} at {wire.utc(event.at):%Y-%m-%d %H:%M:%S} UTC"


def _tag(text: str) -> Link | None:
    try:
        return read_tag(text)
    except MlretrainError:
        return None


def _named(version: str | None) -> str:
    return f"version {version}" if version else "none"


def _traffic(traffic: Traffic) -> str:
    served = ", ".join(f"version {version} {weight} %" for version, weight in traffic.served.items())
    mirrored = ", ".join(f"version {version} {share} %" for version, share in traffic.mirrored.items())
    return f"{served or 'nothing'} is served" + (f" and {mirrored} mirrored" if mirrored else "")


def _run_id(now: datetime) -> str:
    return f"repair__{now:%Y%m%dT%H%M%S.%f}"
