"""A search's trials in a database, where Optuna's own tools read them while the search goes on.

The artifact store stays the truth: a database that was lost, or away for a while, is filled from it again.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from mlretrain.errors import ConfigError, TransientError
from mlretrain_provider.hooks.connection import connection
from mlretrain_provider.study import Study, Trial, import_optuna

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

NUMBER, RUN = "mlretrain.trial", "mlflow_run_id"
"""Where a trial in the database names its number in the search, and its MLflow run."""

_POSTGRES = ("postgresql", ("psycopg2", "psycopg"))
_DRIVERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "postgres": _POSTGRES,
    "postgresql": _POSTGRES,
    "mysql": ("mysql", ("MySQLdb", "pymysql")),
}
_DIALECT_OF = {"MySQLdb": "mysqldb"}
_QUERY = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "options",
    "charset",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
)
"""What of a connection's extra is the database driver's; the rest is for Airflow's own hooks."""


@dataclass(kw_only=True, eq=False)
class StudyDatabase:
    """Optuna's study ``name`` in the database at ``url``.

    :param url: SQLAlchemy's; it may hold a password, and is told to nobody.
    """

    url: str = field(repr=False)
    name: str
    study: Study
    password: str | None = field(default=None, repr=False)
    where: str = "the study's database"
    _answered: bool = field(default=False, init=False)

    @classmethod
    def of(cls, conn_id: str, name: str, study: Study) -> StudyDatabase:
        """The one that an Airflow connection names. Raises :class:`ConfigError` if it cannot be one."""
        conn = connection(conn_id, conn_type="postgres", example="--conn-host db --conn-schema studies")
        where = f"connection {conn_id!r}"
        return cls(url=database_url(conn, where), name=name, study=study, password=conn.password, where=where)

    def keep(self, trials: Sequence[Trial]) -> None:
        """Bring the database up to ``trials``.

        Once it has answered it may be away: whatever it missed is written the next time.

        :raises TransientError: it does not answer at all.
        :raises ConfigError: it can never.
        """
        try:
            with self._open() as storage:
                self._write(storage, trials)
        except TransientError as error:
            if not self._answered:
                raise
            logger.warning("The trials are not in the database yet: %s", error)
        self._answered = True

    def _write(self, storage: RDBStorage, trials: Sequence[Trial]) -> None:
        optuna = import_optuna()
        study = optuna.create_study(
            storage=storage, study_name=self.name, direction=self.study.direction, load_if_exists=True
        )
        known: dict[Any, FrozenTrial] = {
            each.user_attrs.get(NUMBER): each for each in study.get_trials(deepcopy=False)
        }
        for trial in trials:
            found = self.study.frozen(trial, **{NUMBER: trial.number, RUN: trial.mlflow_run_id})
            there = known.get(trial.number)
            if there is None or (there.state.is_finished() and there.state != found.state):
                study.add_trial(found)
            elif there.state != found.state:
                study.tell(there.number, trial.value, state=found.state)

    @contextmanager
    def _open(self) -> Iterator[RDBStorage]:
        optuna = import_optuna()
        from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

        storage: RDBStorage | None = None
        try:
            storage = optuna.storages.RDBStorage(self.url)
            yield storage
        except ImportError as error:
            raise ConfigError("no driver for the database", where=self.where, found=str(error)) from error
        except ArgumentError as error:
            raise ConfigError("not a database", where=self.where, found=self._told(error)) from None
        except (OperationalError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise TransientError(
                "the database does not answer, or refuses", where=self.where, found=self._told(error)
            ) from None
        finally:
            if storage is not None:
                storage.remove_session()
                storage.engine.dispose()

    def _told(self, error: BaseException) -> str:
        """What the database said, in one line, without the password."""
        text = " ".join(str(error.__cause__ or error).split())[:300]
        for secret in (self.password, quote_plus(self.password)) if self.password else ():
            text = text.replace(secret, "***")
        return text


def database_url(
    conn: Connection, where: str, *, is_installed: Callable[[str], Any] = importlib.util.find_spec
) -> str:
    """SQLAlchemy's URL of an Airflow connection to PostgreSQL, MySQL or SQLite.

    SQLAlchemy 2.1 reads ``postgresql://`` as psycopg 3 and Airflow knows ``postgres://``: the URL names the
    driver that is installed.

    :raises ConfigError: another kind of database, or no driver.
    """
    from sqlalchemy import URL

    if conn.conn_type == "sqlite":
        return URL.create("sqlite", database=conn.schema or conn.host or None).render_as_string()
    kind = conn.conn_type or ""
    if kind not in _DRIVERS:
        raise ConfigError(
            "a database that a study cannot be kept in",
            where=where,
            found=repr(kind),
            allowed="postgres, mysql, sqlite",
        )
    dialect, drivers = _DRIVERS[kind]
    driver = next((each for each in drivers if is_installed(each)), None)
    if driver is None:
        raise ConfigError(
            f"no driver for {dialect} is installed",
            where=where,
            allowed=" or ".join(drivers),
            remedy=f"pip install {'pymysql' if kind == 'mysql' else 'psycopg2-binary'}",
        )
    extra = conn.extra_dejson
    return URL.create(
        f"{dialect}+{_DIALECT_OF.get(driver, driver)}",
        username=conn.login or None,
        password=conn.password or None,
        host=conn.host or None,
        port=conn.port or None,
        database=conn.schema or None,
        query={name: str(extra[name]) for name in _QUERY if name in extra},
    ).render_as_string(hide_password=False)
