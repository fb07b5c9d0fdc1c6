"""Everything around a job may die, at any point and in any order: there is one job, one result, no orphan.

A seed that fails is repeated by ``pytest "tests/fault/test_schedules.py::test_a_seeded_schedule[<seed>]"``.
"""

from __future__ import annotations

import functools

import pytest

from tests.fault.schedule import FAULTS, WISHES, Fault, Schedule, World

SEEDS = 300


@functools.cache
def points(deferrable: bool) -> list[str]:
    """The points that an undisturbed task passes, in the order in which it passes them."""
    world = World(Schedule(deferrable=deferrable)).run()
    return list(dict.fromkeys(world.hub.points))


def check(world: World) -> None:
    assert world.run().violations() == [], f"{world.schedule}\n{world.struck}"


@pytest.mark.parametrize("deferrable", [True, False])
def test_undisturbed(deferrable: bool) -> None:
    world = World(Schedule(deferrable=deferrable))
    check(world)
    assert len(world.platform.jobs) == 1
    assert len(points(deferrable)) > 20


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_seeded_schedule(seed: int) -> None:
    check(World(Schedule.of(seed, {mode: points(mode) for mode in (True, False)})))


@pytest.mark.parametrize("what", [*FAULTS, *WISHES])
@pytest.mark.parametrize("deferrable", [True, False])
def test_at_each_point(deferrable: bool, what: str) -> None:
    for point in points(deferrable):
        check(World(Schedule(deferrable=deferrable, faults=(Fault(what=what, point=point),))))
