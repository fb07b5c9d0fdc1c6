"""A window's profile, by itself and on a reference's bins."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from mlretrain.drift.profile import DriftProfile
from mlretrain.errors import ContractError
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
        assert column.edges == _kept(uri).columns[0].edges


def test_a_reference_that_is_none(
    make_context: MakeContext, make_dataset: MakeDataset, flights: pd.DataFrame
) -> None:
    dataset_uri = make_dataset(flights)
    with pytest.raises(ContractError, match="DriftProfile"):
        profile.run(Config(dataset_uri=dataset_uri, reference_uris=(dataset_uri,)), make_context("profile"))
