"""Embeddings: what remains of vectors, and what drift does to it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain.drift.embedding import FOLDED, LARGEST_DIMENSION, directions, fold
from mlretrain.drift.metrics import METHODS
from mlretrain.drift.policy import ColumnPolicy, DriftPolicy, compare
from mlretrain.drift.profile import ColumnProfile, DriftProfile, build_profile, merge
from mlretrain.drift.report import render_html
from mlretrain.wire import canonical, from_wire

DAY_S = 86_400.0
Vectors = Sequence[Any] | np.ndarray[Any, Any]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def profile(con: duckdb.DuckDBPyConnection, vectors: Vectors, *, hourly: bool = False, **options: Any) -> Any:
    kind = pa.list_(pa.float32() if isinstance(vectors, np.ndarray) else pa.float64())
    columns: dict[str, Any] = {"e": pa.array(list(vectors), kind)}
    if hourly:
        columns["at"] = [datetime(2026, 1, 1) + timedelta(hours=i) for i in range(len(vectors))]
        options["time_column"] = "at"
    return build_profile(con.from_arrow(pa.table(columns)), **options)


def column(found: DriftProfile) -> ColumnProfile:
    (only,) = found.columns
    return only


def cloud(seed: int, n: int, dimension: int = 24, run: int = 1) -> np.ndarray[Any, Any]:
    """Vectors of length one around a direction; of ``run`` in a row most is alike."""
    draw = np.random.default_rng(seed)
    centre = np.random.default_rng(0).normal(size=dimension)
    spread = np.repeat(draw.normal(size=(-(-n // run), dimension)), run, axis=0)[:n]
    found = centre + spread + 0.3 * draw.normal(size=(n, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)  # type: ignore[no-any-return]


def rotated(vectors: np.ndarray[Any, Any], angle: float) -> np.ndarray[Any, Any]:
    """Each pair of dimensions turned by ``angle``."""
    a, b = vectors[:, 0::2], vectors[:, 1::2]
    turned = np.empty_like(vectors)
    turned[:, 0::2] = a * math.cos(angle) - b * math.sin(angle)
    turned[:, 1::2] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def test_norm_and_projections_are_what_the_formula_says(con: duckdb.DuckDBPyConnection) -> None:
    found = column(profile(con, [[3.0, 0.0, 4.0]] * 5))
    assert (found.kind, found.dimension, found.centroid) == ("embedding", 3, (3.0, 0.0, 4.0))
    norm, *projections = found.parts
    assert (norm.name, norm.mean, norm.counts) == ("e.norm", 5.0, (5,))
    for part, signs in zip(projections, directions(3), strict=True):
        assert part.mean == pytest.approx((3 * signs[0] + 4 * signs[2]) / math.sqrt(3), abs=5e-4)


def test_vectors_that_cannot_be_computed_with_are_counted_apart(con: duckdb.DuckDBPyConnection) -> None:
    usable = [[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0], [1e-20, 0.0, 0.0]]
    broken = [[1.0, 2.0], [], [1.0, None, 2.0], [1.0, math.nan, 0.0], [math.inf, 0.0, 0.0], [1e200, 0.0, 0.0]]
    found = column(profile(con, [*usable, None, *broken]))
    assert (found.n, found.nulls, found.nonfinite, found.valued) == (11, 1, 6, 4)
    assert found.centroid == (1.0, 0.5, 1.5)
    assert all((part.nulls, part.nonfinite) == (1, 6) for part in found.parts)


@pytest.mark.parametrize("kind", ["FLOAT[]", "DOUBLE[]", "FLOAT[4]", "DOUBLE[4]"])
def test_lists_and_arrays_of_any_precision_agree(con: duckdb.DuckDBPyConnection, kind: str) -> None:
    sql = "SELECT CAST([i % 7, 1, sin(i), 0.5] AS {}) AS e FROM range(500) t(i)"
    first, other = (build_profile(con.sql(sql.format(each))) for each in ("DOUBLE[]", kind))
    assert column(first).parts[0].counts == column(other).parts[0].counts
    assert column(first).centroid == pytest.approx(column(other).centroid, abs=1e-5)


def test_other_lists_are_left_out(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT [i] AS i, [[1.0::DOUBLE]] AS nested, ['a'] AS texts, [1.0::DOUBLE] AS e FROM range(9) r(i)"
    assert [each.name for each in build_profile(con.sql(sql)).columns] == ["e"]


def test_no_vector_at_all_and_too_long_ones_have_a_profile(con: duckdb.DuckDBPyConnection) -> None:
    none = column(profile(con, [None, [], None]))
    assert (none.dimension, none.nulls, none.nonfinite, none.valued) == (None, 2, 1, 0)
    long = column(profile(con, [[0.0] * (LARGEST_DIMENSION + 1)] * 3))
    assert (long.nonfinite, long.centroid) == (3, ())
    empty = column(profile(con, []))
    assert (empty.n, len(empty.parts)) == (0, 9)


def test_the_same_model_on_other_hardware_has_not_drifted(con: duckdb.DuckDBPyConnection) -> None:
    vectors = cloud(1, 4000)
    reference = profile(con, vectors)
    shaken = vectors * (1 + 1e-7 * np.random.default_rng(2).normal(size=vectors.shape))
    found = compare(reference, profile(con, shaken.astype(np.float32), reference=reference), DriftPolicy())
    assert found.verdict == "stable"
    assert found.columns[0].effect < 0.002


@pytest.mark.parametrize("run", [1, 40])
def test_unchanged_clouds_are_stable_and_turned_ones_drift(con: duckdb.DuckDBPyConnection, run: int) -> None:
    n = 50 * 24
    reference = profile(con, cloud(0, 12 * n, run=run), hourly=True, chunk_s=50 * DAY_S)
    for seed in range(1, 6):
        same = profile(con, cloud(seed, n, run=run), reference=reference)
        for method in METHODS["embedding"]:
            rule = DriftPolicy(columns={"e": ColumnPolicy(method=method)})
            assert compare(reference, same, rule).verdict == "stable"
    turned = profile(con, rotated(cloud(9, n, run=run), math.pi / 4), reference=reference)
    report = compare(reference, turned, DriftPolicy())
    assert (report.verdict, report.columns[0].method) == ("drift", "projection")


def test_a_moved_mean_is_seen_by_the_centroid(con: duckdb.DuckDBPyConnection) -> None:
    reference = profile(con, cloud(0, 4000))
    moved = profile(con, cloud(1, 4000) + np.float32(0.1), reference=reference)
    rule = DriftPolicy(columns={"e": ColumnPolicy(method="centroid")})
    (found,) = compare(reference, moved, rule).columns
    assert found.drifted
    assert found.effect == pytest.approx(0.1 * math.sqrt(24), abs=0.02)


def test_another_dimension_is_no_value(con: duckdb.DuckDBPyConnection) -> None:
    reference = profile(con, cloud(0, 2000))
    other = profile(con, cloud(0, 2000, dimension=12), reference=reference)
    report = compare(reference, other, DriftPolicy())
    assert (report.verdict, report.columns[0].note) == ("unknown", "has no values")
    alone = profile(con, cloud(0, 2000, dimension=12))
    assert compare(reference, alone, DriftPolicy()).columns[0].effect == 1.0


def test_days_merge_to_the_whole(con: duckdb.DuckDBPyConnection) -> None:
    vectors = cloud(0, 30 * 24)
    whole = profile(con, vectors)
    days = [profile(con, vectors[i::3], reference=whole) for i in range(3)]
    merged = column(merge(days))
    for one, other in zip(merged.parts, column(whole).parts, strict=True):
        assert (one.cells, one.counts) == (other.cells, other.counts)
    assert merged.centroid == pytest.approx(column(whole).centroid, abs=1e-5)


def test_a_profile_of_long_vectors_stays_small_and_travels(con: duckdb.DuckDBPyConnection) -> None:
    found = profile(con, cloud(0, 500, dimension=1024))
    assert len(column(found).centroid) == FOLDED
    assert len(canonical(found)) < 20_000
    assert from_wire(DriftProfile, json.loads(canonical(found))) == found
    assert "most changed: e.norm" in render_html(compare(found, found, DriftPolicy()), found, found, "x")


def test_folding_keeps_distances() -> None:
    draw = random.Random(1)
    one, other = ([draw.gauss(0, 1) for _ in range(2000)] for _ in range(2))
    assert math.dist(fold(one), fold(other)) == pytest.approx(math.dist(one, other), rel=0.15)
    assert fold(one[:512]) == tuple(one[:512])


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32), st.integers(2, 300), st.integers(0, 300))
def test_neither_order_nor_split_matters(seed: int, n: int, cut: int) -> None:
    draw = random.Random(seed)
    odd = [None, [], [1.0], [math.nan, 1.0, 1.0], [1.0, None, 1.0], [0.0, 0.0, 0.0]]
    rows: list[Any] = [
        draw.choice(odd) if draw.random() < 0.2 else [draw.gauss(0, 1) for _ in range(3)] for _ in range(n)
    ]
    with duckdb.connect() as con:
        whole = profile(con, rows)
        shuffled = draw.sample(rows, n)
        again = profile(con, shuffled)
        parts = [profile(con, file, reference=whole) for file in (shuffled[:cut], shuffled[cut:])]
    merged = column(merge(parts))
    for other in (column(again), merged):
        assert [(p.n, p.nulls, p.nonfinite, p.cells, p.counts) for p in other.parts] == [
            (p.n, p.nulls, p.nonfinite, p.cells, p.counts) for p in column(whole).parts
        ]
        assert other.centroid == pytest.approx(column(whole).centroid, abs=1e-4)
