from typing import Any

import pytest

from mlretrain.errors import InvalidInput, Superseded
from mlretrain.ports import Traffic
from mlretrain.serving.traffic import read_traffic, refuse_late


def test_versions_are_ordered() -> None:
    read = read_traffic({"weights": {"10": 40, "9": 60}, "mirrored": {"12": 1, "11": 100}})

    assert list(read.weights) == ["9", "10"]
    assert list(read.mirrored) == ["11", "12"]
    assert read.generation == 0


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        {},
        {"7": 100},
        {"weights": []},
        {"weights": {"7": 99}},
        {"weights": {"7": 100.0}},
        {"weights": {"7": True, "8": 99}},
        {"weights": {"7": -1, "8": 101}},
        {"weights": {"v7": 100}},
        {"weights": {"0": 100}},
        {"weights": {"7": 100}, "mirrored": {"8": 0}},
        {"weights": {"7": 100}, "mirrored": {"8": 101}},
        {"weights": {"7": 100}, "mirrored": {"7": 10}},
        {"weights": {"7": 100}, "mirrored": None},
        {"weights": {}, "mirrored": {"8": 10}},
        {"weights": {"7": 100}, "generation": -1},
        {"weights": {"7": 100}, "generation": "3"},
        {"weights": {"7": 100}, "generatoin": 3},
    ],
)
def test_what_is_no_traffic_is_refused(found: Any) -> None:
    with pytest.raises(InvalidInput, match="summing to 100"):
        read_traffic(found)


@pytest.mark.parametrize(
    ("order", "late"),
    [
        (Traffic(weights={"7": 100}, generation=4), True),
        (Traffic(weights={"8": 100}, generation=5), True),
        (Traffic(weights={"7": 100}, generation=5), False),
        (Traffic(weights={"8": 100}, generation=6), False),
        (Traffic(weights={"8": 100}), False),
    ],
)
def test_generations_say_what_is_late(order: Traffic, late: bool) -> None:
    last = Traffic(weights={"7": 100}, generation=5)
    refuse_late("m", order, None)
    if late:
        with pytest.raises(Superseded, match="later than 5"):
            refuse_late("m", order, last)
    else:
        refuse_late("m", order, last)
