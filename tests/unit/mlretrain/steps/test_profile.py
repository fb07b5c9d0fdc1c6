"""A window's profile, by itself and on a reference's bins."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from mlretrain.drift.profile import DriftProfile
from mlretrain.runtime.store import read_uri
from mlretrain.steps import profile
from mlretrain.steps.profile import Config
from mlretrain.wire import from_wire

from .conftest import MakeContext, MakeDataset


def _kept(uri: str) -> DriftProfile:
    return from_wire(DriftProfile, json.loads(read_uri(uri)))


def test_every_column_but_the_excluded_is_profiled(
    make_context: MakeContext, make_dataset: MakeDataset, flights: pd.DataFrame
) -> None:
    config = Config(dataset_uri=make_dataset(flights, "time"), exclude=("flight_id",))
    result = profile.run(config, make_context("profile"))
    kept = _kept(result["profile_uri"])
    assert result["rows"] == kept.rows == 400
    assert {each.name for each in kept.columns} == {"carrier", "distance", "number", "late"}


def test_a_window_is_counted_in_the_references_bins(
    make_context: MakeContext, make_dataset: MakeDataset, flights: pd.DataFrame
) -> None:
    features = Config(dataset_uri=make_dataset(flights), include=("distance",))
    predictions = Config(dataset_uri=make_dataset(pd.DataFrame({"prediction": [0.1, 0.2, 0.9]})))
    references = tuple(
        profile.run(each, make_context("profile"))["profile_uri"] for each in (features, predictions)
    )
    window = flights.assign(prediction=0.5, model_version="1")
    config = Config(dataset_uri=make_dataset(window), reference_uris=references)
    kept = _kept(profile.run(config, make_context("profile"))["profile_uri"])
    assert {each.name for each in kept.columns} == {"distance", "prediction"}
    for column, uri in zip(sorted(kept.columns, key=lambda each: each.name), references, strict=True):
        assert column.bins == _kept(uri).columns[0].bins


def test_another_window_is_profiled_beside_it(
    make_context: MakeContext, make_dataset: MakeDataset, flights: pd.DataFrame
) -> None:
    before = make_dataset(flights.assign(distance=flights["distance"] - 500))
    config = Config(dataset_uri=make_dataset(flights), against_uri=before, include=("distance",))
    result = profile.run(config, make_context("profile"))
    old, new = (_kept(result[name]).columns[0] for name in ("reference_profile_uri", "profile_uri"))
    assert old.bins == new.bins
    assert old.mean == pytest.approx((new.mean or 0) - 500)


@pytest.mark.parametrize("content", ["dataset", "old", "nothing"])
def test_a_reference_that_is_none_leaves_the_window_unknown(
    make_context: MakeContext, make_dataset: MakeDataset, flights: pd.DataFrame, tmp_path: Path, content: str
) -> None:
    uri = make_dataset(flights)
    if content != "dataset":
        path = tmp_path / "profile.json"
        if content == "old":
            path.write_text('{"version": 1, "rows": 1, "columns": []}')
        result = profile.run(
            Config(dataset_uri=uri, reference_uris=(path.as_uri(),)), make_context("profile")
        )
    else:
        result = profile.run(Config(dataset_uri=uri, reference_uris=(uri,)), make_context("profile"))
    assert (result["profile_uri"], result["rows"]) == (None, 0)
    assert {
        "dataset": "not a drift profile of this version",
        "old": "(found version 1; allowed: version 2)",
        "nothing": "profile.json",
    }[content] in result["unknown"]
