"""Work is done once, wherever, and its errors reach whoever waits."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mlretrain.errors import InvalidInput
from mlretrain.simulation.workshop import Workshop


@dataclass
class Bench:
    """Counts what it is asked."""

    asked: list[int] = field(default_factory=list)

    def double(self, number: int) -> int:
        self.asked.append(number)
        return 2 * number

    def fail(self) -> None:
        raise InvalidInput("no such rows")


def test_the_same_question_is_answered_once() -> None:
    bench = Bench()
    with Workshop(bench, jobs=0) as workshop:
        assert [workshop.call(bench.double, each) for each in (1, 2, 1)] == [2, 4, 2]
    assert bench.asked == [1, 2]


@pytest.mark.parametrize("jobs", [0, 1])
def test_an_error_reaches_whoever_waits(jobs: int) -> None:
    bench = Bench()
    with pytest.raises(InvalidInput, match="no such rows"), Workshop(bench, jobs=jobs) as workshop:
        workshop.call(bench.fail)


def test_other_processes_answer_as_this_one_would() -> None:
    bench = Bench()
    with Workshop(bench, jobs=1) as workshop:
        assert workshop.call(bench.double, 21) == 42
    assert bench.asked == []
