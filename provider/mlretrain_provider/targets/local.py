"""The serving target ``local``: a model server, ``mlretrain serve``, that a connection names."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mlretrain.ports import Traffic, VersionStats
from mlretrain_provider.hooks.model_server import ModelServerHook

if TYPE_CHECKING:
    from mlretrain.serving.target import LocalTarget
    from mlretrain_provider.targets import Surroundings


class LocalServerTarget:
    """A :class:`~mlretrain.ports.ServingTarget`: one running ``mlretrain serve``.

    :param conn_id: its connection, of type ``mlretrain_model_server``.
    """

    def __init__(self, *, conn_id: str | None = None, around: Surroundings) -> None:
        self.conn_id = conn_id or ModelServerHook.default_conn_name

    @cached_property
    def server(self) -> LocalTarget:
        """The server, once its connection has been looked up."""
        return ModelServerHook(self.conn_id).target()

    def apply(self, model: str, traffic: Traffic) -> None:
        self.server.apply(model, traffic)

    def current(self, model: str) -> Traffic:
        return self.server.current(model)

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        return self.server.metrics(model, since)

    def flush(self, model: str) -> None:
        """Have what was answered put into the prediction log."""
        self.server.flush(model)
