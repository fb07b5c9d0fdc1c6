"""Profiles of real relations: what is counted, what is chosen, what is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from mlretrain.drift.grid import Grid
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, build_profile, merge, profile_chunks, with_prediction
from mlretrain.errors import ContractError, InvalidInput
from mlretrain.wire import canonical, from_wire

START = datetime(2013, 1, 1, tzinfo=UTC)
WEEK_S = 7 * 86_400.0


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def profile(con: duckdb.DuckDBPyConnection, sql: str, **options: Any) -> DriftProfile:
    return build_profile(con.sql(sql), **options)


def test_numbers_are_counted_in_cells_that_fit_them(con: duckdb.DuckDBPyConnection) -> None:
    column = profile(con, "SELECT i AS x FROM range(1000) t(i)").columns[0]
    assert (column.kind, column.n, column.nulls, column.nonfinite) == ("numeric", 1000, 0, 0)
    assert column.grid is not None
    assert column.grid.center == pytest.approx(500, abs=30)
    assert sum(column.counts) == 1000
    for i in (0, 250, 999):
        assert column.grid.cell(i) in column.cells
    assert column.mean == 499.5
    assert column.sd == pytest.approx(288.675, rel=1e-3)


@pytest.mark.parametrize("x", [-1e149, -3.0, -0.0, 0.1, 7.25, 1e9 + 1, 1e149])
def test_the_database_finds_the_cell_that_the_grid_says(con: duckdb.DuckDBPyConnection, x: float) -> None:
    reference = profile(con, "SELECT i / 100.0 AS x FROM range(1000) t(i)")
    column = profile(con, f"SELECT {x!r}::DOUBLE AS x", reference=reference).columns[0]
    assert column.grid == reference.columns[0].grid
    assert column.grid is not None
    assert column.cells == (column.grid.cell(x),)
    assert column.grid.edge(column.cells[0]) <= x < column.grid.edge(column.cells[0] + 1)


def test_nulls_and_non_finite_numbers_are_counted_apart(con: duckdb.DuckDBPyConnection) -> None:
    values = "(1.0::DOUBLE), (NULL), ('nan'), ('inf'), ('-inf'), (1e308), (2.0)"
    column = profile(con, f"SELECT x FROM (VALUES {values}) t(x)").columns[0]
    assert (column.n, column.nulls, column.nonfinite, column.valued) == (7, 1, 4, 2)
    assert column.missing_rate == pytest.approx(5 / 7)
    assert column.mean == 1.5


@pytest.mark.parametrize(
    ("sql", "center", "scale"),
    [
        ("1e9 + hash(i) % 1000 / 250.0", 1e9 + 2, 3.0),  # far from zero
        ("CASE WHEN i % 10 = 0 THEN i / 500.0 ELSE 0 END", 0.0, 1.8),  # nine of ten are zero
        ("CASE WHEN i % 100 = 0 THEN 1e12 ELSE i % 50 END", 25.0, 37.0),  # wild outliers
        ("7", 7.0, 7.0),  # constant
        ("0", 0.0, 1.0),
    ],
)
def test_the_grid_is_where_the_data_is(
    con: duckdb.DuckDBPyConnection, sql: str, center: float, scale: float
) -> None:
    grid = profile(con, f"SELECT {sql} AS x FROM range(1000) t(i)").columns[0].grid
    assert grid is not None
    assert grid.center == pytest.approx(center, rel=1e-9, abs=scale / 4)
    assert grid.scale == pytest.approx(scale, rel=0.25)


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


def test_identifiers_are_text_not_categories(con: duckdb.DuckDBPyConnection) -> None:
    column = profile(con, "SELECT 'id' || i AS x FROM range(5000) t(i)").columns[0]
    assert (column.kind, column.categories) == ("text", ())
    assert column.mean == pytest.approx(5.778)


def test_empty_texts_are_counted(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT CASE WHEN i % 4 = 0 THEN '' ELSE repeat('x', 20 + i) END AS remark FROM range(2000) t(i)"
    column = profile(con, sql).columns[0]
    assert (column.kind, column.empty) == ("text", 500)


def test_any_name_and_any_category_can_be_counted(con: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT ['', '=', 'it''s', 'ü'][1 + i % 4] AS "a ""b'; DROP" FROM range(400) t(i)"""
    column = profile(con, sql).columns[0]
    assert column.name == "a \"b'; DROP"
    assert dict(zip(column.categories, column.counts, strict=True)) == dict.fromkeys(
        ("", "=", "it's", "ü"), 100
    )


