"""Events of a ledger from before its chain: one plain object each, below the pipeline's ledger by run.

They are left where they are. Entered into a chain that has nothing else in it, they are its beginning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from mlretrain.ledger import KINDS, LedgerEvent, Link
from mlretrain.ports import ArtifactStore, Traffic
from mlretrain.records import read_record


def heirlooms(store: ArtifactStore, pipeline: str) -> tuple[LedgerEvent, ...]:
    """The events, oldest first, each with the traffic that it left.

    Raises :class:`~mlretrain.errors.ContractError` naming an object that is no event.
    """
    folder = f"{pipeline}/ledger/"
    found = [
        read_record(store, path, LedgerEvent, name="a ledger event", folder="the ledger's folder")
        for path in store.list(folder)
        if path.removeprefix(folder).partition("/")[0] not in ("chain", "runs")
    ]
    found.sort(key=lambda event: (event.at, KINDS.index(event.kind), event.key))
    return tuple(_with_traffic(found))


def left_out(
    events: Collection[LedgerEvent], chain: Collection[Link]
) -> tuple[tuple[LedgerEvent, ...], bool]:
    """Those of the ``events`` that the chain has not, and whether they may still be entered: it has nothing
    else than events of theirs, or nothing.
    """
    chained = {link.event.key for link in chain}
    missing = tuple(each for each in events if each.key not in chained)
    return missing, chained <= {each.key for each in events}


def _with_traffic(events: list[LedgerEvent]) -> Iterator[LedgerEvent]:
    """What each event ordered: a shift its ``weights``, a promotion or roll-back everything for its version,
    where models were served at all.
    """
    served = any(event.kind == "shifted" for event in events)
    for event in events:
        weights: dict[str, int] = {}
        if event.kind == "shifted":
            weights = {str(version): int(share) for version, share in event.evidence["weights"].items()}
        elif event.kind in ("promoted", "rolled_back") and served and event.version:
            weights = {event.version: 100}
        yield replace(event, traffic=Traffic(weights=weights)) if weights else event
