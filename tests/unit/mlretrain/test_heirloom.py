"""A ledger from before the chain becomes the beginning of the chain, and nobody's history is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlretrain import wire
from mlretrain.heirloom import heirlooms
from mlretrain.history import reigns
from mlretrain.ledger import Ledger
from mlretrain.ports import Traffic
from mlretrain.verify import Agreement, Finding
from tests.fakes.memory_store import MemoryStore
from tests.fakes.registry import FakeRegistry
from tests.fakes.target import FakeTarget

START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass
class Attic:
    """What a release without a chain left behind: two promotions, the second one rolled back by hand."""

    store: MemoryStore = field(default_factory=MemoryStore)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    target: FakeTarget = field(default_factory=FakeTarget)
    events: int = 0

    def leave(self, run_id: str, name: str, **fields: Any) -> None:
        """An object as that release wrote it: no ``by``, no ``traffic``."""
        self.events += 1
        at = (START + timedelta(hours=self.events)).isoformat()
        fixed = {"pipeline": "flights", "run_id": run_id, "at": at, "window_end": at, "previous": None}
        event = {**fixed, "outcome": None, "version": None, "reason": "", "evidence": {}, **fields}
        self.store.write(f"flights/ledger/{run_id}/{name}.json", wire.pretty(event))

    def furnish(self) -> Attic:
        for version, before in (("1", None), ("2", "1")):
            run = f"run-{version}"
            self.registry.register("flights", "models:/m", run, {})
            facts = {"version": version, "previous": before}
            self.leave(run, f"registered.v{version}", kind="registered", **facts, reason="drift")
            self.leave(run, f"gated.v{version}.promote", kind="gated", **facts, outcome="promote")
            for share in (25, 100) if before else (100,):
                weights = {version: share, **({before: 100 - share} if before and share < 100 else {})}
                shift = {"outcome": str(share), "evidence": {"weights": weights}}
                self.leave(run, f"shifted.v{version}.{share}", kind="shifted", **facts, **shift)
            self.leave(run, f"promoted.v{version}.promoted", kind="promoted", **facts, outcome="promoted")
            self.leave(run, f"concluded.v{version}.promoted", kind="concluded", **facts, outcome="promoted")
        back = {"version": "1", "previous": "2", "outcome": "rolled_back", "reason": "complaints"}
        self.leave("back", "rolled_back.v1.rolled_back", kind="rolled_back", **back)
        self.registry.set_alias("flights", "champion", "1")
        self.target.apply("flights", Traffic(weights={"1": 100}))
        return self

    @property
    def agreement(self) -> Agreement:
        return Agreement(pipeline="flights", store=self.store, registry=self.registry, target=self.target)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, "flights", self.registry)

    def of_the_ledger(self) -> list[Finding]:
        return [each for each in self.agreement.verify() if each.subject == "ledger"]


@pytest.fixture
def attic() -> Attic:
    return Attic().furnish()


def test_what_is_not_in_the_chain_is_reported_and_nothing_is_changed(attic: Attic) -> None:
    before = dict(attic.store.objects)
    (found,) = attic.of_the_ledger()
    assert found.message.startswith("12 events are from before the ledger's chain and not in it, from reg")
    assert (found.mendable, found.differs) == (True, True)
    assert attic.store.objects == before


def test_repair_makes_it_the_beginning(attic: Attic) -> None:
    old = dict(attic.store.objects)
    assert not [each for each in attic.agreement.repair(by="ada") if each.differs]
    assert attic.agreement.verify() == ()
    links = list(attic.ledger.links())
    assert len(links) == attic.events + 1
    assert (links[-1].event.kind, links[-1].event.by) == ("repaired", "ada")
    assert attic.ledger.standing().champion == "1"
    assert attic.ledger.standing().traffic.served == {"1": 100}
    assert [each.version for each in reigns(links)] == ["1", "2", "1"]
    assert [each.standing.traffic.served for each in links if each.event.kind == "shifted"] == [
        {"1": 100}, {"2": 25, "1": 75}, {"2": 100},
    ]  # fmt: skip
    assert {path: attic.store.objects[path] for path in old} == old
    assert attic.agreement.repair() == ()


def test_a_registry_or_target_that_differs_from_it_is_mended_too(attic: Attic) -> None:
    attic.registry.set_alias("flights", "champion", None)
    attic.target.apply("flights", Traffic(weights={"2": 100}))
    assert all(each.mended for each in attic.agreement.repair())
    assert attic.target.current("flights").served == {"1": 100}
    assert attic.agreement.verify() == ()


def test_an_entry_that_was_interrupted_goes_on(attic: Attic) -> None:
    for event in heirlooms(attic.store, "flights")[:4]:
        attic.ledger.append(event)
    (found,) = attic.of_the_ledger()
    assert found.message.startswith("8 events are")
    attic.agreement.repair()
    assert [link.event for link in attic.ledger.links()][:-1] == list(heirlooms(attic.store, "flights"))


def test_a_chain_that_has_gone_on_without_is_left_as_it_is(attic: Attic) -> None:
    (event, *_) = heirlooms(attic.store, "flights")
    attic.ledger.append(wire.from_wire(type(event), {**wire.to_wire(event), "run_id": "new"}))
    (found,) = attic.of_the_ledger()
    assert (found.news, found.differs, "it has gone on without" in found.message) == (True, False, True)
    attic.agreement.repair()
    assert "run-1" not in attic.ledger.started()


def test_what_was_served_nowhere_orders_no_traffic(attic: Attic) -> None:
    for path in [each for each in attic.store.objects if "/shifted" in each]:
        del attic.store.objects[path]
    assert all(each.traffic is None for each in heirlooms(attic.store, "flights"))


def test_an_object_that_is_no_event_is_named_and_keeps_the_others_out(attic: Attic) -> None:
    attic.store.write("flights/ledger/run-1/notes.json", b"{}")
    (found,) = attic.of_the_ledger()
    assert ("notes.json" in found.message, found.differs, found.mendable) == (True, True, False)
    assert any(each.differs for each in attic.agreement.repair())
    assert list(attic.ledger.links()) == []
