"""Whatever is lost or changed in one place is found, and mended from another."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from mlretrain.errors import TransientError
from mlretrain.history import at, reigns
from mlretrain.ledger import Ledger, LedgerEvent
from mlretrain.ports import Traffic
from mlretrain.rollout import Rollout
from mlretrain.verify import Agreement
from tests.fakes.memory_store import MemoryStore
from tests.fakes.registry import FakeRegistry
from tests.fakes.target import FakeTarget

START = datetime(2026, 1, 5, 6, tzinfo=UTC)


@dataclass
class World:
    """A pipeline whose runs are a week apart."""

    store: MemoryStore = field(default_factory=MemoryStore)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    target: FakeTarget = field(default_factory=FakeTarget)
    week: int = 0

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, "flights", self.registry)

    @property
    def agreement(self) -> Agreement:
        return Agreement(pipeline="flights", store=self.store, registry=self.registry, target=self.target)

    def rollout(self, run_id: str | None = None) -> Rollout:
        self.week += 1
        now = START + timedelta(weeks=self.week)
        return Rollout(
            pipeline="flights",
            run_id=run_id or f"run-{self.week}",
            window_end=now,
            ledger=self.ledger,
            registry=self.registry,
            target=self.target,
            now=lambda: now,
        )

    def promote(self) -> str:
        rollout = self.rollout()
        version = self.registry.register("flights", "models:/m", rollout.run_id, {}).version
        for kind, outcome in (("registered", None), ("gated", "promote")):
            self.ledger.append(
                LedgerEvent(
                    pipeline="flights",
                    run_id=rollout.run_id,
                    kind=kind,  # type: ignore[arg-type]
                    at=rollout.window_end,
                    window_end=rollout.window_end,
                    version=version,
                    outcome=outcome,
                )
            )
        rollout.promote(version, champion=self.ledger.standing().champion, reason=f"week {self.week}")
        return version

    def messages(self) -> list[str]:
        return [each.message for each in self.agreement.verify()]


@pytest.fixture
def world() -> World:
    made = World()
    for _ in range(3):
        made.promote()
    return made


def test_what_agrees_is_left_in_peace(world: World) -> None:
    before = dict(world.store.objects)
    assert world.agreement.verify() == ()
    assert world.agreement.repair() == ()
    assert world.store.objects == before


def chain_path(world: World, sequence: int) -> str:
    return world.ledger.chain_path(sequence)


@pytest.mark.parametrize("sequence", [1, 5, 13])
def test_a_tampered_event_is_reported_and_mended(world: World, sequence: int) -> None:
    path = chain_path(world, sequence)
    true = world.store.read(path)
    world.store.write(path, true.replace(b'"reason": "', b'"reason": "they said so'))
    (found,) = world.messages()
    assert f"{path} has been changed" in found
    (mended,) = world.agreement.repair(by="ada")
    assert mended.mended
    assert world.store.read(path) == true
    assert world.agreement.verify() == ()
    (entered,) = world.ledger.events("repaired")
    assert (entered.by, path in entered.reason) == ("ada", True)


def forge_everywhere(world: World, sequence: int, forged: bytes = b'"reason": "lies') -> None:
    """Change all copies of an event."""
    link = list(world.ledger.links())[sequence - 1]
    for path in (chain_path(world, sequence), world.ledger.run_path(link)):
        world.store.write(path, world.store.read(path).replace(b'"reason": "', forged))
    tags = world.registry.version("flights", str(link.carrier)).tags  # type: ignore[union-attr]
    changed = tags[link.tag].replace('"reason":"', forged.decode().replace(": ", ":"))
    world.registry.tag("flights", str(link.carrier), {link.tag: changed})


def test_an_event_that_was_changed_everywhere_is_not_the_one_that_the_next_followed(world: World) -> None:
    forge_everywhere(world, 5)
    found = world.agreement.repair()
    assert [each.message for each in found if not each.mendable] == [
        "event 5 is not the one that event 6 followed"
    ]
    assert not any(each.mended for each in found)


def test_what_can_be_mended_beside_it_is(world: World) -> None:
    forge_everywhere(world, 5)
    world.registry.set_alias("flights", "champion", None)
    world.store.write(chain_path(world, 7), b"{}")
    found = {each.message: each.mended for each in world.agreement.repair()}
    assert sorted(found.values()) == [False, True, True]
    assert not found["event 5 is not the one that event 6 followed"]
    assert world.messages() == ["event 5 is not the one that event 6 followed"]


def test_nothing_is_mended_towards_a_last_event_that_nobody_can_read(world: World) -> None:
    forge_everywhere(world, len(list(world.ledger.links())), forged=b"")
    world.registry.set_alias("flights", "champion", None)
    assert not any(each.mended for each in world.agreement.repair())


def test_the_ledger_is_made_again_from_the_tags(world: World) -> None:
    before = dict(world.store.objects)
    world.store.objects.clear()
    assert any("is missing" in each for each in world.messages())
    assert all(each.mended for each in world.agreement.repair())
    assert {path: world.store.objects[path] for path in before} == before


def test_the_tags_are_made_again_from_the_ledger(world: World) -> None:
    registry = FakeRegistry()
    for number in range(1, 4):
        registry.register("flights", "models:/m", f"run-{number}", {})
    tags = {each.version: each.tags for each in world.registry.versions("flights")}
    world.registry = registry
    assert all(each.mended for each in world.agreement.repair())
    for each in registry.versions("flights"):
        assert {k: v for k, v in each.tags.items() if k in tags[each.version]} == {
            k: v for k, v in tags[each.version].items() if k.startswith("mlretrain.ledger.")
        }
    assert registry.version("flights", "@champion").version == "3"  # type: ignore[union-attr]


@pytest.mark.parametrize("alias", [None, "1"])
def test_a_lost_or_moved_alias_is_mended(world: World, alias: str | None) -> None:
    world.registry.set_alias("flights", "champion", alias)
    (found,) = world.messages()
    assert "the ledger says version 3" in found
    world.agreement.repair()
    assert world.registry.version("flights", "@champion").version == "3"  # type: ignore[union-attr]
    assert world.agreement.verify() == ()


def test_traffic_that_somebody_moved_by_hand_is_mended(world: World) -> None:
    world.target.apply("flights", Traffic(weights={"1": 100}))
    assert world.messages() == ["version 1 100 % is served, the ledger says version 3 100 % is served"]
    world.agreement.repair()
    assert world.target.current("flights").served == {"3": 100}


def test_a_target_that_follows_a_later_order_is_ordered_anew(world: World) -> None:
    world.target.apply("flights", Traffic(weights={"2": 100}, generation=900))
    world.agreement.repair()
    assert world.target.current("flights").served == {"3": 100}
    assert world.ledger.standing().traffic.generation == 901
    assert world.agreement.verify() == ()
    world.promote()
    assert world.target.current("flights").served == {"4": 100}


def test_a_target_that_does_not_answer_is_said_and_not_mended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise TransientError("the model server does not answer")

    monkeypatch.setattr(world.target, "current", away)
    (found,) = world.agreement.verify()
    assert (found.mendable, "does not answer" in found.message) == (False, True)


def test_history_says_who_served_when(world: World) -> None:
    world.rollout("back").move_back("2", reason="complaints", by="ada")
    links = list(world.ledger.links())
    found = [(each.version, each.reason, each.by) for each in reigns(links)]
    assert found == [
        ("1", "week 1", ""),
        ("2", "week 2", ""),
        ("3", "week 3", ""),
        ("2", "complaints", "ada"),
    ]
    assert at(links, START).reign is None
    for week, version in enumerate(["1", "2", "3", "2"], start=1):
        for day in (0, 3, 6):
            moment = at(links, START + timedelta(weeks=week, days=day))
            assert moment.reign is not None
            assert (moment.reign.version, moment.traffic.served) == (version, {version: 100})
    first = reigns(links)[0]
    assert (first.until, first.grounds.gated.outcome if first.grounds.gated else None) == (
        START + timedelta(weeks=2),
        "promote",
    )
