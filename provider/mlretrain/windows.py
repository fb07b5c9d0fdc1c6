"""The windows that were monitored, kept in the artifact store, and the retrains that the ledger knows of.

Together they are all that the retrain policy decides on, so nothing is lost when Airflow is.
"""

from __future__ import annotations

from typing import cast

from mlretrain.errors import ContractError
from mlretrain.ledger import FAILED, Ledger, LedgerEvent
from mlretrain.policy.retrain import CAUSES, Cause, Retrain, WindowRecord, window_slug
from mlretrain.ports import ArtifactStore
from mlretrain.records import read_record
from mlretrain.runtime.contract import run_slug
from mlretrain.wire import pretty


class WindowLog:
    """The monitored windows of one pipeline, one record per window and champion.

    :param store: rooted at the stack's ``artifacts_uri``.
    """

    def __init__(self, store: ArtifactStore, pipeline: str) -> None:
        self.pipeline = pipeline
        self._store = store
        self._folder = f"{pipeline}/windows/"

    def record(self, window: WindowRecord) -> bool:
        """Keep the record; ``True`` if the window had not been recorded against this champion.

        Measuring again replaces what was measured before, so that a threshold is changed by clearing one
        task; a request that the earlier measurement has made stands in the ledger.
        """
        if window.pipeline != self.pipeline:
            raise ContractError("a window of another pipeline", found=window.pipeline, allowed=self.pipeline)
        name = f"{window_slug(window.window_end)}-v{run_slug(window.champion)}.json"
        data = pretty(window)
        if self._store.create(self._folder + name, data):
            return True
        self._store.write(self._folder + name, data)
        return False

    def all(self) -> tuple[WindowRecord, ...]:
        """Every record, oldest window first. Raises :class:`ContractError` naming an object that is none."""
        records = (self._record(path) for path in self._store.list(self._folder))
        return tuple(sorted(records, key=lambda each: (each.window_end, each.champion)))

    def _record(self, path: str) -> WindowRecord:
        return read_record(
            self._store, path, WindowRecord, name="a window record", folder="the windows folder"
        )


def retrains(ledger: Ledger) -> tuple[Retrain, ...]:
    """Every run that was requested or made a version, oldest window first, with how it ended.

    A run that was started as a dry run changes nothing, so it holds no other back either.
    """
    started: dict[str, LedgerEvent] = {}
    ends: dict[str, str | None] = {}
    for event in ledger.events("retrain_requested", "registered", "concluded"):
        if event.kind != "concluded":
            started.setdefault(event.run_id, event)
        elif event.outcome != FAILED or event.run_id not in ends:
            ends[event.run_id] = event.outcome
    found = (
        Retrain(
            run_id=event.run_id,
            window_end=event.window_end,
            cause=_cause(event),
            outcome=ends.get(event.run_id),
        )
        for event in started.values()
        if not event.evidence.get("dry_run")
    )
    return tuple(sorted(found, key=lambda each: (each.window_end, each.run_id)))


def _cause(event: LedgerEvent) -> Cause:
    """The cause that the request states, else what its run id says: Airflow prefixes those that it makes."""
    stated = event.evidence.get("cause")
    if stated in CAUSES:
        return cast(Cause, stated)
    prefix = event.run_id.partition("__")[0]
    by_prefix: dict[str, Cause] = {"drift": "drift", "scheduled": "schedule"}
    return by_prefix.get(prefix, "manual")
