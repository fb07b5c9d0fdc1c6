"""Swept keys are keys of the pipeline, and their values are checked as if they were written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import load_source
from mlretrain_factory.simulation.sweep import KEYS, sweep, together

PIPELINE = Path(__file__).parents[3] / "example_dags" / "flight-delay.pipeline.yaml"
ENVIRON = {"MLRETRAIN_HOME": "/data"}


def test_every_combination_is_made() -> None:
    found = sweep(["drift.tolerance=0.02,0.05", "retrain.cooldown=3d,7d"])

    assert [[each.given for each in changes] for changes in found] == [
        ["drift.tolerance=0.02", "retrain.cooldown=3d"],
        ["drift.tolerance=0.02", "retrain.cooldown=7d"],
        ["drift.tolerance=0.05", "retrain.cooldown=3d"],
        ["drift.tolerance=0.05", "retrain.cooldown=7d"],
    ]
    assert sweep([]) == [()]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("drift.tolerance=0.02", "monitor.drift.defaults.threshold"),
        ("drift.threshold=0.02", "monitor.drift.defaults.threshold"),
        ("monitor.drift.defaults.threshold=0.02", "monitor.drift.defaults.threshold"),
        ("drift.min_rows=0.02", "monitor.drift.defaults.min_rows"),
        ("drift.share=0.02", "monitor.drift.share"),
        ("drift.columns.dest.tolerance=0.02", "monitor.drift.columns.dest.threshold"),
        ("retrain.windows.violated=0.02", "retrain.windows.violated"),
    ],
)
def test_a_key_may_be_short(given: str, place: str) -> None:
    node = together(sweep([given])[0])

    assert node is not None
    assert node.get(*place.split(".")) is not None
    assert node.get(*place.split(".")).value == 0.02  # type: ignore[union-attr]


def test_a_list_is_one_value() -> None:
    found = sweep(["retrain.when.any=[drift, quality],[drift]"])

    assert [changes[0].given for changes in found] == [
        "retrain.when.any=[drift, quality]",
        "retrain.when.any=[drift]",
    ]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("drift.tolerence", "drift.tolerance"),
        ("cooldown", "retrain.cooldown"),
        ("retrain.window.violated", "retrain.windows.violated"),
        ("monitor.data.window", None),
        ("train.params.max_depth", None),
    ],
)
def test_an_unknown_key_is_one_error_with_the_nearest(key: str, near: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep([f"{key}=1"])

    assert f"no key {key!r}" in str(caught.value)
    assert near is None or f"Did you mean `{near}`?" in str(caught.value)


def test_a_key_without_values_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing to sweep"):
        sweep(["retrain.cooldown"])


def test_a_value_is_checked_like_one_in_the_file() -> None:
    node = together(sweep(["retrain.cooldown=soon"])[0])

    with pytest.raises(SpecErrors) as caught:
        load_source(PIPELINE, ENVIRON, changes=node)

    assert "--sweep retrain.cooldown=soon" in str(caught.value)
    assert "not a duration" in str(caught.value)


def test_values_that_contradict_each_other_are_found() -> None:
    node = together(sweep(["retrain.windows.violated=4"])[0])

    with pytest.raises(SpecErrors, match="more violated windows than windows"):
        load_source(PIPELINE, ENVIRON, changes=node)


def test_what_decides_can_be_swept_and_nothing_else() -> None:
    assert "retrain.budget.max" in KEYS
    assert not [key for key in KEYS if key.startswith(("monitor.data", "monitor.schedule"))]
