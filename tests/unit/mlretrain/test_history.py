"""Who served when: by the clock on the wall, and by the windows of data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlretrain.history import at, during, reigns, spells
from mlretrain.ledger import EventKind, Ledger, LedgerEvent, Link
from mlretrain.ports import Traffic
from tests.fakes.memory_store import MemoryStore

WALL = datetime(2026, 3, 3, 12, tzinfo=UTC)
DATA = datetime(2013, 4, 1, tzinfo=UTC)
WEEK, MINUTE = timedelta(weeks=1), timedelta(minutes=1)


class Past:
    """A ledger whose events are a minute apart, while the data are weeks apart."""

    def __init__(self) -> None:
        self.ledger = Ledger(MemoryStore(), "flights")
        self.clock = WALL

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(self.ledger.links())

    def add(self, run_id: str, kind: EventKind, end: datetime, **fields: Any) -> datetime:
        self.clock += MINUTE
        event = LedgerEvent(
            pipeline="flights", run_id=run_id, kind=kind, at=self.clock, window_end=end, **fields
        )
        self.ledger.append(event)
        return self.clock

    def retrain(self, version: str, end: datetime, beside: str | None = None) -> None:
        run = f"run-{version}"
        self.add(run, "registered", end, version=version, reason=f"drift {version}")
        self.add(run, "gated", end, version=version, outcome="promote", reason="all hold")
        self.add(run, "approved", end, version=version, outcome="approved", by="ada", reason="fine")
        if beside:
            split = Traffic(weights={beside: 75, version: 25})
            self.add(run, "shifted", end, version=version, outcome="25", traffic=split)
        everything = Traffic(weights={version: 100})
        self.add(run, "promoted", end, version=version, reason="promote: all hold", traffic=everything)

    def back(self, version: str, end: datetime) -> None:
        everything = Traffic(weights={version: 100})
        self.add("back", "shifted", end, version=version, outcome="alone", traffic=everything)
        self.add("back", "rolled_back", end, version=version, reason="complaints", by="bob")


@pytest.fixture
def past() -> Past:
    made = Past()
    made.retrain("1", DATA)
    made.retrain("2", DATA + WEEK, beside="1")
    return made


def days(start: datetime, number: int) -> Iterator[datetime]:
    yield from (start + timedelta(days=day) for day in range(number))


def test_a_reign_has_its_grounds(past: Past) -> None:
    past.back("1", WALL)
    first, second, again = reigns(past.links)
    assert (first.reason, first.by, second.reason) == ("drift 1", "", "drift 2")
    assert (again.reason, again.by, again.until) == ("complaints", "bob", None)
    assert first.grounds == again.grounds
    assert again.grounds.approved is not None
    assert again.grounds.approved.by == "ada"
    assert second.ended is not None
    assert (second.ended.kind, second.ended.by) == ("rolled_back", "bob")


def test_spells_follow_each_other_without_a_gap(past: Past) -> None:
    past.back("1", WALL)
    found = spells(past.links)
    assert [each.until for each in found] == [*(each.since for each in found[1:]), None]
    assert [each.traffic.served for each in found] == [
        {}, {"1": 100}, {"1": 75, "2": 25}, {"2": 100}, {"1": 100}, {"1": 100},
    ]  # fmt: skip
    assert [each.rollout for each in found] == [None, None, "run-2", None, "back", None]


def test_the_candidate_of_a_canary_has_its_grounds_too(past: Past) -> None:
    (canary,) = (each for each in spells(past.links) if len(each.traffic.served) == 2)
    assert canary.reign is not None
    assert canary.reign.version == "1"
    assert canary.candidates["2"].approved is not None
    assert at(past.links, canary.since) == canary


def test_a_time_has_every_spell_of_it(past: Past) -> None:
    hour = during(past.links, WALL, WALL + timedelta(hours=1))
    assert {version for each in hour for version in each.traffic.served} == {"1", "2"}
    assert hour == spells(past.links)
    assert during(past.links, WALL - timedelta(hours=1), WALL) == ()
    assert during(past.links, WALL + timedelta(days=1), WALL + timedelta(days=2)) == hour[-1:]


def test_every_day_of_the_data_has_its_version(past: Past) -> None:
    for day in days(DATA - WEEK, 28):
        (version,) = at(past.links, day, "data").traffic.served or ("",)
        assert version == ("" if day < DATA else "1" if day < DATA + WEEK else "2")
        served = {
            each for spell in during(past.links, day, day + timedelta(days=1), "data")
            for each in spell.traffic.served
        }  # fmt: skip
        assert served == ({version} if version else set())


def test_a_day_in_the_middle_of_which_it_changed_has_both(past: Past) -> None:
    noon = DATA + WEEK - timedelta(hours=12)
    found = during(past.links, noon, noon + timedelta(days=1), "data")
    assert [each.traffic.served for each in found] == [{"1": 100}, {"2": 100}]


def test_what_is_about_no_window_comes_before_the_next_one(past: Past) -> None:
    past.back("1", WALL)
    assert at(past.links, DATA + 3 * WEEK, "data").traffic.served == {"2": 100}
    assert at(past.links, WALL, "data").traffic.served == {"1": 100}
    past.retrain("3", DATA + 2 * WEEK)
    assert at(past.links, DATA + 2 * WEEK, "data").traffic.served == {"3": 100}
    assert [each.version for each in reigns(past.links, "data")] == ["1", "2", "1", "3"]
    assert [each.traffic.served for each in spells(past.links, "data")] == [
        {"1": 100},
        {"2": 100},
        {"3": 100},
    ]


def test_a_worker_whose_clock_is_slow_turns_nothing_round(past: Past) -> None:
    past.clock = WALL - timedelta(days=1)
    past.back("1", WALL)
    found = spells(past.links)
    assert found[-1].traffic.served == {"1": 100}
    assert [each.since for each in found] == sorted(each.since for each in found)


def test_before_everything_there_was_nothing() -> None:
    assert (reigns([]), spells([]), at([], WALL).reign) == ((), (), None)
