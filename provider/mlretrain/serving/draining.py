"""Stopping without a lost request: told to stop, the server goes on answering while callers go elsewhere."""

from __future__ import annotations

import socket
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRACE_S = 30
"""How long requests in flight may take once the server stops."""


class Draining:
    """Serves until it is told to stop, and ``drain_s`` seconds longer.

    A caller's connection, or a load balancer that has not heard yet, may bring a request at the very moment
    the server stops. So in these seconds it says that it is not ready, answers what comes, and closes each
    connection after its answer. A second signal ends it at once.
    """

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._begun = threading.Event()

    def begun(self) -> bool:
        """Whether it has been told to stop."""
        return self._begun.is_set()

    def serve(self, app: ASGIApp, listening: socket.socket) -> None:
        """Returns when all is answered."""
        import uvicorn

        draining = self

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                if draining.begun() or not draining._drain_s:
                    super().handle_exit(sig, frame)
                    return
                draining._begun.set()
                later = threading.Timer(draining._drain_s, super().handle_exit, (sig, frame))
                later.daemon = True
                later.start()

        config = uvicorn.Config(
            self._closing(app) if self._drain_s else app,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        )
        Server(config).run(sockets=[listening])

    def _closing(self, app: ASGIApp) -> ASGIApp:
        async def closing(scope: Scope, receive: Receive, send: Send) -> None:
            async def last(message: Message) -> None:
                if message["type"] == "http.response.start" and self.begun():
                    headers: list[Any] = [*message.get("headers", ()), (b"connection", b"close")]
                    message = {**message, "headers": headers}
                await send(message)

            await app(scope, receive, last if scope["type"] == "http" else send)

        return closing
