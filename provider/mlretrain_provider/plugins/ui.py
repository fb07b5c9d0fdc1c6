"""What the provider adds to Airflow: the pages of the artifact store, and how a run ended in its note."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from mlretrain_provider.plugins import run_note
from mlretrain_provider.plugins.artifacts import PREFIX

Message = MutableMapping[str, Any]
Asgi = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class ArtifactsApp:
    """The ASGI application, built at its first request.

    Schedulers and workers import this plugin too, and FastAPI costs a third of a second.
    """

    @cached_property
    def app(self) -> Asgi:
        """The application itself."""
        from mlretrain_provider.plugins.artifacts import create_app

        return create_app()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        await self.app(scope, receive, send)


class MlretrainPlugin(AirflowPlugin):
    """Data Docs and drift reports below ``/mlretrain``; run notes."""

    name = "mlretrain"
    listeners = [run_note]  # noqa: RUF012
    fastapi_apps = [  # noqa: RUF012
        {"app": ArtifactsApp(), "url_prefix": PREFIX, "name": "ML Retrain"}
    ]
