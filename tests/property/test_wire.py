"""What goes over the wire comes back, and its digest depends on nothing but the value."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mlretrain.data.dataset import DataFile, Dataset, fingerprint
from mlretrain.runtime.contract import StepOutput, StepReport, StepRequest, run_slug
from mlretrain.wire import canonical, digest, from_wire, pretty

times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))
numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=4)
files = st.builds(DataFile, uri=texts, size=st.integers(min_value=0), etag=texts)
outputs = st.builds(StepOutput, uri=texts, sha256=texts, size=st.integers(min_value=0))
requests = st.builds(
    StepRequest,
    protocol=st.just(1),
    step=texts,
    pipeline=texts,
    run_id=texts,
    window_end=times,
    key=texts,
    config=objects,
    frozen=objects,
    output_uri=texts,
    seed=st.integers(),
)
reports = st.builds(
    StepReport,
    protocol=st.just(1),
    key=texts,
    status=st.sampled_from(["succeeded", "failed"]),
    exit_code=st.integers(0, 255),
    result=objects,
    outputs=st.dictionaries(texts, outputs, max_size=3),
    metrics=st.dictionaries(texts, numbers, max_size=3),
    timings=st.dictionaries(texts, numbers, max_size=3),
    error=st.none() | objects,
    attempt=st.integers(1, 9),
)
datasets = st.builds(
    Dataset,
    uri=texts,
    format=st.sampled_from(["parquet", "csv"]),
    files=st.lists(files, max_size=4).map(tuple),
    time_column=st.none() | texts,
    start=st.none() | times,
    end=st.none() | times,
    rows=st.integers(min_value=0),
    fingerprint=texts,
)


@given(requests | reports | datasets)
def test_what_goes_over_the_wire_comes_back(value: StepRequest | StepReport | Dataset) -> None:
    for data in (canonical(value), pretty(value)):
        assert from_wire(type(value), json.loads(data)) == value


@given(objects)
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(
    st.lists(files, max_size=5, unique_by=lambda file: file.uri).flatmap(
        lambda found: st.tuples(st.just(found), st.permutations(found))
    )
)
def test_a_fingerprint_does_not_depend_on_the_order_of_a_listing(
    listings: tuple[list[DataFile], list[DataFile]],
) -> None:
    first, second = (fingerprint(tuple(listing), format="csv") for listing in listings)
    assert first == second


@given(st.lists(files, min_size=1, max_size=5, unique_by=lambda file: file.uri))
def test_a_fingerprint_depends_on_every_file(found: list[DataFile]) -> None:
    changed = [*found[:-1], DataFile(uri=found[-1].uri, size=found[-1].size + 1, etag=found[-1].etag)]
    assert fingerprint(tuple(found), format="csv") != fingerprint(tuple(changed), format="csv")


@given(st.text(max_size=120), st.text(max_size=120))
def test_slugs_are_safe_and_told_apart(one: str, other: str) -> None:
    assert (run_slug(one) == run_slug(other)) == (one == other)
    assert set(run_slug(one)).isdisjoint("/\\: ")
