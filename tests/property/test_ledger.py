"""The ledger records each act once, in one order, however often and by whomever it is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mlretrain.ledger import KINDS, Ledger, LedgerEvent
from tests.fakes.memory_store import MemoryStore

NOW = datetime(2013, 5, 1, tzinfo=UTC)

events = st.builds(
    LedgerEvent,
    pipeline=st.just("flights"),
    run_id=st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()),
    kind=st.sampled_from(KINDS),
    at=st.integers(0, 5).map(lambda day: NOW + timedelta(days=day)),
    window_end=st.just(NOW),
    version=st.sampled_from([None, "1", "2"]),
    outcome=st.sampled_from([None, "promote", "10", "failed"]),
    reason=st.text(max_size=20),
)


@given(st.lists(events, max_size=12))
def test_events_are_recorded_once_and_read_in_their_order(written: list[LedgerEvent]) -> None:
    ledger = Ledger(MemoryStore(), "flights")
    identity = {(e.run_id, e.kind, e.version, e.outcome) for e in written}
    assert sum(ledger.append(event).new for event in [*written, *written]) == len(identity)
    assert {(e.run_id, e.kind, e.version, e.outcome) for e in ledger.events()} == identity

    chain = list(ledger.links())
    assert tuple(link.event for link in chain) == ledger.events()
    assert [link.parent for link in chain] == ["", *(link.digest for link in chain)][: len(chain)]
    for run_id in {event.run_id for event in written}:
        assert ledger.of_run(run_id) == tuple(e for e in ledger.events() if e.run_id == run_id)
    assert ledger.events("gated") == tuple(e for e in ledger.events() if e.kind == "gated")
