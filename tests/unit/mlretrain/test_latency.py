"""Latency: turns are taken, the first answers do not count, and what is too little is not told."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from mlretrain.latency import percentiles, race


class Clock:
    """Time passes as models take it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_row_is_timed_after_the_warm_up(clock: Clock) -> None:
    slow_start = itertools.chain([9.0] * 5, itertools.repeat(0.002))

    def model(row: int) -> None:
        clock.now += next(slow_start)

    assert race({"a": model}, 100, warm_up=5, clock=clock)["a"] == pytest.approx([0.002] * 100)


def test_what_others_do_now_and_then_does_not_count(clock: Clock) -> None:
    disturbed = itertools.cycle([0.05, 0.002, 0.3])

    def model(row: int) -> None:
        clock.now += next(disturbed)

    assert race({"a": model}, 10, clock=clock)["a"] == pytest.approx([0.002] * 10)


def test_models_take_turns_so_that_a_busy_machine_slows_both(clock: Clock) -> None:
    order: list[tuple[str, int]] = []

    def runner(name: str) -> Callable[[int], None]:
        def model(row: int) -> None:
            order.append((name, row))
            clock.now += 0.01 if row >= 50 else 0.001

        return model

    found = race({name: runner(name) for name in ("a", "b")}, 100, warm_up=0, clock=clock)
    assert order[:8] == [(name, 0) for name in "abbaab"] + [("b", 1), ("a", 1)]
    assert found["a"] == pytest.approx(found["b"])


def test_it_ends_in_time(clock: Clock) -> None:
    def model(row: int) -> None:
        clock.now += 1.0

    found = race({"a": model}, 200, warm_up=2, longest_s=90, clock=clock)
    assert len(found["a"]) == 30
    assert set(percentiles(found["a"])) == {"latency_p50_ms", "latency_p95_ms"}
    assert race({"a": model}, 200, warm_up=2, longest_s=1, clock=clock) == {"a": []}


def test_percentiles_are_by_nearest_rank() -> None:
    seconds = [each / 1000 for each in range(200, 0, -1)]
    assert percentiles(seconds) == pytest.approx(
        {"latency_p50_ms": 100, "latency_p95_ms": 190, "latency_p99_ms": 198}
    )


@pytest.mark.parametrize(
    ("answers", "known"),
    [(0, ""), (1, ""), (2, "50"), (19, "50"), (20, "50 95"), (99, "50 95"), (100, "50 95 99")],
)
def test_a_percentile_needs_answers_beyond_it(answers: int, known: str) -> None:
    assert list(percentiles([0.1] * answers)) == [f"latency_p{each}_ms" for each in known.split()]
