"""Tables of the databases that connections name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from airflow.sdk.exceptions import AirflowException

from mlretrain.drift.table import DIALECTS, CursorTable, DuckdbTable, Table, open_duckdb
from mlretrain.errors import ConfigError, InvalidInput, MissingExtra, TransientError
from mlretrain_provider.hooks.connection import connection

if TYPE_CHECKING:
    from airflow.sdk import Connection

_AWAY = {"OperationalError", "InterfaceError"}
_TOLD = 300


@contextmanager
def open_table(conn_id: str, name: str, dialect: str | None = None) -> Iterator[Table]:
    """The table ``name``, to be read and not written.

    A DuckDB connection's host is the path of its file; every other is opened by the hook of its type.

    :param dialect: of :data:`~mlretrain.drift.table.DIALECTS`; none: the connection's type says it.
    :raises ConfigError: a kind of database that is not known, or no such file.
    :raises TransientError: the database does not answer.
    :raises InvalidInput: it refuses what is asked for.
    """
    conn = connection(conn_id, conn_type="postgres", example="--conn-host db --conn-schema warehouse")
    where = f"connection {conn_id!r}"
    kind = dialect or conn.conn_type or ""
    if kind not in DIALECTS:
        raise ConfigError(
            "a database that tables cannot be profiled in",
            where=where,
            found=repr(kind),
            allowed=", ".join(DIALECTS),
            remedy="If it speaks as one of them does, say so: `dialect: postgres`.",
        )
    with _plain_errors(conn, where):
        if kind == "duckdb":
            with open_duckdb(_file(conn, where)) as con:
                yield DuckdbTable(con=con, name=name)
        else:
            with closing(_hook(conn, where).get_conn()) as opened:
                yield CursorTable.open(opened.cursor(), name, DIALECTS[kind])


def _file(conn: Connection, where: str) -> str:
    path = conn.host or conn.schema or ""
    if not Path(path).is_file():
        raise ConfigError(
            "there is no such DuckDB file",
            where=where,
            found=repr(path),
            remedy="Set the connection's host to the file's path on the worker.",
        )
    return path


def _hook(conn: Connection, where: str) -> Any:
    """The hook of the connection's type. Raises :class:`ConfigError` if no provider has one."""
    try:
        return conn.get_hook()  # type: ignore[no-untyped-call]
    except (AirflowException, ImportError) as error:
        if conn.conn_type == "postgres":
            raise MissingExtra.of("apache-airflow-providers-postgres", "postgres") from None
        raise ConfigError("there is no hook for the connection", where=where, found=str(error)) from None


@contextmanager
def _plain_errors(conn: Connection, where: str) -> Iterator[None]:
    """Turn what drivers raise, which PEP 249 names, into errors that tell no secret of the connection."""
    try:
        yield
    except Exception as error:
        names = {each.__name__ for each in type(error).__mro__}
        if not names & {"DatabaseError", "InterfaceError"}:
            raise
        found = _told(conn, error)
        if names & _AWAY:
            raise TransientError("the database does not answer", where=where, found=found) from None
        raise InvalidInput("the database refuses", where=where, found=found) from None


def _told(conn: Connection, error: Exception) -> str:
    """What the driver said, in one line, without the password or anything of the extra."""
    text = " ".join(str(error).split())[:_TOLD]
    extra = [value for value in conn.extra_dejson.values() if isinstance(value, str) and len(value) > 3]
    for secret in (conn.password, *extra):
        if secret:
            text = text.replace(secret, "***").replace(quote_plus(secret), "***")
    return text
