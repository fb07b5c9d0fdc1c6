"""The same rows have the same profile in Parquet files, in a DuckDB database and in PostgreSQL."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlretrain.data.read import connect
from mlretrain.drift.dialect import POSTGRES
from mlretrain.drift.profile import ColumnProfile, DriftProfile, merge, profile_source
from mlretrain.drift.table import CursorTable, DuckdbTable, Table, open_duckdb, quoted
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.wire import canonical
from tests.fixtures_postgres import UNPROVED, postgres_server

ROWS = 24_000
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0
TABLE, SQL_NAME = "Warehouse.flights-2026", '"Warehouse"."flights-2026"'
NAME = 'a "b"; DROP TABLE x --'
SPECIAL = (None, float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, -0.0)
CITIES = (
    "Zürich",
    "zürich",
    "a",
    "B",
    "A",
    "b",
    "ä",
    "",
    "it's",
    'say "hi"',
    "back\\slash",
    "100%",
    "東京",
    "🛫",
)

TYPES: dict[str, tuple[pa.DataType, str]] = {
    "at": (pa.timestamp("us", tz="UTC"), "timestamptz"),
    "plain": (pa.float64(), "double precision"),
    "broken": (pa.float64(), "double precision"),
    "single": (pa.float32(), "real"),
    "whole": (pa.int64(), "bigint"),
    "price": (pa.decimal128(12, 2), "numeric(12, 2)"),
    "constant": (pa.int32(), "integer"),
    "flag": (pa.bool_(), "boolean"),
    "city": (pa.string(), "text"),
    "code": (pa.string(), "char(3)"),
    "plane": (pa.string(), "varchar(40)"),
    "remark": (pa.string(), "text"),
    "email": (pa.string(), "text"),
    "ticket": (pa.string(), "uuid"),
    "day": (pa.date32(), "date"),
    "naive": (pa.timestamp("us"), "timestamp"),
    "nothing": (pa.string(), "text"),
    "tags": (pa.list_(pa.int64()), "bigint[]"),
    "select": (pa.int64(), "smallint"),
    "Upper": (pa.float64(), "double precision"),
    NAME: (pa.float64(), "double precision"),
}


def row(i: int, draw: random.Random) -> tuple[Any, ...]:
    return (
        START + timedelta(minutes=i, microseconds=i % 7),
        draw.gauss(1e6, 3.0),
        SPECIAL[i % 8] if i % 3 == 0 else draw.expovariate(1.0),
        draw.random(),
        draw.choice((-(2**63), 2**63 - 1, 0, 7)) if i % 5 == 0 else draw.randrange(-1000, 1000),
        None if i % 11 == 0 else Decimal(draw.randrange(10**6)) / 100,
        7,
        None if i % 13 == 0 else draw.random() < 0.2,
        None if i % 17 == 0 else CITIES[i % len(CITIES)],
        ("ABC", "XYZ", "abc")[i % 3],
        f"N{i % 11_000:05}",
        "" if i % 4 == 0 else f"a rather long remark on the flight with number {i} ü",
        f"person{i % 50}@example.com",
        str(uuid.UUID(int=i % 20)),
        None if i % 19 == 0 else date(2026, 1, 1) + timedelta(days=i % 40),
        datetime(2026, 1, 1) + timedelta(hours=i % 999),
        None,
        [i],
        i % 300,
        draw.lognormvariate(0, 2),
        float(i % 10),
    )


@pytest.fixture(scope="module")
def rows() -> list[tuple[Any, ...]]:
    draw = random.Random(7)
    return [row(i, draw) for i in range(ROWS)]


@pytest.fixture(scope="module")
def file(rows: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = zip(TYPES.items(), zip(*rows, strict=True), strict=True)
    table = pa.table({name: pa.array(values, kind) for (name, (kind, _)), values in columns})
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(table, path, row_group_size=5000)
    return path


@pytest.fixture(scope="module")
def parquet(file: Path) -> Iterator[Table]:
    """What the others must agree with."""
    with connect() as con:
        con.execute('CREATE SCHEMA "Warehouse"')
        con.execute(f"CREATE VIEW {SQL_NAME} AS FROM read_parquet('{file}')")
        yield DuckdbTable(con=con, name=TABLE)


@contextmanager
def in_duckdb(file: Path, rows: list[tuple[Any, ...]]) -> Iterator[Table]:
    database = file.with_name("flights.duckdb")
    with duckdb.connect(str(database)) as con:
        con.execute('CREATE SCHEMA "Warehouse"')
        con.execute(f"CREATE TABLE {SQL_NAME} AS FROM read_parquet('{file}') ORDER BY hash(plain)")
    with open_duckdb(str(database)) as con:
        yield DuckdbTable(con=con, name=TABLE)


@contextmanager
def in_postgres(file: Path, rows: list[tuple[Any, ...]]) -> Iterator[Table]:
    psycopg = pytest.importorskip("psycopg", reason=UNPROVED)

    columns = ", ".join(f"{POSTGRES.quote(name)} {kind}" for name, (_, kind) in TYPES.items())
    with postgres_server() as where, psycopg.connect(**where) as connection:
        connection.execute('CREATE SCHEMA "Warehouse"')
        connection.execute(f"CREATE TABLE {SQL_NAME} ({columns})")
        with connection.cursor() as cursor, cursor.copy(f"COPY {SQL_NAME} FROM STDIN") as copy:
            for each in random.Random(1).sample(rows, len(rows)):
                copy.write_row(each)
        connection.commit()
        yield CursorTable.open(connection.cursor(), TABLE, POSTGRES)


PLACES = {"duckdb": in_duckdb, "postgres": in_postgres}


@pytest.fixture(scope="module", params=PLACES)
def table(request: pytest.FixtureRequest, file: Path, rows: list[tuple[Any, ...]]) -> Iterator[Table]:
    with PLACES[request.param](file, rows) as found:
        yield found


def profile(
    table: Table, start: datetime | None = None, end: datetime | None = None, **options: Any
) -> DriftProfile:
    return profile_source(table.window("at", start, end), time_column="at", **options)


def about(column: ColumnProfile) -> ColumnProfile:
    """The column with its computed figures rounded; counts stay as they are."""
    return replace(
        column,
        mean=None if column.mean is None else float(f"{column.mean:.9g}"),
        sd=None if column.sd is None else float(f"{column.sd:.9g}"),
        noise={method: float(f"{value:.5g}") for method, value in column.noise.items()},
    )


def check(found: DriftProfile, expected: DriftProfile) -> None:
    for one, other in zip(found.columns, expected.columns, strict=True):
        assert about(one) == about(other)
    assert replace(found, columns=()) == replace(expected, columns=())


def test_the_whole_is_profiled_alike(parquet: Table, table: Table) -> None:
    found = profile(table, sensitive=("email", "remark"))
    check(found, profile(parquet, sensitive=("email", "remark")))
    assert {each.name for each in found.columns} == {*TYPES} - {"at", "tags"}
    assert {name: kind for name in KINDS if (kind := found.column(name).kind)} == KINDS  # type: ignore[union-attr]


KINDS = {
    "broken": "numeric",
    "price": "numeric",
    "flag": "boolean",
    "plane": "categorical",
    "remark": "text",
    "ticket": "categorical",
    "day": "datetime",
}


def test_values_that_are_no_numbers_are_counted_apart(table: Table) -> None:
    column = profile(table, include=["broken"]).columns[0]
    assert (column.n, column.nulls, column.nonfinite) == (ROWS, ROWS // 24, 5 * ROWS // 24)


def test_a_window_is_counted_in_the_bins_of_its_reference(parquet: Table, table: Table) -> None:
    reference = profile(parquet, end=START + timedelta(days=8), top=10, sensitive=("city",))
    day = {"start": START + timedelta(days=9, hours=7), "end": START + timedelta(days=12)}
    found = profile(table, **day, reference=reference)
    check(found, profile(parquet, **day, reference=reference))
    assert found.rows == (3 * 24 - 7) * 60
    assert found.start == day["start"] + timedelta(microseconds=3)


def test_noise_is_learnt_alike_from_time_chunks(parquet: Table, table: Table) -> None:
    found = profile(table, chunk_s=DAY_S)
    check(found, profile(parquet, chunk_s=DAY_S))
    assert (found.chunks, found.chunk_rows) == (16, 1440)  # the oldest is cut short


def test_windows_merge_to_the_whole(table: Table) -> None:
    whole = profile(table)
    ends = [None, *(START + timedelta(days=days) for days in (1, 6, 11)), None]
    parts = [profile(table, *window, reference=whole) for window in pairwise(ends)]
    for one, other in zip(merge(parts).columns, whole.columns, strict=True):
        assert (one.cells, one.counts, one.nulls, one.nonfinite, one.other) == (
            (other.cells, other.counts, other.nulls, other.nonfinite, other.other)
        )


def test_an_empty_window_has_a_profile(parquet: Table, table: Table) -> None:
    reference = profile(parquet)
    found = profile(table, end=START, reference=reference)
    check(found, profile(parquet, end=START, reference=reference))
    assert (found.rows, found.start) == (0, None)


def test_of_sensitive_columns_no_value_is_kept(table: Table) -> None:
    kept = canonical(profile(table, include=["email", "city"], sensitive=("email", "city")))
    assert b"example.com" not in kept
    assert b"back" not in kept


@pytest.mark.parametrize(
    ("column", "message"), [("wat", "there is no column 'wat'"), ("plain", "'plain' holds no times")]
)
def test_a_time_column_that_is_none_is_said(table: Table, column: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        table.window(column, START, None)


@pytest.mark.parametrize("name", ["", "a.b.c.d", 'a"b', "a; DROP", "it's"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not the name of a table"):
        quoted(name, POSTGRES)


def test_what_only_postgresql_has() -> None:
    psycopg = pytest.importorskip("psycopg", reason=UNPROVED)

    columns = {
        "unbounded": "numeric",
        "positive": "amount",
        "mood": "mood",
        "at": "timestamptz",
        "document": "jsonb",
        "list": "double precision[]",
        "days": "daterange",
        "blob": "bytea",
        "point": "point",
    }
    rows = """SELECT v::numeric, 1.5, 'sad', t::timestamptz, '{"a": 1}', '{1}', NULL, NULL, NULL FROM (VALUES
    ('1e400', 'infinity'), ('-1e400', '-infinity'), ('1e-400', '2026-01-01'), ('NaN', '0044-03-15 BC'),
    ('Infinity', NULL), (NULL, '2026-01-02'), ('2', '200000-01-01')) AS r(v, t)"""
    with postgres_server() as where, psycopg.connect(**where, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
        connection.execute("CREATE DOMAIN amount AS numeric(9, 2) CHECK (value > 0)")
        connection.execute(f"CREATE TABLE odd ({', '.join(map(' '.join, columns.items()))})")
        connection.execute(f"INSERT INTO odd {rows}")
        connection.autocommit = False
        table = CursorTable.open(connection.cursor(), "odd", POSTGRES)
        found = {each.name: each for each in profile_source(table.window(None, None, None)).columns}
        assert {name: column.kind for name, column in found.items()} == {
            "unbounded": "numeric",
            "positive": "numeric",
            "mood": "categorical",
            "at": "datetime",
            "document": "categorical",
        }
        unbounded = found["unbounded"]
        assert (unbounded.nulls, unbounded.nonfinite, unbounded.mean) == (1, 4, 1.0)
        assert (found["at"].nulls, found["at"].valued) == (3, 4)
        chunked = profile_source(table.window("at", None, None), time_column="at", chunk_s=DAY_S)
        assert chunked.rows == 4
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            table.cursor.execute("DELETE FROM odd")
        connection.rollback()
        with pytest.raises(InvalidInput, match="no such table"):
            CursorTable.open(connection.cursor(), "public.gone", POSTGRES).window(None, None, None)
