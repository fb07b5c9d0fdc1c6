"""The windows that were monitored, kept in the artifact store, and the retrains that the ledger knows of.

Together they are all that the retrain policy decides on, so nothing is lost when Airflow is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import cast

from mlretrain.errors import ContractError
from mlretrain.ledger import FAILED, STARTS, EventKind, Ledger, LedgerEvent
from mlretrain.policy.retrain import CAUSES, Cause, Retrain, WindowRecord, window_slug
from mlretrain.policy.window import merged, slug_time
from mlretrain.ports import ArtifactStore
from mlretrain.records import read_record
from mlretrain.runtime.contract import run_slug
from mlretrain.wire import pretty

RETRAIN_EVENTS: tuple[EventKind, ...] = (*STARTS, "concluded")
"""The events that say what a retrain was and how it ended."""


class WindowLog:
    """The monitored windows of one pipeline: a record for each window, champion and measure.

    :param store: rooted at the stack's ``artifacts_uri``.
    """

    def __init__(self, store: ArtifactStore, pipeline: str) -> None:
        self.pipeline = pipeline
        self._store = store
        self._folder = f"{pipeline}/windows/"

    def record(self, window: WindowRecord) -> bool:
        """Keep the record; ``True`` if the window had not been recorded by this measure and champion.

        Measuring again replaces what was measured before, so that a threshold is changed by clearing one
        task; a request that the earlier measurement has made stands in the ledger.
        """
        if window.pipeline != self.pipeline:
            raise ContractError("a window of another pipeline", found=window.pipeline, allowed=self.pipeline)
        measure = f".{window.measure}" if window.measure else ""
        name = f"{window_slug(window.window_end)}-v{run_slug(window.champion)}{measure}.json"
        data = pretty(window)
        if self._store.create(self._folder + name, data):
            return True
        self._store.write(self._folder + name, data)
        return False

    def index(self) -> WindowIndex:
        """What there is now, by name: listed once, and read as it is asked for."""
        return WindowIndex(self._store, self._folder)

    def all(self) -> tuple[WindowRecord, ...]:
        """Every window, one record for each champion, the measures merged; the oldest first.

        Raises :class:`ContractError` naming an object that is none.
        """
        index = self.index()
        return tuple(record for end in index.ends() for record in index.at(end))

    def since(self, instant: datetime) -> tuple[WindowRecord, ...]:
        """The windows of :meth:`all` that end at ``instant`` or later; no other is read."""
        index = self.index()
        return tuple(record for end in index.ends() if end >= instant for record in index.at(end))

    def at(self, window_end: datetime) -> tuple[WindowRecord, ...]:
        """The records of one window, one for each champion; no other is read."""
        return self.index().at(window_end)


class WindowIndex:
    """A listing of the windows' folder. Records are read when they are asked for, each once.

    Names that the log did not give are read at once, so that what is no record is told of.
    """

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self._store = store
        self._known: dict[str, WindowRecord] = {}
        self._paths: dict[datetime, list[str]] = {}
        for path in store.list(folder):
            slug, found, _ = path.removeprefix(folder).partition("-v")
            end = (slug_time(slug) if found else None) or self._read(path).window_end
            self._paths.setdefault(end, []).append(path)

    def ends(self, champion: str | None = None) -> tuple[datetime, ...]:
        """The windows' ends, oldest first; or of those that are named for one champion."""
        return tuple(sorted(end for end, paths in self._paths.items() if any(_of(paths, champion))))

    def at(self, window_end: datetime, champion: str | None = None) -> tuple[WindowRecord, ...]:
        """The window's records, one for each champion, the measures merged; or that of one champion."""
        found = merged(self._read(path) for path in _of(self._paths.get(window_end, ()), champion))
        return tuple(each for each in found if champion in (None, each.champion))

    def _read(self, path: str) -> WindowRecord:
        if path not in self._known:
            self._known[path] = read_record(
                self._store, path, WindowRecord, name="a window record", folder="the windows folder"
            )
        return self._known[path]


def _of(paths: Iterable[str], champion: str | None) -> list[str]:
    if champion is None:
        return list(paths)
    mark = f"-v{run_slug(champion)}."
    return [path for path in paths if mark in path.rpartition("/")[2]]


def retrains(ledger: Ledger) -> tuple[Retrain, ...]:
    """Every run that was requested or made a version, oldest window first, with how it ended.

    A run that was started as a dry run changes nothing, so it holds no other back either.
    """
    by_run: dict[str, list[LedgerEvent]] = {}
    for event in ledger.events(*RETRAIN_EVENTS):
        by_run.setdefault(event.run_id, []).append(event)
    found = [each for events in by_run.values() if (each := retrain_of(events))]
    return tuple(sorted(found, key=lambda each: (each.window_end, each.run_id)))


def retrain_of(events: Iterable[LedgerEvent]) -> Retrain | None:
    """The retrain that a run's events, oldest first, tell of; ``None`` if it is none."""
    start: LedgerEvent | None = None
    outcome: str | None = None
    for event in events:
        if event.kind == "concluded":
            outcome = event.outcome if event.outcome != FAILED else outcome or FAILED
        elif event.kind in STARTS:
            start = start or event
    if start is None or start.evidence.get("dry_run"):
        return None
    return Retrain(
        run_id=start.run_id,
        window_end=start.window_end,
        cause=_cause(start),
        outcome=outcome,
        champion=str(start.evidence.get("champion") or ""),
    )


def _cause(event: LedgerEvent) -> Cause:
    """The cause that the request states, else what its run id says: Airflow prefixes those that it makes."""
    stated = event.evidence.get("cause")
    if stated in CAUSES:
        return cast(Cause, stated)
    prefix = event.run_id.partition("__")[0]
    by_prefix: dict[str, Cause] = {"drift": "drift", "scheduled": "schedule"}
    return by_prefix.get(prefix, "manual")
