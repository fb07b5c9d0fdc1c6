"""What happened to the models of a pipeline, by whom and on what evidence: an append-only record.

Every event is one link of a chain: a small JSON object that holds the digest of the link before it, so that
nothing can be changed or taken out unseen, and what is in force once it has happened. Links are numbered and
created conditionally: of two writers that both saw the same past exactly one goes on from it, the other one
looks again. Each link is found a second time by its run, and a third time in the tags of its model version;
either chain or tags can be made again from the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from mlretrain import wire
from mlretrain.errors import ContractError, NotFound
from mlretrain.policy.window import slug_time, window_slug
from mlretrain.ports import ArtifactStore, ModelRegistry, Traffic
from mlretrain.records import read_record
from mlretrain.runtime.contract import run_slug
from mlretrain.standing import Standing

EventKind = Literal[
    "retrain_requested",
    "registered",
    "tested",
    "gated",
    "approved",
    "rejected",
    "shifted",
    "observed",
    "withdrawn",
    "promoted",
    "retired",
    "rolled_back",
    "repaired",
    "concluded",
]
KINDS: tuple[EventKind, ...] = get_args(EventKind)
STARTS: tuple[EventKind, ...] = ("retrain_requested", "registered")
"""The events that make a run a retrain; their names say the window's end, so that few need to be read."""

JUDGEMENTS: tuple[EventKind, ...] = ("gated", "approved", "rejected")
"""The events that may come again on other evidence, and then are new ones."""

FAILED = "failed"
TAG_PREFIX = "mlretrain.ledger."
"""Before a link's number: the model version's tag that repeats it."""

MAX_REASON = 1000
MAX_LINK = 32_000
"""Characters; evidence that is larger belongs in a file that the event names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvent:
    """One act of one run.

    :param at: when it was done, in wall time; decides nothing.
    :param window_end: the instant of data that the run is about.
    :param version: the model version acted on, ``previous`` the one that served before.
    :param outcome: a verdict, a weight, or how the run ended.
    :param by: the person who did or decided it; empty: the run itself.
    :param traffic: who is to answer requests from now on; ``None`` leaves that as it is.
    :param evidence: small plain JSON; a request holds its ``cause`` there.
    """

    pipeline: str
    run_id: str
    kind: EventKind
    at: datetime
    window_end: datetime
    version: str | None = None
    previous: str | None = None
    outcome: str | None = None
    reason: str = ""
    by: str = ""
    traffic: Traffic | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes two events the same: run, kind, version and outcome; of a start its window, of a
        judgement its evidence.
        """
        window = window_slug(self.window_end) if self.kind in STARTS else None
        judged = wire.digest(self.evidence, 8) if self.kind in JUDGEMENTS else None
        parts = (self.kind, self.version and f"v{self.version}", self.outcome, window, judged)
        return f"{run_slug(self.run_id)}/{'.'.join(run_slug(each) for each in parts if each)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One event in its place.

    :param sequence: counts from 1.
    :param parent: the :attr:`digest` of the link before; empty for the first.
    :param standing: what is in force since.
    """

    sequence: int
    parent: str
    event: LedgerEvent
    standing: Standing

    @property
    def digest(self) -> str:
        """The SHA-256 of the link's canonical JSON."""
        return hashlib.sha256(wire.canonical(self)).hexdigest()

    @property
    def tag(self) -> str:
        """The name of the model version's tag that repeats it."""
        return f"{TAG_PREFIX}{self.sequence:08d}"

    @property
    def carrier(self) -> str | None:
        """The version whose tags repeat it: its own, else the champion; ``None`` before there is any."""
        return self.event.version or self.standing.champion


class Appended(NamedTuple):
    """The link of an event, and whether it has just been added."""

    link: Link
    new: bool


Allowed = Callable[[Standing], None]
"""Raises if an event must not follow what is in force."""


