"""Profiles of real relations: what is counted, what is chosen, what is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, build_profile, with_prediction
from mlretrain.drift.scan import choose_edges
from mlretrain.errors import InvalidInput
from mlretrain.wire import canonical, from_wire

START = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def profile(con: duckdb.DuckDBPyConnection, sql: str, **options: Any) -> DriftProfile:
    return build_profile(con, con.sql(sql), **options)


def test_numbers_are_counted_in_quantile_bins(con: duckdb.DuckDBPyConnection) -> None:
    column = profile(con, "SELECT i AS x FROM range(1000) t(i)", bins=4).columns[0]
    assert (column.kind, column.n, column.nulls, column.nonfinite) == ("numeric", 1000, 0, 0)
    assert column.edges[1:] == (0.0, 249.0, 499.0, 749.0, 999.0)
    assert column.edges[0] < 0
    assert column.counts == (0, 1, 249, 250, 250, 250, 0)
    assert (column.minimum, column.maximum, column.mean) == (0.0, 999.0, 499.5)
    assert column.sd == pytest.approx(288.675)


def test_nulls_and_non_finite_numbers_are_counted_apart(con: duckdb.DuckDBPyConnection) -> None:
    values = "(1.0::DOUBLE), (NULL), ('nan'), ('inf'), ('-inf'), (1e308), (2.0)"
    column = profile(con, f"SELECT x FROM (VALUES {values}) t(x)").columns[0]
    assert (column.n, column.nulls, column.nonfinite, column.valued) == (7, 1, 4, 2)
    assert column.missing_rate == pytest.approx(5 / 7)
    assert column.mean == 1.5


def test_a_value_that_fills_a_quantile_has_a_bin_of_its_own(con: duckdb.DuckDBPyConnection) -> None:
    column = profile(con, "SELECT greatest(0, i - 700) AS x FROM range(1000) t(i)").columns[0]
    assert 701 in column.counts
    assert choose_edges((3.0, 3.0, 3.0))[1:] == (3.0,)


def test_kinds_follow_types_and_lengths(con: duckdb.DuckDBPyConnection) -> None:
    found = profile(
        con,
        """SELECT i % 3 = 0 AS flag, 'c' || i % 5 AS name, DATE '2013-01-01' + i::INT AS day,
        'a rather long remark with the number ' || i AS remark, [i] AS list, (i % 60)::DECIMAL(9, 2) AS price
        FROM range(2000) t(i)""",
    )
    assert {column.name: column.kind for column in found.columns} == {
        "flag": "boolean",
        "name": "categorical",
        "day": "datetime",
        "remark": "text",
        "price": "numeric",
    }
    name = found.column("name")
    assert name is not None
    assert dict(zip(name.categories, name.counts, strict=True)) == {f"c{i}": 400 for i in range(5)}


def test_any_name_and_any_category_can_be_counted(con: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT ['', '=', 'it''s', 'ü'][1 + i % 4] AS "a ""b'; DROP" FROM range(400) t(i)"""
    column = profile(con, sql).columns[0]
    assert column.name == "a \"b'; DROP"
    assert dict(zip(column.categories, column.counts, strict=True)) == dict.fromkeys(
        ("", "=", "it's", "ü"), 100
    )


def test_rare_categories_are_counted_together(con: duckdb.DuckDBPyConnection) -> None:
    reference = profile(con, "SELECT 'c' || i % 10 AS x FROM range(1000) t(i)", top=4)
    assert (len(reference.columns[0].categories), reference.columns[0].other) == (4, 600)
    current = profile(con, "SELECT 'new' AS x FROM range(10)", reference=reference)
    assert (current.columns[0].counts, current.columns[0].other) == ((0, 0, 0, 0), 10)


def test_a_window_is_counted_in_the_bins_of_its_reference(con: duckdb.DuckDBPyConnection) -> None:
    reference = profile(con, "SELECT i AS x, 'a' AS c FROM range(1000) t(i)")
    current = profile(
        con, "SELECT i + 2000 AS x, 1 AS c, 5 AS fresh FROM range(50) t(i)", reference=reference
    )
    moved = current.column("x")
    assert moved is not None
    assert moved.edges == reference.columns[0].edges
    assert moved.counts[-1] == 50
    report = compare(reference, current, DriftPolicy(min_rows=10))
    assert report.new_columns == ("fresh",)
    assert [each.note for each in report.columns if each.name == "c"] == [
        "has changed from categorical to numeric"
    ]


def test_the_noise_is_learnt_from_time_chunks(con: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT TIMESTAMP '2013-01-01' + INTERVAL 1 MINUTE * i AS t,
    i % 1440 AS steady, i // 10080 AS weekly FROM range(4 * 10080) r(i)"""
    found = profile(con, sql, time_column="t", chunk_s=7 * 86_400.0)
    steady, weekly = found.columns
    assert found.chunks >= 4
    assert steady.noise["ks"] < 0.01
    assert weekly.noise["ks"] > 0.3
    assert (found.start, found.end) == (START, START + timedelta(minutes=4 * 10080 - 1))


def test_profiles_are_deterministic_and_travel_as_json(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("SET threads = 4")
    sql = "SELECT hash(i) / 1e19 AS x, hash(i) % 7 AS y, 'k' || hash(i) % 300 AS c FROM range(300000) t(i)"
    con.execute(f"CREATE TABLE data AS {sql}")
    first = profile(con, "FROM data")
    assert profile(con, "FROM data") == first
    assert con.sql("SELECT current_setting('threads')").fetchall() == [(4,)]
    assert from_wire(DriftProfile, json.loads(canonical(first))) == first
    assert max(first.columns[0].counts) < 1.1 * 300_000 / 32


def test_no_rows_and_one_row_have_profiles(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT i::DOUBLE AS x, 'a' AS c, i > 0 AS b FROM range({}) t(i)"
    empty, one, many = (profile(con, sql.format(n)) for n in (0, 1, 2000))
    assert [column.n for column in empty.columns] == [0, 0, 0]
    for a, b in ((empty, many), (many, empty), (many, one), (one, many)):
        assert compare(a, b, DriftPolicy()).verdict == "insufficient"


def test_a_missing_column_is_named(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(InvalidInput, match="found wat; allowed: x"):
        profile(con, "SELECT 1 AS x", include=("wat",))


def test_predictions_join_the_reference(con: duckdb.DuckDBPyConnection) -> None:
    features, predictions = profile(con, "SELECT 1 AS x"), profile(con, "SELECT 0.5 AS prediction")
    joined = with_prediction(features, predictions)
    assert [column.name for column in joined.columns] == ["x", "prediction"]
    assert with_prediction(features, features) == features
