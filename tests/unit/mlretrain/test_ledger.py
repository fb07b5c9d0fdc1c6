"""The ledger and the window log on an artifact store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlretrain.errors import ContractError
from mlretrain.ledger import EventKind, Ledger, LedgerEvent
from mlretrain.windows import WindowLog, retrains
from tests.fakes.memory_store import MemoryStore

NOW = datetime(2013, 5, 1, tzinfo=UTC)


def event(kind: EventKind, run_id: str = "drift__1", hours: float = 0, **fields: object) -> LedgerEvent:
    base = LedgerEvent(pipeline="flights", run_id=run_id, kind=kind, at=NOW, window_end=NOW)
    return replace(base, at=NOW + timedelta(hours=hours), **fields)  # type: ignore[arg-type]


def test_an_event_is_appended_once_below_its_run() -> None:
    store = MemoryStore()
    ledger = Ledger(store, "flights")
    assert ledger.append(event("promoted", version="7"))
    assert not ledger.append(event("promoted", version="7", hours=3))
    assert store.list("") == ["flights/ledger/drift__1/promoted.v7.json"]
    assert [each.at for each in ledger.events()] == [NOW]


def test_a_failed_run_can_still_come_to_a_result_but_not_back() -> None:
    ledger = Ledger(MemoryStore(), "flights")
    assert (ledger.outcome("drift__1"), ledger.settled("drift__1")) == (None, False)
    ledger.append(event("concluded", outcome="failed"))
    assert (ledger.outcome("drift__1"), ledger.settled("drift__1")) == ("failed", False)
    ledger.append(event("concluded", outcome="promoted", hours=1))
    assert (ledger.outcome("drift__1"), ledger.settled("drift__1")) == ("promoted", True)
    other = Ledger(MemoryStore(), "flights")
    other.append(event("concluded", outcome="promoted"))
    other.append(event("concluded", outcome="failed", hours=1))
    assert other.outcome("drift__1") == "promoted"


def test_retrains_are_the_runs_that_were_requested_or_made_a_version() -> None:
    ledger = Ledger(MemoryStore(), "flights")
    ledger.append(event("retrain_requested"))
    ledger.append(event("registered", version="2", hours=1))
    ledger.append(event("concluded", outcome="rejected", hours=2))
    ledger.append(event("registered", "scheduled__2013-05-06", window_end=NOW + timedelta(days=5)))
    ledger.append(event("retrain_requested", "mine", evidence={"cause": "manual"}))
    ledger.append(event("rolled_back", "manual__back"))
    found = [(each.run_id, each.cause, each.outcome) for each in retrains(ledger)]
    assert found == [
        ("drift__1", "drift", "rejected"),
        ("mine", "manual", None),
        ("scheduled__2013-05-06", "schedule", None),
    ]


def test_a_dry_run_is_no_retrain() -> None:
    ledger = Ledger(MemoryStore(), "flights")
    ledger.append(event("retrain_requested", "dry", evidence={"cause": "manual", "dry_run": True}))
    ledger.append(event("registered", "dry", version="2", hours=1))
    ledger.append(event("concluded", "dry", outcome="dry_run", hours=2))
    ledger.append(event("retrain_requested", "mine", evidence={"cause": "manual", "dry_run": False}))
    assert [each.run_id for each in retrains(ledger)] == ["mine"]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"{", b"[]", b'{"pipeline": "flights"}'])
def test_a_file_that_is_none_of_ours_is_named(data: bytes) -> None:
    store = MemoryStore()
    store.write("flights/ledger/drift__1/promoted.json", data)
    store.write("flights/windows/x.json", data)
    with pytest.raises(ContractError, match=r"^memory://artifacts/flights/ledger/drift__1/promoted.json: "):
        Ledger(store, "flights").events()
    with pytest.raises(ContractError, match=r"^memory://artifacts/flights/windows/x.json: "):
        WindowLog(store, "flights").all()


def test_nothing_of_another_pipeline_is_written() -> None:
    with pytest.raises(ContractError, match="another pipeline"):
        Ledger(MemoryStore(), "other").append(event("promoted"))


def test_the_names_of_a_start_say_its_window() -> None:
    store = MemoryStore()
    ledger = Ledger(store, "flights")
    at = NOW + timedelta(microseconds=7)
    ledger.append(event("retrain_requested", "drift__1"))
    ledger.append(event("registered", "mine", version="2", window_end=at))
    ledger.append(event("promoted", "mine", version="2"))
    ledger.append(event("rolled_back", "back"))
    store.write("flights/ledger/older/retrain_requested.json", b"{}")
    assert store.list("flights/ledger/mine") == [
        "flights/ledger/mine/promoted.v2.json",
        "flights/ledger/mine/registered.v2.20130501T000000.000007Z.json",
    ]
    assert ledger.started() == {"drift__1": NOW, "mine": at, "older": None}
    assert [each.kind for each in ledger.of_run("mine", "registered")] == ["registered"]