class Ledger:
    """The events of one pipeline.

    :param store: rooted at the stack's ``artifacts_uri``.
    :param registry: whose model versions repeat the links in their tags, or what gives it once it is needed;
        none: they do not.
    """

    def __init__(
        self,
        store: ArtifactStore,
        pipeline: str,
        registry: ModelRegistry | Callable[[], ModelRegistry] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self._store = store
        self._registry = registry
        self._complete = False
        self._chain = f"{pipeline}/ledger/chain/"
        self._runs = f"{pipeline}/ledger/runs/"

    def append(self, event: LedgerEvent, allowed: Allowed | None = None) -> Appended:
        """Record the event; one that is there already is left as it is, and its link returned.

        The link before the new one is filed by its run first, so that only the last link may ever be
        missing there: whether an event is recorded is answered without reading the chain.

        :param allowed: asked about what is in force right before the event, as often as another writer
            comes in between.
        """
        event = self._checked(event)
        while True:
            head = self._catch_up()
            known = self._filed(event.key)
            if known is not None:
                self._repeat_in_tags(known)
                return Appended(known, new=False)
            if allowed is not None:
                allowed(head.standing if head else Standing())
            link = follow(head, event)
            self._complete = False
            if self._store.create(self.chain_path(link.sequence), wire.pretty(link)):
                self._file(link)
                self._complete = True
                self._repeat_in_tags(link)
                return Appended(link, new=True)

    def head(self) -> Link | None:
        """The last link."""
        paths = self._store.list(self._chain)
        return self.read(paths[-1]) if paths else None

    def standing(self) -> Standing:
        """What is in force."""
        head = self.head()
        return head.standing if head else Standing()

    def links(self) -> Iterator[Link]:
        """Every link, the first one first, as it stands there; see :mod:`mlretrain.verify`."""
        for path in self._store.list(self._chain):
            yield self.read(path)

    def events(self, *kinds: EventKind) -> tuple[LedgerEvent, ...]:
        """Every event, or those of the given kinds, in order.

        Raises :class:`ContractError` naming an object that is no event.
        """
        return self._read(self._runs, kinds)

    def started(self) -> dict[str, datetime | None]:
        """The runs that were requested or made a version, as path segments, with the ends of their windows.

        From one listing, reading the last event only; ``None`` where the names do not say.
        """
        found: dict[str, datetime | None] = {}
        for path in self._paths(self._runs):
            slug, _, name = path.removeprefix(self._runs).rpartition("/")
            if _kind(name) in STARTS:
                found[slug] = _window_end(name) or found.get(slug)
        return found

    def of_run(self, run_id: str, *kinds: EventKind) -> tuple[LedgerEvent, ...]:
        """The events of one run, or those of the given kinds, in order.

        :param run_id: or its path segment.
        """
        return self._read(f"{self._runs}{run_slug(run_id)}/", kinds)

    def concluded(self, run_id: str) -> LedgerEvent | None:
        """How the run ended; ``None`` while it has not.

        A run may be concluded again: the later conclusion counts, except that a run that has come to a
        result is not undone by failing later.
        """
        ends = [each for each in self.of_run(run_id) if each.kind == "concluded"]
        return max(ends, key=_finality, default=None)

    def outcome(self, run_id: str) -> str | None:
        """The outcome of :meth:`concluded`."""
        end = self.concluded(run_id)
        return end.outcome if end else None

    def settled(self, run_id: str) -> bool:
        """Whether the run came to a result, so that repeating any of its acts must change nothing."""
        return self.outcome(run_id) not in (None, FAILED)

    def chain_path(self, sequence: int) -> str:
        """Where a link is kept."""
        return f"{self._chain}{sequence:08d}.json"

    def run_path(self, link: Link) -> str:
        """Where a link is kept once more, by its run."""
        return f"{self._runs}{link.event.key}.json"

    def read(self, path: str) -> Link:
        """The link at ``path``. Raises :class:`ContractError` naming an object that is none."""
        return read_record(self._store, path, Link, name="a ledger event", folder="the ledger's folder")

    def _checked(self, event: LedgerEvent) -> LedgerEvent:
        if event.pipeline != self.pipeline:
            raise ContractError("an event of another pipeline", found=event.pipeline, allowed=self.pipeline)
        if len(wire.canonical(event)) > MAX_LINK:
            raise ContractError(
                "an event that is too large for the ledger",
                where=event.key,
                found=f"{len(wire.canonical(event))} characters",
                allowed=f"{MAX_LINK}",
                remedy="Keep its evidence in a file and name that.",
            )
        short = event.reason if len(event.reason) <= MAX_REASON else f"{event.reason[: MAX_REASON - 1]}…"
        return replace(event, reason=short)

    def _file(self, link: Link) -> None:
        self._store.create(self.run_path(link), wire.pretty(link))

    def _filed(self, key: str) -> Link | None:
        try:
            return self.read(f"{self._runs}{key}.json")
        except NotFound:
            return None

    def _repeat_in_tags(self, link: Link) -> None:
        if self._registry is None or link.carrier is None:
            return
        links = [link]
        if link.sequence > 1 and link.event.kind == "registered":
            # What happened before there was any version is repeated with the first one.
            links = [each for each in self.links() if each.carrier is None] + links
        try:
            tags = {each.tag: wire.canonical(each).decode() for each in links}
            registry = self._registry() if callable(self._registry) else self._registry
            registry.tag(self.pipeline, link.carrier, tags)
        except NotFound:
            return  # The version is gone from the registry; the ledger is not.

    def _catch_up(self) -> Link | None:
        """The last link, which a writer that died may not have filed by its run."""
        head = self.head()
        if head is not None:
            self._file(head)
        self._complete = True
        return head

    def _paths(self, prefix: str) -> list[str]:
        if not self._complete:
            self._catch_up()
        return self._store.list(prefix)

    def _read(self, prefix: str, kinds: tuple[EventKind, ...]) -> tuple[LedgerEvent, ...]:
        paths = (path for path in self._paths(prefix) if not kinds or _kind(path.rpartition("/")[2]) in kinds)
        links = sorted((self.read(path) for path in paths), key=lambda link: link.sequence)
        return tuple(link.event for link in links)


def follow(head: Link | None, event: LedgerEvent) -> Link:
    """The link that ``event`` makes after ``head``."""
    sequence = head.sequence + 1 if head else 1
    before = head.standing if head else Standing()
    return Link(
        sequence=sequence,
        parent=head.digest if head else "",
        event=event,
        standing=before.after(
            event.kind,
            run=run_slug(event.run_id),
            version=event.version,
            traffic=event.traffic,
            sequence=sequence,
        ),
    )


def read_tag(text: str) -> Link:
    """The link that a tag repeats. Raises :class:`ContractError`."""
    try:
        return wire.from_wire(Link, json.loads(text))
    except ValueError as error:
        raise ContractError("not a ledger event", found=str(error)) from error


def _kind(name: str) -> str:
    return name.partition(".")[0]


def _window_end(name: str) -> datetime | None:
    """What a start's name ends with; an instant's fraction of a second has a point of its own."""
    parts = name.removesuffix(".json").split(".")
    return slug_time(parts[-1]) or slug_time(".".join(parts[-2:]))


def _finality(event: LedgerEvent) -> tuple[bool, datetime, str]:
    return event.outcome != FAILED, event.at, event.key
