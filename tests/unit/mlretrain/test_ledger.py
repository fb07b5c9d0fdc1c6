"""The ledger and the window log on an artifact store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlretrain.errors import ContractError, Superseded
from mlretrain.ledger import EventKind, Ledger, LedgerEvent, read_tag
from mlretrain.standing import Standing
from mlretrain.windows import WindowLog, retrains
from tests.fakes.memory_store import MemoryStore
from tests.fakes.registry import FakeRegistry

NOW = datetime(2013, 5, 1, tzinfo=UTC)


def event(kind: EventKind, run_id: str = "drift__1", hours: float = 0, **fields: object) -> LedgerEvent:
    base = LedgerEvent(pipeline="flights", run_id=run_id, kind=kind, at=NOW, window_end=NOW)
    return replace(base, at=NOW + timedelta(hours=hours), **fields)  # type: ignore[arg-type]


def test_an_event_is_appended_once_below_its_run() -> None:
    store = MemoryStore()
    ledger = Ledger(store, "flights")
    assert ledger.append(event("promoted", version="7")).new
    assert not ledger.append(event("promoted", version="7", hours=3)).new
    assert store.list("") == [
        "flights/ledger/chain/00000001.json",
        "flights/ledger/runs/drift__1/promoted.v7.json",
    ]
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
    store.write("flights/ledger/runs/drift__1/promoted.json", data)
    store.write("flights/windows/x.json", data)
    with pytest.raises(ContractError, match=r"flights/ledger/runs/drift__1/promoted.json: "):
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
    store.write("flights/ledger/runs/older/retrain_requested.json", b"{}")
    assert store.list("flights/ledger/runs/mine") == [
        "flights/ledger/runs/mine/promoted.v2.json",
        "flights/ledger/runs/mine/registered.v2.20130501T000000.000007Z.json",
    ]
    assert ledger.started() == {"drift__1": NOW, "mine": at, "older": None}
    assert [each.kind for each in ledger.of_run("mine", "registered")] == ["registered"]


def test_every_link_holds_the_one_before() -> None:
    store = MemoryStore()
    ledger = Ledger(store, "flights")
    for number in range(1, 4):
        ledger.append(event("registered", f"run-{number}", version=str(number)))
    first, second, third = ledger.links()
    assert (first.parent, second.parent, third.parent) == ("", first.digest, second.digest)
    assert [each.sequence for each in ledger.links()] == [1, 2, 3]
    store.write(ledger.chain_path(1), store.read(ledger.chain_path(1)).replace(b"run-1", b"run-x"))
    assert next(ledger.links()).digest != second.parent


def test_of_two_writers_that_saw_the_same_past_the_second_looks_again() -> None:
    store = MemoryStore()
    seen = list[str | None]()

    def not_yet(standing: Standing) -> None:
        seen.append(standing.champion)
        if len(seen) == 1:
            Ledger(store, "flights").append(event("promoted", "other", version="8"))
        elif standing.champion:
            raise Superseded("somebody was faster")

    with pytest.raises(Superseded):
        Ledger(store, "flights").append(event("promoted", "mine", version="9"), not_yet)
    assert seen == [None, "8"]
    assert [each.version for each in Ledger(store, "flights").events("promoted")] == ["8"]


def test_a_writer_that_died_before_filing_its_link_is_made_up_for() -> None:
    store = MemoryStore()
    ledger = Ledger(store, "flights")
    ledger.append(event("registered", "mine", version="1"))
    ledger.append(event("promoted", "mine", version="1"))
    del store.objects["flights/ledger/runs/mine/promoted.v1.json"]
    assert [each.kind for each in Ledger(store, "flights").of_run("mine")] == ["registered", "promoted"]
    del store.objects["flights/ledger/runs/mine/promoted.v1.json"]
    assert not Ledger(store, "flights").append(event("promoted", "mine", version="1", hours=1)).new
    assert len(list(ledger.links())) == 2


def test_versions_repeat_the_links_in_their_tags() -> None:
    registry = FakeRegistry()
    registry.register("flights", "models:/m-1", "run", {})
    ledger = Ledger(MemoryStore(), "flights", registry)
    for each in ("retrain_requested", "gated"):
        ledger.append(event(each))
    for each in ("registered", "promoted"):
        ledger.append(event(each, version="1"))  # type: ignore[arg-type]
    ledger.append(event("concluded", "drift__2", outcome="failed"))
    version = registry.version("flights", "1")
    assert version is not None
    assert [read_tag(version.tags[each.tag]) for each in ledger.links()] == list(ledger.links())


def test_what_is_too_large_for_a_tag_is_refused() -> None:
    with pytest.raises(ContractError, match="too large"):
        Ledger(MemoryStore(), "flights").append(event("gated", evidence={"table": "x" * 40_000}))
    link = Ledger(MemoryStore(), "flights").append(event("gated", reason="y" * 5000)).link
    assert (len(link.event.reason), link.event.reason[-1]) == (1000, "…")
