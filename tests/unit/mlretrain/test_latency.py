"""Latency: turns are taken, the first answers do not count, and what is too little is not told."""

from __future__ import annotations

import itertools

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

    def model(turn: int) -> None:
        clock.now += next(slow_start)

    assert race({"a": model}, 100, warm_up=5, clock=clock)["a"] == pytest.approx([0.002] * 100)


def test_models_take_turns_so_that_a_busy_machine_slows_both(clock: Clock) -> None:
    order: list[tuple[str, int]] = []

    def ask(name: str, turn: int) -> None:
        order.append((name, turn))
        clock.now += 0.01 if turn >= 50 else 0.001

    found = race(
        {name: lambda turn, name=name: ask(name, turn) for name in ("a", "b")},  # type: ignore[misc]
        100,
        warm_up=0,
        clock=clock,
    )
    assert order[:4] == [("b", 0), ("a", 0), ("a", 1), ("b", 1)]
    assert found["a"] == pytest.approx(found["b"])


def test_it_ends_in_time(clock: Clock) -> None:
    def model(turn: int) -> None:
        clock.now += 1.0

    found = race({"a": model}, 200, warm_up=2, longest_s=30, clock=clock)
    assert len(found["a"]) == 29
    assert set(percentiles(found["a"])) == {"latency_p50_ms", "latency_p95_ms"}


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
