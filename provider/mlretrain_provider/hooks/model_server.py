"""The model server that a connection names."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from mlretrain.errors import ConfigError, MlretrainError
from mlretrain_provider.hooks.connection import connection

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from mlretrain.serving.target import LocalTarget

DEFAULT_PORT = 5002
EXAMPLE = f"--conn-host localhost --conn-port {DEFAULT_PORT}"


class ModelServerHook(BaseHook):
    """Steers one ``mlretrain serve``. Nothing happens before the first use.

    The connection (type ``mlretrain_model_server``): host or a whole URL, port, password = its token.

    :param serving_conn_id: id of the connection.
    """

    conn_name_attr = "serving_conn_id"
    default_conn_name = "mlretrain_model_server_default"
    conn_type = "mlretrain_model_server"
    hook_name = "ML Retrain model server"

    def __init__(self, serving_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.serving_conn_id = serving_conn_id

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection. Raises :class:`~mlretrain.errors.ConfigError` if there is none."""
        return connection(self.serving_conn_id, conn_type=self.conn_type, example=EXAMPLE)

    @property
    def url(self) -> str:
        """The server's base URL."""
        host = (self.connection.host or "").strip().rstrip("/")
        if not host:
            raise ConfigError(
                f"the connection {self.serving_conn_id!r} has no host",
                remedy="Set its host to where `mlretrain serve` listens, e.g. localhost",
            )
        if "://" in host:
            return f"{host}:{self.connection.port}" if self.connection.port else host
        return f"{self.connection.schema or 'http'}://{host}:{self.connection.port or DEFAULT_PORT}"

    def target(self) -> LocalTarget:
        """The serving target."""
        from mlretrain.serving.target import LocalTarget

        return LocalTarget(url=self.url, token=self.connection.password or None)

    def get_conn(self) -> LocalTarget:
        """The serving target."""
        return self.target()

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server answers and is a model server of ours."""
        try:
            served = self.target().current("connection-test").served
        except MlretrainError as error:
            return False, str(error)
        return True, f"a model server at {self.url}" + (f", serving {served}" if served else "")