@pytest.mark.parametrize("name", ["x", "d", "v", "n", "chunk", "cell", "mlretrain_rows", "numbers"])
def test_no_column_name_is_taken_by_the_scan(con: duckdb.DuckDBPyConnection, name: str) -> None:
    sql = f"""SELECT i % 7 AS "{name}", 'c' || i % 3 AS other,
    TIMESTAMP '2013-01-01' + INTERVAL 1 DAY * (i % 30) AS t FROM range(900) r(i)"""
    column = profile(con, sql, time_column="t", chunk_s=WEEK_S).column(name)
    assert column is not None
    assert sum(column.counts) == 900


def test_rare_categories_are_counted_together_and_new_ones_are_named(
    con: duckdb.DuckDBPyConnection,
) -> None:
    reference = profile(con, "SELECT 'c' || i % 10 AS x FROM range(1000) t(i)", top=4)
    assert (len(reference.columns[0].categories), reference.columns[0].other) == (4, 600)
    current = profile(con, "SELECT 'new' || i % 7 AS x FROM range(70) t(i)", reference=reference)
    assert (current.columns[0].counts, current.columns[0].other) == ((0, 0, 0, 0), 70)
    assert current.columns[0].fresh == tuple((f"new{i}", 10) for i in range(5))


def test_of_very_many_values_only_the_listed_are_told_apart(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT 'c' || (CASE WHEN i % 2 = 0 THEN 0 ELSE i % 20000 END) AS x FROM range(60000) t(i)"
    reference = profile(con, sql, top=10)
    column = profile(con, sql, reference=reference).columns[0]
    assert reference.columns[0].distinct == 10_001
    assert (column.counts[0], column.n, column.other) == (30_000, 60_000, 60_000 - sum(column.counts))
    assert column.fresh == ()


def test_of_a_sensitive_column_only_digests_are_kept(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT 'person' || i % 5 AS email, i AS x FROM range(1000) t(i)"
    reference = profile(con, sql, sensitive=("email",))
    window = profile(
        con, "SELECT 'person' || i % 6 AS email, i AS x FROM range(600) t(i)", reference=reference
    )
    for each in (reference, window):
        assert b"person" not in canonical(each)
    column = window.column("email")
    assert column is not None
    assert (column.counts, column.other) == ((100,) * 5, 100)
    assert [(len(name), n) for name, n in column.fresh] == [(16, 100)]


def test_a_window_is_counted_in_the_bins_of_its_reference(con: duckdb.DuckDBPyConnection) -> None:
    reference = profile(con, "SELECT i AS x, 'a' AS c FROM range(1000) t(i)")
    current = profile(
        con, "SELECT i + 2000 AS x, 1 AS c, 5 AS fresh FROM range(50) t(i)", reference=reference
    )
    moved = current.column("x")
    assert moved is not None
    assert moved.grid == reference.columns[0].grid
    report = compare(reference, current, DriftPolicy(min_rows=10))
    assert report.new_columns == ("fresh",)
    assert [each.note for each in report.columns if each.name == "c"] == [
        "has changed from categorical to numeric"
    ]


def test_a_column_of_nothing_but_nulls_is_not_a_changed_type(con: duckdb.DuckDBPyConnection) -> None:
    reference = profile(con, "SELECT i AS x, 'c' || i % 3 AS c, i % 5 AS y FROM range(2000) t(i)")
    current = profile(
        con, "SELECT NULL AS x, NULL AS c, i % 5 AS y FROM range(2000) t(i)", reference=reference
    )
    report = compare(reference, current, DriftPolicy(share=0.9))
    assert report.schema == ()
    assert [each.note for each in report.columns] == ["has no values", "has no values", None]


def test_the_noise_is_learnt_from_time_chunks(con: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT TIMESTAMP '2013-01-01' + INTERVAL 1 MINUTE * i AS t,
    i % 1440 AS steady, i // 10080 AS weekly FROM range(4 * 10080) r(i)"""
    found = profile(con, sql, time_column="t", chunk_s=WEEK_S)
    steady, weekly = found.columns
    assert found.chunks >= 4
    assert steady.noise["ks"] < 0.02
    assert weekly.noise["ks"] > 0.3
    assert (found.start, found.end) == (START, START + timedelta(minutes=4 * 10080 - 1))


def test_a_week_that_is_cut_short_teaches_nothing(con: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT TIMESTAMP '2013-01-01 05:00' + INTERVAL 1 HOUR * i AS t, (i + 29) // 24 % 7 AS weekday
    FROM range(24 * 40) r(i)"""
    found = profile(con, sql, time_column="t", chunk_s=WEEK_S)
    assert found.chunks == 5
    assert found.rows == 24 * 40
    assert found.columns[0].noise["ks"] < 0.05


def test_chunks_are_profiles_that_merge_to_the_whole(con: duckdb.DuckDBPyConnection) -> None:
    sql = """SELECT TIMESTAMP '2013-01-01' + INTERVAL 1 HOUR * i AS t, i % 37 AS x, 'c' || i % 11 AS c
    FROM range(24 * 21) r(i)"""
    days = profile_chunks(con.sql(sql), time_column="t", chunk_s=86_400.0, top=5)
    assert [day.rows for day in days] == [24] * 21
    assert (days[0].start, days[0].end) == (START, START + timedelta(days=1))
    whole = profile(con, sql, time_column="t", reference=days[0])
    merged = merge(days)
    for one, other in zip(merged.columns, whole.columns, strict=True):
        assert (one.cells, one.counts, one.other) == (other.cells, other.counts, other.other)
        assert one.mean == pytest.approx(other.mean)


def test_profiles_in_other_bins_do_not_merge(con: duckdb.DuckDBPyConnection) -> None:
    one, other = (profile(con, f"SELECT i * {k} AS x, 1 AS y FROM range(100) t(i)") for k in (1, 9))
    with pytest.raises(ContractError, match=r"different bins cannot be merged \(found x\)"):
        merge([one, other])
    with pytest.raises(ContractError, match="no profile"):
        merge([])


def test_profiles_are_deterministic_and_travel_as_json(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("SET threads = 4")
    sql = "SELECT hash(i) / 1e19 AS x, hash(i) % 7 AS y, 'k' || hash(i) % 300 AS c FROM range(300000) t(i)"
    con.execute(f"CREATE TABLE data AS {sql}")
    first = profile(con, "FROM data")
    assert profile(con, "FROM data ORDER BY x") == first
    assert from_wire(DriftProfile, json.loads(canonical(first))) == first
    assert max(first.columns[0].counts) < 300_000 / 32


def test_no_rows_and_one_row_have_profiles(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT i::DOUBLE AS x, 'a' AS c, i > 0 AS b FROM range({}) t(i)"
    empty, one, many = (profile(con, sql.format(n)) for n in (0, 1, 2000))
    assert [column.n for column in empty.columns] == [0, 0, 0]
    for a, b in ((empty, many), (many, empty), (many, one), (one, many)):
        assert compare(a, b, DriftPolicy()).verdict == "unknown"


def test_a_missing_column_is_named(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(InvalidInput, match="found wat; allowed: x"):
        profile(con, "SELECT 1 AS x", include=("wat",))


def test_predictions_join_the_reference(con: duckdb.DuckDBPyConnection) -> None:
    features, predictions = profile(con, "SELECT 1 AS x"), profile(con, "SELECT 0.5 AS prediction")
    joined = with_prediction(features, predictions)
    assert [column.name for column in joined.columns] == ["x", "prediction"]
    assert with_prediction(features, features) == features


def test_the_outermost_cells_are_open() -> None:
    grid = Grid(center=0.0, scale=1.0)
    assert (grid.edge(-128), grid.edge(128)) == (float("-inf"), float("inf"))
    assert grid.cell(1e300) == 127
    assert grid.cell(-1e300) == -128
