"""The window log: what is kept, what is merged, and how little is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlretrain.errors import ContractError
from mlretrain.windows import WindowLog
from tests.fakes.memory_store import MemoryStore
from tests.unit.mlretrain.policy.windows import day, window


def test_a_window_measured_again_replaces_itself_only() -> None:
    log = WindowLog(MemoryStore(), "flights")
    first, other = window(9), window(9, champion="8")
    stable = window(9, False)
    assert [log.record(each) for each in (first, other, stable, stable)] == [True, True, False, False]
    assert log.all() == (stable, other)


def test_the_measures_of_a_window_are_kept_apart_and_read_as_one() -> None:
    store = MemoryStore()
    log = WindowLog(store, "flights")
    for each in (window(9), window(9, measure="performance", performance=True)):
        log.record(each)
    assert store.list("") == [
        "flights/windows/20130429T000000Z-v7.json",
        "flights/windows/20130429T000000Z-v7.performance.json",
    ]
    (found,) = log.at(day(9))
    assert found.signals == {"drift": True, "performance": True}
    assert log.at(day(8)) == ()


def test_windows_are_read_by_their_names() -> None:
    store = MemoryStore()
    log = WindowLog(store, "flights")
    for end in range(1, 40):
        log.record(window(end))
    store.objects["flights/windows/20130421T000000Z-v7.json"] = b"no JSON"
    assert [each.window_end for each in log.since(day(38))] == [day(38), day(39)]
    assert log.at(day(5))[0].window_end == day(5)
    with pytest.raises(ContractError, match=r"20130421T000000Z-v7\.json: not a window record"):
        log.all()


def test_a_fraction_of_a_second_belongs_to_the_name() -> None:
    log = WindowLog(MemoryStore(), "flights")
    odd = replace(window(9), window_end=day(9).replace(microsecond=45))
    log.record(odd)
    assert log.since(day(9)) == (odd,)


def test_a_champion_is_told_apart_from_one_whose_name_goes_on() -> None:
    log = WindowLog(MemoryStore(), "flights")
    for name in ("1", "1.beta", "11"):
        log.record(window(9, champion=name))
    index = log.index()
    assert [each.champion for each in index.at(day(9), "1")] == ["1"]
    assert (index.ends("11"), index.ends("2")) == ((day(9),), ())


@pytest.mark.parametrize("name", ["x.json", "yesterday-v1.json"])
def test_a_file_that_is_none_of_ours_is_named(name: str) -> None:
    store = MemoryStore()
    store.write(f"flights/windows/{name}", b"{}")
    with pytest.raises(
        ContractError, match=f"memory://artifacts/flights/windows/{name}: not a window record"
    ):
        WindowLog(store, "flights").since(day(9))


def test_nothing_of_another_pipeline_is_written() -> None:
    with pytest.raises(ContractError, match="another pipeline"):
        WindowLog(MemoryStore(), "other").record(window(9))
