"""The trials in a database, as Optuna reads them there; and the addresses of databases."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from sqlalchemy.exc import OperationalError

from mlretrain.errors import ConfigError, TransientError
from mlretrain_provider.space import read_space
from mlretrain_provider.study import Study, Trial, import_optuna
from mlretrain_provider.study_database import StudyDatabase, database_url

SPACE: dict[str, Any] = {"depth": {"int": [1, 9]}, "kind": {"choice": ["a", [1, 2]]}}
STUDY = Study(space=read_space(SPACE), sampler="tpe", direction="maximize", seed=1)


def trial(number: int, state: Any = "running", value: float | None = None) -> Trial:
    params = {"depth": number + 1, "kind": [1, 2]}
    return Trial(number=number, params=params, mlflow_run_id=f"r{number}", state=state, value=value)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def stored(url: str) -> Iterator[Any]:
    """``stored()``: the study as Optuna's own tools load it."""
    optuna = import_optuna()
    storages = []

    def load() -> Any:
        storages.append(optuna.storages.RDBStorage(url))
        return optuna.load_study(study_name="churn/run-1/abc", storage=storages[-1])

    yield load
    for storage in storages:
        storage.remove_session()
        storage.engine.dispose()


def database(url: str, **given: Any) -> StudyDatabase:
    return StudyDatabase(url=url, name="churn/run-1/abc", study=STUDY, **given)


def test_optuna_sees_the_trials_as_they_come(url: str, stored: Any) -> None:
    kept = database(url)
    kept.keep([trial(0), trial(1)])
    assert [each.state.name for each in stored().trials] == ["RUNNING", "RUNNING"]
    kept.keep([trial(0), trial(1, "complete", 0.75)])
    kept.keep([trial(0, "failed"), trial(1, "complete", 0.75), trial(2, "complete", 0.5)])
    study = stored()
    assert [each.state.name for each in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert (study.best_value, study.best_params) == (0.75, {"depth": 2, "kind": "[1, 2]"})
    assert study.trials[1].user_attrs == {"mlretrain.trial": 1, "mlflow_run_id": "r1"}


def test_the_same_twice_is_there_once(url: str, stored: Any) -> None:
    trials = [trial(0, "complete", 0.5), trial(1, "failed"), trial(2)]
    for _ in range(3):
        database(url).keep(trials)
    assert len(stored().trials) == 3


def test_a_database_that_was_lost_is_filled_again(url: str, stored: Any, tmp_path: Path) -> None:
    trials = [trial(0, "complete", 0.5), trial(1, "complete", 0.75)]
    kept = database(url)
    kept.keep(trials[:1])
    (tmp_path / "studies.db").unlink()
    kept.keep(trials)
    assert [each.value for each in stored().trials] == [0.5, 0.75]


def test_what_is_tried_again_is_a_trial_of_its_own_there(url: str, stored: Any) -> None:
    kept = database(url)
    for state, value in (("failed", None), ("running", None), ("complete", 0.5), ("complete", 0.5)):
        kept.keep([trial(0, state, value)])
    assert [each.state.name for each in stored().trials] == ["FAIL", "COMPLETE"]


def test_a_database_that_never_answers_is_said_at_once_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(url: str) -> None:
        raise OperationalError("SELECT 1", {}, Exception(f"cannot reach {url}"))

    monkeypatch.setattr(import_optuna().storages, "RDBStorage", refuse)
    kept = database("postgresql://ml:hunter2%2Fh@db/s", password="hunter2/h", where="'studies'")
    with pytest.raises(
        TransientError, match=r"'studies': the database does not answer.*ml:\*\*\*@db"
    ) as told:
        kept.keep([])
    assert "hunter2" not in str(told.value)
    assert "hunter2" not in repr(kept)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("sqlite:////no/such/folder/studies.db", TransientError, "unable to open database file"),
        ("nosuch://db/s", ConfigError, "not a database"),
    ],
)
def test_a_database_that_cannot_be_opened(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        database(url).keep([])


def test_a_database_that_is_away_for_a_while_costs_nothing(
    url: str, stored: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = database(url, where="connection 'studies'")
    kept.keep([trial(0)])
    file, hidden = tmp_path / "studies.db", tmp_path / "hidden.db"
    file.rename(hidden)
    file.mkdir()
    with caplog.at_level(logging.WARNING):
        kept.keep([trial(0, "complete", 0.5)])
    assert "not in the database yet: connection 'studies'" in caplog.text
    file.rmdir()
    hidden.rename(file)
    kept.keep([trial(0, "complete", 0.5)])
    assert stored().best_value == 0.5


def connection_of(kind: str, **given: Any) -> Connection:
    extra = json.dumps(given.pop("extra", {}))
    return Connection(conn_id="studies", conn_type=kind, extra=extra, **given)


@pytest.mark.parametrize(
    ("conn", "installed", "url"),
    [
        (
            connection_of("postgres", host="db", login="ml", password="p@w/d", port=5432, schema="studies"),
            {"psycopg2", "psycopg"},
            "postgresql+psycopg2://ml:p%40w%2Fd@db:5432/studies",
        ),
        (
            connection_of("postgres", host="db", schema="s", extra={"sslmode": "require", "iam": True}),
            {"psycopg"},
            "postgresql+psycopg://db/s?sslmode=require",
        ),
        (
            connection_of("mysql", host="db", login="ml", schema="s"),
            {"MySQLdb"},
            "mysql+mysqldb://ml@db/s",
        ),
        (connection_of("mysql", host="db", schema="s"), {"pymysql"}, "mysql+pymysql://db/s"),
        (connection_of("sqlite", host="/var/studies.db"), set(), "sqlite:////var/studies.db"),
        (Connection.from_uri("sqlite:////var/studies.db", "x"), set(), "sqlite:////var/studies.db"),
    ],
)
def test_a_connections_address_names_the_driver_that_is_there(
    conn: Connection, installed: set[str], url: str
) -> None:
    assert database_url(conn, "x", is_installed=lambda name: name in installed) == url


@pytest.mark.parametrize(
    ("conn", "message"),
    [
        (connection_of("http", host="db"), "found 'http'; allowed: postgres, mysql, sqlite"),
        (connection_of("postgres", host="db"), "no driver for postgresql.*pip install psycopg2-binary"),
    ],
)
def test_a_connection_that_cannot_be_one_is_refused(conn: Connection, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        database_url(conn, "connection 'studies'", is_installed=lambda name: False)
