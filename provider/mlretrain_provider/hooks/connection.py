"""Connections by id, with an error that says how to create the one that is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from mlretrain.errors import ConfigError

CONN_ENV_PREFIX = "AIRFLOW_CONN_"

if TYPE_CHECKING:
    from airflow.sdk import Connection


def connection(conn_id: str, *, conn_type: str, example: str) -> Connection:
    """The connection ``conn_id``.

    :param conn_type: the type to create it with, should it be missing.
    :param example: the further arguments of the command that creates it.
    Raises :class:`~mlretrain.errors.ConfigError` if there is none.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise _missing(conn_id, conn_type, example) from None


async def aconnection(conn_id: str, *, conn_type: str, example: str) -> Connection:
    """:func:`connection` for triggers, whose event loop nothing may block."""
    try:
        return await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        raise _missing(conn_id, conn_type, example) from None


def _missing(conn_id: str, conn_type: str, example: str) -> ConfigError:
    return ConfigError(
        f"there is no Airflow connection {conn_id!r}",
        remedy=f"Create it: airflow connections add {conn_id} --conn-type {conn_type} {example}; "
        f"or set {CONN_ENV_PREFIX}{conn_id.upper()}, as JSON or URI.",
    )
