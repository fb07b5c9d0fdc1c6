"""The MLflow server that a connection names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseHook

from mlretrain.errors import ConfigError, MlretrainError
from mlretrain.registry.mlflow import MlflowRegistry, MlflowTracker
from mlretrain.registry.rest import MlflowRest
from mlretrain_provider.hooks.connection import aconnection, connection

if TYPE_CHECKING:
    from airflow.sdk import Connection

EXAMPLE = "--conn-host http://localhost:5000"


class MLflowHook(BaseHook):
    """Talks to one MLflow 3 tracking server and registry. Nothing happens before the first use.

    The connection (type ``mlflow``): host = tracking URI, login and password or ``token`` in the extra;
    ``experiment`` in the extra is the default experiment, ``timeout_s`` the longest wait for one answer.

    :param mlflow_conn_id: id of the connection.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_conn_id = mlflow_conn_id

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection. Raises :class:`~mlretrain.errors.ConfigError` if there is none."""
        return connection(self.mlflow_conn_id, conn_type=self.conn_type, example=EXAMPLE)

    @classmethod
    async def opened(cls, mlflow_conn_id: str) -> MLflowHook:
        """A hook that has its connection already, for triggers."""
        hook = cls(mlflow_conn_id)
        hook.connection = await aconnection(mlflow_conn_id, conn_type=cls.conn_type, example=EXAMPLE)
        return hook

    @cached_property
    def rest(self) -> MlflowRest:
        """The server's REST API."""
        extra = self.connection.extra_dejson
        return MlflowRest(
            uri=tracking_uri(self.connection),
            user=self.connection.login or None,
            password=self.connection.password or None,
            token=extra.get("token") or None,
            timeout_s=float(extra.get("timeout_s") or 30),
        )

    def get_conn(self) -> MlflowRest:
        """The server's REST API."""
        return self.rest

    @property
    def experiment(self) -> str | None:
        """The connection's default experiment."""
        return self.connection.extra_dejson.get("experiment") or None

    def registry(self) -> MlflowRegistry:
        """The model registry."""
        return MlflowRegistry(rest=self.rest)

    def tracker(self, storage_env: Mapping[str, str] | None = None) -> MlflowTracker:
        """The experiment tracker.

        :param storage_env: access to artifacts that the server does not keep itself.
        """
        return MlflowTracker(rest=self.rest, storage_env=storage_env)

    def env(self) -> dict[str, str]:
        """What a job needs in its environment for MLflow's own client to reach the same server."""
        rest = self.rest
        found = {
            "MLFLOW_TRACKING_URI": rest.uri,
            "MLFLOW_TRACKING_TOKEN": rest.token,
            "MLFLOW_TRACKING_USERNAME": None if rest.token else rest.user,
            "MLFLOW_TRACKING_PASSWORD": None if rest.token else rest.password,
        }
        return {key: value for key, value in found.items() if value}

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server answers, is MLflow and lets us in; and its version, or what is wrong."""
        try:
            return True, f"MLflow {self.rest.version()} at {self.rest.uri}"
        except MlretrainError as error:
            return False, str(error)


def tracking_uri(conn: Connection) -> str:
    """The tracking URI of a connection, whether it was given as a form, as JSON or as ``mlflow://host:port``.

    ``mlflow://host:port/https`` and a ``schema`` of ``https`` mean HTTPS, as in Airflow's HTTP connection.
    """
    host = (conn.host or "").strip().rstrip("/")
    if not host:
        raise ConfigError(
            f"the connection {conn.conn_id!r} has no host",
            remedy="Set its host to the tracking URI, e.g. http://localhost:5000",
        )
    uri = host if "://" in host else f"{conn.schema or 'http'}://{quote(host, safe='/:@[]')}"
    parts = urlsplit(uri)
    if conn.port and parts.port is None:
        return parts._replace(netloc=f"{parts.netloc}:{conn.port}").geturl()
    return uri
