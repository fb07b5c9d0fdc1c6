"""Stopping without a lost request: told to stop, the server goes on answering while callers go elsewhere."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRACE_S = 30
"""How long requests in flight may take once the server stops."""

LAST_S = 1.0
"""How long a connection that is open stays so for a request that is under way on the network."""


class Draining:
    """Serves until it is told to stop, and ``drain_s`` seconds longer.

    A load balancer that has not heard yet may bring a request at the very moment the server stops, and so may
    a caller on a connection that is open. So it says that it is not ready, goes on for these seconds, then
    takes no new connection, and gives those that are open :data:`LAST_S` to ask once more; whatever it
    answers from the beginning on is the last answer of its connection. A second signal ends it at once.
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
                again = draining.begun()
                draining._begun.set()
                if again or not draining._drain_s:
                    super().handle_exit(sig, frame)
                    return
                later = threading.Timer(draining._drain_s, super().handle_exit, (sig, frame))
                later.daemon = True
                later.start()

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                await asyncio.sleep(0)  # Whoever has connected is accepted before the door is shut.
                for server in self.servers:
                    server.close()
                until = time.monotonic() + LAST_S
                while self.server_state.connections and time.monotonic() < until:
                    await asyncio.sleep(0.02)
                await super().shutdown(sockets)

        config = uvicorn.Config(
            self._closing(app),
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
