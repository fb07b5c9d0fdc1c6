"""Spaces: what may be searched, value by value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlretrain.errors import ConfigError
from mlretrain_provider.space import read_space


def values(**options: Any) -> tuple[Any, ...]:
    (dimension,) = read_space({"x": options})
    return dimension.values()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"int": [3, 6]}, (3, 4, 5, 6)),
        ({"int": [3, 8], "step": 2}, (3, 5, 7)),
        ({"int": [3, 8], "step": 2.0}, (3, 5, 7)),
        ({"int": [1, 3], "log": True}, (1, 2, 3)),
        ({"float": [0, 0.35], "step": 0.1}, (0.0, 0.1, 0.2, 0.3)),
        ({"float": [0.5, 0.5]}, (0.5,)),
        ({"choice": ["a", None, [64, 32]]}, ("a", None, [64, 32])),
        ({"choice": [1, True, "[2]", [2]]}, (1, True, "[2]", [2])),
    ],
)
def test_every_value_of_a_dimension(options: Any, expected: tuple[Any, ...]) -> None:
    assert values(**options) == expected
    (dimension,) = read_space({"x": options})
    assert dimension.count() == len(expected)
    found = [dimension.chosen(dimension.label(each)) for each in expected]
    assert list(map(repr, found)) == list(map(repr, expected))


def test_a_range_without_steps_is_no_grid() -> None:
    with pytest.raises(ConfigError, match=r"space\.x: a grid needs every value.*Give it a step"):
        values(float=[0.0, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"integer": [1, 2]}, "not a set of values.*allowed: {int:"),
        ({"int": [1, 2], "float": [1, 2]}, "not a set of values"),
        ({"int": [1, 2], "base": 2}, "not a set of values"),
        ({"choice": [1, 2], "log": True}, "not a set of values"),
        ([1, 2], "not a set of values"),
        ({"choice": "ab"}, "not a list of choices"),
        ({"choice": []}, "not a list of choices"),
        ({"int": [9, 3]}, "not a range"),
        ({"int": [1.5, 3]}, "not a range"),
        ({"int": [1, 2, 3]}, "not a range"),
        ({"float": [0, math.inf]}, "not a range"),
        ({"float": [True, 2]}, "not a range"),
        ({"float": [0, 1], "step": 0}, "not a step"),
        ({"int": [0, 9], "step": 1.5}, "not a step"),
        ({"int": [0, 9], "step": "2"}, "not a step"),
        ({"int": [0, 9], "log": True}, "begins above 0"),
        ({"float": [1, 9], "log": True, "step": 2}, "has no step"),
    ],
)
def test_what_is_no_dimension_is_said(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.x: .*{message}|{message}"):
        read_space({"x": options})


@given(low=st.integers(1, 50), width=st.integers(1, 200), log=st.booleans(), place=st.floats(0, 1))
def test_numbers_and_places_are_each_others_inverse(low: int, width: int, log: bool, place: float) -> None:
    (dimension,) = read_space({"x": {"int": [low, low + width], "log": log}})
    value = dimension.from_unit(place)
    assert low <= value <= low + width
    assert dimension.from_unit(dimension.to_unit(value)) == value
