"""Effects are finite, at least 0 and 0 on equal profiles, whatever was counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlretrain.drift.metrics import METHODS, learnt_noise, measure, sampling_noise
from mlretrain.drift.policy import DriftPolicy, DriftReport, compare
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.drift.report import render_html
from mlretrain.drift.scan import choose_edges
from mlretrain.wire import from_wire, to_wire

counts = st.integers(0, 10**9)
numbers = st.floats(-1e150, 1e150, allow_nan=False)


@st.composite
def binned(draw: st.DrawFn, edges: tuple[float, ...] | None = None) -> ColumnProfile:
    if edges is None:
        edges = choose_edges(sorted(draw(st.lists(numbers, min_size=1, max_size=8))))
    rows = tuple(draw(st.lists(counts, min_size=len(edges) + 1, max_size=len(edges) + 1)))
    seen = sorted(draw(st.tuples(numbers, numbers, numbers))) if sum(rows) else [None] * 3
    nulls, nonfinite = draw(counts), draw(counts)
    return ColumnProfile(
        name="x",
        kind="numeric",
        n=sum(rows) + nulls + nonfinite,
        nulls=nulls,
        nonfinite=nonfinite,
        edges=edges,
        counts=rows,
        minimum=seen[0],
        mean=seen[1],
        maximum=seen[2],
        sd=draw(st.floats(0, 1e150)) if sum(rows) else None,
    )


@st.composite
def listed(draw: st.DrawFn) -> ColumnProfile:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    rows = tuple(draw(st.lists(counts, min_size=len(names), max_size=len(names))))
    nulls, other = draw(counts), draw(counts)
    return ColumnProfile(
        name="x",
        kind="categorical",
        n=sum(rows) + nulls + other,
        nulls=nulls,
        categories=tuple(names),
        counts=rows,
        other=other,
    )


pairs = st.one_of(
    st.tuples(binned(), binned()),
    st.tuples(listed(), listed()),
    binned().flatmap(lambda first: st.tuples(st.just(first), binned(first.edges))),
)


@given(pairs)
def test_effects_and_noise_are_finite_and_not_negative(
    pair: tuple[ColumnProfile, ColumnProfile],
) -> None:
    for method in METHODS[pair[0].kind]:
        effect, noise = measure(method, *pair), sampling_noise(method, *pair)
        assert math.isfinite(effect)
        assert effect >= 0
        assert math.isfinite(noise)
        assert noise >= 0


@given(st.one_of(binned(), listed()))
def test_equal_profiles_have_no_effect(column: ColumnProfile) -> None:
    for method in METHODS[column.kind]:
        assert measure(method, column, column) == 0
    profile = DriftProfile(rows=column.n, columns=(column,))
    assert compare(profile, profile, DriftPolicy(min_rows=0)).verdict != "drift"


@given(pairs)
def test_profiles_and_reports_travel_as_json_and_as_a_page(
    pair: tuple[ColumnProfile, ColumnProfile],
) -> None:
    reference, current = (DriftProfile(rows=each.n, columns=(each,)) for each in pair)
    assert from_wire(DriftProfile, json.loads(json.dumps(to_wire(current)))) == current
    report = compare(reference, current, DriftPolicy(min_rows=0))
    assert from_wire(DriftReport, json.loads(json.dumps(to_wire(report)))) == report
    assert report.summary in render_html(report, reference, current, "x").replace("&gt;", ">").replace(
        "&lt;", "<"
    )


@given(listed(), st.integers(2, 4))
def test_noise_learnt_from_any_chunks_is_finite(chunk: ColumnProfile, parts: int) -> None:
    whole = replace(
        chunk,
        n=parts * chunk.n,
        nulls=parts * chunk.nulls,
        other=parts * chunk.other,
        counts=tuple(parts * count for count in chunk.counts),
    )
    noise = learnt_noise(whole, [chunk] * parts)
    assert set(noise) == set(METHODS["categorical"])
    assert all(math.isfinite(value) and value >= 0 for value in noise.values())
