"""Effects are finite, at least 0 and 0 on equal profiles, whatever was counted; merging loses nothing."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain.drift.grid import CELLS, Grid
from mlretrain.drift.metrics import METHODS, measure
from mlretrain.drift.noise import learnt_noise, sampling_noise
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import ColumnProfile, DriftProfile, build_profile, merge
from mlretrain.drift.report import render_html
from mlretrain.drift.verdict import DriftReport
from mlretrain.wire import from_wire, to_wire

counts = st.integers(0, 10**9)
numbers = st.floats(-1e150, 1e150, allow_nan=False)
grids = st.builds(
    lambda center, scale: Grid(center=center, scale=scale), st.floats(-1e100, 1e100), st.floats(1e-100, 1e100)
)


@st.composite
def binned(draw: st.DrawFn, grid: Grid | None = None) -> ColumnProfile:
    cells = sorted(draw(st.sets(st.integers(-CELLS, CELLS - 1), max_size=8)))
    rows = tuple(draw(st.lists(st.integers(1, 10**9), min_size=len(cells), max_size=len(cells))))
    nulls, nonfinite = draw(counts), draw(counts)
    return ColumnProfile(
        name="x",
        kind="numeric",
        n=sum(rows) + nulls + nonfinite,
        nulls=nulls,
        nonfinite=nonfinite,
        grid=grid or draw(grids),
        cells=tuple(cells),
        counts=rows,
        mean=draw(numbers) if rows else None,
        sd=draw(st.floats(0, 1e150)) if rows else None,
    )


@st.composite
def listed(draw: st.DrawFn, names: Sequence[str] | None = None) -> ColumnProfile:
    if names is None:
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
    binned().flatmap(lambda first: st.tuples(st.just(first), binned(first.grid))),
)
alike = st.one_of(
    st.lists(binned(Grid(center=0.0, scale=1.0)), min_size=3, max_size=3),
    st.lists(listed(("a", "b")), min_size=3, max_size=3),
)


@given(pairs)
def test_effects_and_noise_are_finite_and_not_negative(pair: tuple[ColumnProfile, ColumnProfile]) -> None:
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
    assert "<html" in render_html(report, reference, current, "x")


@given(listed(), st.integers(2, 6))
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


def counted(profile: DriftProfile) -> list[Any]:
    return [
        (each.name, each.n, each.nulls, each.nonfinite, each.empty, each.cells, each.counts, each.other)
        for each in profile.columns
    ]


@given(alike)
def test_merging_is_associative_and_commutative(columns: list[ColumnProfile]) -> None:
    a, b, c = (DriftProfile(rows=each.n, columns=(each,)) for each in columns)
    ways = [merge([a, b, c]), merge([merge([a, b]), c]), merge([a, merge([b, c])]), merge([c, b, a])]
    assert all(counted(way) == counted(ways[0]) for way in ways)
    for way in ways[1:]:
        one, other = way.columns[0], ways[0].columns[0]
        scale = max((abs(each.mean or 0.0) + (each.sd or 0.0) for each in columns), default=0.0)
        assert (one.mean or 0.0) == pytest.approx(other.mean or 0.0, abs=1e-9 * scale)
        assert (one.sd or 0.0) == pytest.approx(other.sd or 0.0, abs=1e-5 * scale)


def rows_of(seed: int, n: int) -> pa.Table:
    draw = random.Random(seed)
    wild = [None, math.nan, math.inf, -math.inf, 1e308, 0.0, -0.0]
    return pa.table(
        {
            "x": pa.array([draw.choice([*wild, draw.gauss(5, 2)]) for _ in range(n)], pa.float64()),
            "far": [1e9 + draw.random() for _ in range(n)],
            "i": [draw.choice([None, draw.randrange(-5, 50)]) for _ in range(n)],
            "c": [draw.choice([None, "", "a", "b", f"v{draw.randrange(40)}"]) for _ in range(n)],
            "b": [draw.choice([None, True, False]) for _ in range(n)],
        }
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(40, 400), st.lists(st.integers(0, 400), max_size=3))
def test_verdicts_do_not_depend_on_the_order_of_rows_or_their_split(
    seed: int, n: int, cuts: list[int]
) -> None:
    old, new = rows_of(seed, n), rows_of(seed + 1, n)
    with duckdb.connect() as con:
        reference = build_profile(con.from_arrow(old), top=10)
        shuffled = random.Random(seed).sample(range(n), n)
        assert build_profile(con.from_arrow(old.take(shuffled)), top=10) == reference
        whole = build_profile(con.from_arrow(new), reference=reference)
        mixed = new.take(shuffled)
        ends = sorted({min(cut, n) for cut in cuts} | {n})
        files = [mixed.slice(a, b - a) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        parts = merge(build_profile(con.from_arrow(file), reference=reference) for file in files)
    assert counted(parts) == counted(whole)
    policy = DriftPolicy(min_rows=1)
    one, other = (compare(reference, each, policy) for each in (whole, parts))
    assert (one.verdict, one.share, one.signals) == (other.verdict, other.share, other.signals)
    assert [each.effect for each in one.columns] == [each.effect for each in other.columns]
