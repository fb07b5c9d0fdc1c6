"""Shares as numbers of pods, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlretrain.errors import ConfigError
from mlretrain_provider.targets.kubernetes_replicas import replicas, shares


@pytest.mark.parametrize(
    ("wanted", "least", "pods"),
    [
        ({"7": 100}, 3, {"7": 3}),
        ({"7": 50, "8": 50}, 1, {"7": 1, "8": 1}),
        ({"7": 50, "8": 50}, 3, {"7": 2, "8": 2}),
        ({"7": 90, "8": 10}, 1, {"7": 9, "8": 1}),
        ({"7": 67, "8": 33}, 1, {"7": 2, "8": 1}),
        ({"7": 80, "8": 10, "9": 10}, 1, {"7": 8, "8": 1, "9": 1}),
    ],
)
def test_the_fewest_pods_that_give_the_shares(
    wanted: dict[str, int], least: int, pods: dict[str, int]
) -> None:
    assert replicas(wanted, least=least, most=10) == pods


def test_a_share_is_never_rounded_up_to_fit() -> None:
    with pytest.raises(ConfigError, match="Raise max_replicas to 19"):
        replicas({"7": 95, "8": 5}, least=1, most=10)


@given(st.integers(1, 99), st.integers(1, 12))
def test_whatever_is_given_is_what_was_asked(share: int, least: int) -> None:
    wanted = {"7": 100 - share, "8": share}
    found = replicas(wanted, least=least, most=100)
    assert shares(found) == wanted
    assert sum(found.values()) >= least


@given(st.dictionaries(st.sampled_from("123456"), st.integers(0, 40)))
def test_percentages_of_pods_sum_to_a_hundred(pods: dict[str, int]) -> None:
    found = shares(pods)
    assert sum(found.values()) == (100 if any(pods.values()) else 0)
    assert {*found} == {version for version, number in pods.items() if number}
