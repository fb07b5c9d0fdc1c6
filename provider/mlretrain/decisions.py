"""What was decided about each window, kept with the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlretrain.errors import ContractError, NotFound
from mlretrain.policy.retrain import Retrain, RetrainDecision, RetrainPolicy, window_slug
from mlretrain.ports import ArtifactStore
from mlretrain.records import read_record
from mlretrain.wire import pretty


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision, and all that it rests on besides the windows that it names itself.

    :param champion: the version in force; empty if there was none.
    :param retrains: those that were looked at, but for the one that it starts itself.
    """

    pipeline: str
    window_end: datetime
    champion: str
    decision: RetrainDecision
    retrains: tuple[Retrain, ...]
    policy: RetrainPolicy


class DecisionLog:
    """The decisions of one pipeline, one for each window.

    :param store: rooted at the stack's ``artifacts_uri``.
    """

    def __init__(self, store: ArtifactStore, pipeline: str) -> None:
        self.pipeline = pipeline
        self._store = store

    def path(self, window_end: datetime) -> str:
        """Where the decision about a window is kept, below the store's root."""
        return f"{self.pipeline}/decisions/{window_slug(window_end)}.json"

    def record(self, record: DecisionRecord) -> DecisionRecord:
        """Keep the decision in place of an earlier one about the window; the decision as it stands there.

        One to retrain stands, with the evidence that it was taken on, as the request in the ledger does.
        """
        if record.pipeline != self.pipeline:
            raise ContractError(
                "a decision of another pipeline", found=record.pipeline, allowed=self.pipeline
            )
        if record.decision.verdict == "retrain":
            known = self.at(record.window_end)
            if known is not None and known.decision.verdict == "retrain":
                return known
        self._store.write(self.path(record.window_end), pretty(record))
        return record

    def at(self, window_end: datetime) -> DecisionRecord | None:
        """The decision about a window, if one was taken. Raises :class:`ContractError` for anything else."""
        path = self.path(window_end)
        try:
            return read_record(
                self._store, path, DecisionRecord, name="a decision", folder="the decisions folder"
            )
        except NotFound:
            return None
