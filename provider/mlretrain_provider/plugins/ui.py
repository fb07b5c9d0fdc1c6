"""What the provider adds to Airflow's web server: the pages of the artifact store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

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
    """Data Docs and drift reports below ``/mlretrain``."""

    name = "mlretrain"
    fastapi_apps = [  # noqa: RUF012
        {"app": ArtifactsApp(), "url_prefix": PREFIX, "name": "ML Retrain"}
    ]
