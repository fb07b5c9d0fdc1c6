"""Tables of real databases, profiled through their Airflow connections."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.sdk import DAG, Connection

from mlretrain.drift.profile import DriftProfile
from mlretrain.wire import from_wire
from mlretrain_provider.operators.monitoring import DetectDriftOperator
from mlretrain_provider.operators.table import ProfileTableOperator
from tests.fakes.airflow_harness import DagRunHarness
from tests.fixtures_postgres import PASSWORD, postgres_server

END = datetime(2026, 3, 9, 6, tzinfo=UTC)
ROWS = """SELECT TIMESTAMPTZ '2026-02-23 06:00:00+00' + i * INTERVAL '1 minute' AS served_at,
    CASE WHEN i < 10080 THEN i % 100 ELSE i % 50 END AS distance, 'c' || i % 5 AS carrier,
    'p' || i % 9 AS email FROM {series} AS r(i)"""


def connect(monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    """Let the connection ``warehouse`` be this one."""
    made = Connection(conn_id="warehouse", **given)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", made.as_json())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serving.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute(f"CREATE TABLE predictions AS {ROWS.format(series='range(20160)')}")
    return path


@pytest.fixture
def warehouse(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    connect(monkeypatch, conn_type="duckdb", host=str(file))
    return file


def dag(world: Any, **options: Any) -> DAG:
    made: DAG = world.dag("churn.monitor")
    given = {"table": "predictions", "conn_id": "warehouse", "time_column": "served_at", "window": "7d"}
    with made:
        profile = ProfileTableOperator(task_id="profile_window", **{**given, **options})
        DetectDriftOperator(task_id="detect_drift", profile=profile.output)
    return made


def profile_window(world: Any, **options: Any) -> Any:
    return DagRunHarness(dag(world, **options)).run("profile_window")


def read(world: Any, uri: str) -> DriftProfile:
    content = world.store.read(uri.removeprefix(f"{world.artifacts_uri}/"))
    return from_wire(DriftProfile, json.loads(content))


def test_a_window_of_a_table_drifts_from_the_one_before(world: Any, warehouse: Path) -> None:
    first = profile_window(world, reference=None).result
    world.promote(**{"mlretrain.profile_uri": first["profile_uri"]})
    run = DagRunHarness(dag(world, reference="previous_window", columns={"exclude": ["email"]}))
    result = run.run("profile_window").result
    assert (result["rows"], result["against"]) == (10_080, "the window before")
    assert (result["start"], result["end"]) == ("2026-03-02T06:00:00+00:00", END.isoformat())
    assert [column.name for column in read(world, result["profile_uri"]).columns] == ["distance", "carrier"]
    drift = run.run("detect_drift").result
    assert (drift["verdict"], drift["drifted"]) == ("drift", ["distance"])


def test_a_window_is_counted_in_the_champions_bins(world: Any, warehouse: Path) -> None:
    reference = profile_window(world, reference=None, sensitive=["email"], top=3).result["profile_uri"]
    world.promote(**{"mlretrain.profile_uri": reference})
    found = read(world, profile_window(world).result["profile_uri"])
    assert [column.bins for column in found.columns] == [each.bins for each in read(world, reference).columns]
    assert found.columns[1].other > 0
    assert all(len(name) == 16 for name in found.columns[2].categories)


def test_a_cleared_task_returns_what_the_run_first_saw(world: Any, warehouse: Path) -> None:
    run = DagRunHarness(dag(world))
    result = run.run("profile_window").result
    warehouse.unlink()
    assert run.run("profile_window", try_number=2).result == result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "gone"}, "the database refuses.*gone does not exist"),
        ({"time_column": "at"}, "there is no column 'at'"),
        ({"time_column": "carrier"}, "Conversion Error"),
        ({"conf": "2027-01-01T00:00:00+00:00"}, "no rows in the window"),
    ],
)
def test_what_cannot_be_profiled_is_unknown_and_looked_at_again(
    world: Any, warehouse: Path, options: dict[str, str], message: str
) -> None:
    conf = {"window_end": options.pop("conf")} if "conf" in options else {}
    run = DagRunHarness(dag(world, **options), conf=conf)
    result = run.run("profile_window").result
    assert (result["profile_uri"], result["rows"]) == (None, 0)
    assert result["end"] == conf.get("window_end", END.isoformat())
    assert re.search(message, result["unknown"])
    with duckdb.connect(str(warehouse)) as con:
        con.execute(f"CREATE OR REPLACE TABLE gone AS {ROWS.format(series='range(20160)')}")
    again = run.run("profile_window", try_number=2).result
    assert (again["rows"] > 0) == ("table" in options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"conn_type": "mysql", "host": "db"},
            "found 'mysql'; allowed: duckdb, postgres.*`dialect: postgres`",
        ),
        ({"conn_type": "duckdb", "host": "/no/such.duckdb"}, "no such DuckDB file.*/no/such.duckdb"),
    ],
)
def test_a_connection_that_cannot_be_read_fails_for_good(
    world: Any, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    connect(monkeypatch, **given)
    outcome = DagRunHarness(dag(world)).run("profile_window", retries_left=True)
    assert outcome.state == "failed"
    assert re.search(message, str(outcome.error))


def test_a_missing_connection_says_how_to_make_it(world: Any) -> None:
    outcome = profile_window(world)
    assert "airflow connections add warehouse --conn-type postgres" in str(outcome.error)


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("airflow.providers.postgres", reason="NOTHING IS PROVED ON POSTGRESQL: no provider")
    import psycopg

    server: AbstractContextManager[dict[str, Any]] = postgres_server()
    with server as where:
        with psycopg.connect(**where) as con:
            con.execute("CREATE SCHEMA serving")
            rows = ROWS.format(series="generate_series(0, 20159)")
            con.execute(f"CREATE TABLE serving.predictions AS {rows}")
        given = {"host": where["host"], "port": where["port"], "login": where["user"], "schema": "postgres"}
        connect(monkeypatch, conn_type="postgres", password=PASSWORD, **given)
        yield given


def test_postgresql_through_airflows_own_hook(
    world: Any, postgres: dict[str, Any], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = profile_window(world, table="serving.predictions", reference=None).result
    assert found["rows"] == 10_080
    refused = profile_window(world, table="serving.nothing").result
    assert "no such table" in refused["unknown"]
    connect(monkeypatch, conn_type="duckdb", host=str(file))
    other = DagRunHarness(dag(world, reference=None), run_id="run-2").run("profile_window").result
    assert read(world, found["profile_uri"]) == read(world, other["profile_uri"])


def test_no_secret_is_told_of_a_database_that_refuses(
    world: Any, postgres: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "hunter2 is wrong"
    connect(
        monkeypatch, conn_type="postgres", password=secret, extra=f'{{"sslmode": "{secret}"}}', **postgres
    )
    outcome = DagRunHarness(dag(world, table="serving.predictions")).run("profile_window", retries_left=True)
    assert outcome.state == "up_for_retry"
    told = f"{outcome.error!s} {outcome.error!r} {''.join(capfd.readouterr())}"
    assert "the database does not answer" in told
    assert secret not in told
