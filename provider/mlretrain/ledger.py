"""What happened to the models of a pipeline, by whom and on what evidence: an append-only record.

One small JSON object per event in the artifact store, created conditionally: of several attempts to write
the same event exactly one succeeds, so an act that is repeated is recorded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from mlretrain.errors import ContractError
from mlretrain.policy.window import slug_time, window_slug
from mlretrain.ports import ArtifactStore
from mlretrain.records import read_record
from mlretrain.runtime.contract import run_slug
from mlretrain.wire import pretty

EventKind = Literal[
    "retrain_requested", "registered", "gated", "shifted", "promoted", "rolled_back", "concluded"
]
KINDS: tuple[EventKind, ...] = get_args(EventKind)
STARTS: tuple[EventKind, ...] = ("retrain_requested", "registered")
"""The events that make a run a retrain; their names say the window's end, so that few need to be read."""

FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvent:
    """One act of one run.

    :param at: when it was done, in wall time; orders events, decides nothing.
    :param window_end: the instant of data that the run is about.
    :param version: the model version acted on, ``previous`` the one that served before.
    :param outcome: a verdict, a weight, or how the run ended.
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
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes two events the same: run, kind, version and outcome, and of a start its window."""
        window = window_slug(self.window_end) if self.kind in STARTS else None
        parts = (self.kind, self.version and f"v{self.version}", self.outcome, window)
        return f"{run_slug(self.run_id)}/{'.'.join(run_slug(each) for each in parts if each)}"


class Ledger:
    """The events of one pipeline.

    :param store: rooted at the stack's ``artifacts_uri``.
    """

    def __init__(self, store: ArtifactStore, pipeline: str) -> None:
        self.pipeline = pipeline
        self._store = store
        self._folder = f"{pipeline}/ledger/"

    def append(self, event: LedgerEvent) -> bool:
        """Record the event; ``False`` if it is there already, which is then left as it is."""
        if event.pipeline != self.pipeline:
            raise ContractError("an event of another pipeline", found=event.pipeline, allowed=self.pipeline)
        return self._store.create(f"{self._folder}{event.key}.json", pretty(event))

    def events(self, *kinds: EventKind) -> tuple[LedgerEvent, ...]:
        """Every event, or those of the given kinds, oldest first.

        Raises :class:`ContractError` naming an object that is no event.
        """
        return self._read(self._folder, kinds)

    def started(self) -> dict[str, datetime | None]:
        """The runs that were requested or made a version, as path segments, with the ends of their windows.

        From one listing, without reading any event; ``None`` where the names do not say.
        """
        found: dict[str, datetime | None] = {}
        for path in self._store.list(self._folder):
            slug, _, name = path.removeprefix(self._folder).rpartition("/")
            if _kind(name) in STARTS:
                found[slug] = _window_end(name) or found.get(slug)
        return found

    def of_run(self, run_id: str, *kinds: EventKind) -> tuple[LedgerEvent, ...]:
        """The events of one run, or those of the given kinds, oldest first.

        :param run_id: or its path segment.
        """
        return self._read(f"{self._folder}{run_slug(run_id)}/", kinds)

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

    def _read(self, prefix: str, kinds: tuple[EventKind, ...]) -> tuple[LedgerEvent, ...]:
        paths = (
            path for path in self._store.list(prefix) if not kinds or _kind(path.rpartition("/")[2]) in kinds
        )
        return tuple(sorted((self._event(path) for path in paths), key=_order))

    def _event(self, path: str) -> LedgerEvent:
        return read_record(
            self._store, path, LedgerEvent, name="a ledger event", folder="the ledger's folder"
        )


def _kind(name: str) -> str:
    return name.partition(".")[0]


def _window_end(name: str) -> datetime | None:
    """What a start's name ends with; an instant's fraction of a second has a point of its own."""
    parts = name.removesuffix(".json").split(".")
    return slug_time(parts[-1]) or slug_time(".".join(parts[-2:]))


def _order(event: LedgerEvent) -> tuple[datetime, int, str]:
    return event.at, KINDS.index(event.kind), event.key


def _finality(event: LedgerEvent) -> tuple[bool, datetime, str]:
    return event.outcome != FAILED, event.at, event.key
