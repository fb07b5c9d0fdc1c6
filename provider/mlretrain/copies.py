"""The copies of a ledger's links: in the chain, filed by their run, and in the tags of model versions.

Each link names the digest of the one before, so the true copy of a link is the one that the next link
followed, and that of the last link the one that most places have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mlretrain import wire
from mlretrain.errors import ContractError, MlretrainError, NotFound
from mlretrain.ledger import TAG_PREFIX, Ledger, Link, read_tag
from mlretrain.ports import ArtifactStore, ModelRegistry

Place = Literal["chain", "run", "tag"]


class Misplaced(NamedTuple):
    """A true link that is not, or not so, where it should be."""

    link: Link
    place: Place
    changed: bool


class Chain(NamedTuple):
    """The links as they were written, oldest first.

    :param untrue: the numbers of those of which there is no true copy left; a false copy stands in for one,
        if there is any.
    """

    links: list[Link]
    untrue: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Every copy of every link, as it was found.

    :param found: by the link's number; ``None`` where a copy cannot be read.
    """

    pipeline: str
    store: ArtifactStore
    registry: ModelRegistry
    found: Mapping[int, Mapping[Place, Link | None]]

    @classmethod
    def of(cls, pipeline: str, store: ArtifactStore, registry: ModelRegistry) -> Copies:
        """All there are now."""
        found: dict[int, dict[Place, Link | None]] = {}
        ledger = Ledger(store, pipeline)
        for place, sequence, link in (
            *_chained(ledger, store),
            *_filed(ledger, store),
            *_tagged(pipeline, registry),
        ):
            found.setdefault(sequence, {})[place] = link
        return cls(pipeline=pipeline, store=store, registry=registry, found=found)

    @property
    def ledger(self) -> Ledger:
        """The pipeline's ledger."""
        return Ledger(self.store, self.pipeline)

    def known(self, sequence: int) -> list[Link]:
        """The copies of a link that can be read."""
        return [each for each in self.found.get(sequence, {}).values() if each is not None]

    def chain(self) -> Chain:
        """The true copies, from the last link back to the first."""
        links: list[Link] = []
        untrue: list[int] = []
        for sequence in range(max(self.found, default=0), 0, -1):
            known = self.known(sequence)
            link = _true(known, links[-1].parent if links else None)
            if link is None:
                untrue.append(sequence)
                link = max(known, key=known.count, default=None)
            if link is not None:
                links.append(link)
        return Chain(links[::-1], untrue)

    def misplaced(self, links: list[Link]) -> Iterator[Misplaced]:
        """What has to be put back; the tags of versions that are gone do not."""
        versions = {each.version for each in self.registry.versions(self.pipeline)}
        for link in links:
            found = self.found.get(link.sequence, {})
            places: tuple[Place, ...] = (
                ("chain", "run", "tag") if link.carrier in versions else ("chain", "run")
            )
            for place in places:
                if found.get(place) != link:
                    yield Misplaced(link, place, place in found)

    def restore(self, link: Link, place: Place) -> None:
        """Put a link where it should be."""
        match place:
            case "chain":
                self.store.write(self.ledger.chain_path(link.sequence), wire.pretty(link))
            case "run":
                self.store.write(self.ledger.run_path(link), wire.pretty(link))
            case "tag":
                self.registry.tag(self.pipeline, str(link.carrier), {link.tag: wire.canonical(link).decode()})


def _chained(ledger: Ledger, store: ArtifactStore) -> Iterator[tuple[Place, int, Link | None]]:
    for path in store.list(f"{ledger.pipeline}/ledger/chain/"):
        number = path.rpartition("/")[2].removesuffix(".json")
        if number.isdigit():
            yield "chain", int(number), _read(ledger, path)


def _filed(ledger: Ledger, store: ArtifactStore) -> Iterator[tuple[Place, int, Link | None]]:
    for path in store.list(f"{ledger.pipeline}/ledger/runs/"):
        link = _read(ledger, path)
        if link is not None and ledger.run_path(link) == path:
            yield "run", link.sequence, link


def _tagged(pipeline: str, registry: ModelRegistry) -> Iterator[tuple[Place, int, Link | None]]:
    for version in registry.versions(pipeline):
        for name, text in version.tags.items():
            number = name.removeprefix(TAG_PREFIX)
            if name.startswith(TAG_PREFIX) and number.isdigit():
                yield "tag", int(number), _tag(text)


def _read(ledger: Ledger, path: str) -> Link | None:
    try:
        return ledger.read(path)
    except (ContractError, NotFound):
        return None


def _tag(text: str) -> Link | None:
    try:
        return read_tag(text)
    except MlretrainError:
        return None


def _true(known: list[Link], digest: str | None) -> Link | None:
    """The copy with that digest; without one, the copy that most places have."""
    if digest is not None:
        return next((each for each in known if each.digest == digest), None)
    votes = Counter(each.digest for each in known)
    return next((each for each in known if each.digest == votes.most_common(1)[0][0]), None)
