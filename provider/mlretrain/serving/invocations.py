"""The way of a scoring request: pick a version, let MLflow answer, count it, log it, then copy it."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlretrain.errors import MlretrainError
from mlretrain.serving.metrics import ServerMetrics
from mlretrain.serving.mirror import Copied, Mirror
from mlretrain.serving.predictions import Prediction, PredictionLog
from mlretrain.serving.replies import body_of, status_of
from mlretrain.serving.router import Router, Served
from mlretrain.serving.scoring import CALL, Call
from mlretrain.serving.stats import StatsLog

if TYPE_CHECKING:
    from starlette.routing import Route
    from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Invocations:
    """``POST /models/{model}/invocations``, in MLflow's scoring protocol.

    The answer bears ``X-Model-Version`` and ``X-Request-Id`` (the caller's, or a new one). A model that
    raises is answered with 500 and counts as an error of its version; a request that MLflow refuses is
    answered with MLflow's 4xx and counts as the caller's.
    """

    def __init__(
        self,
        *,
        router: Router,
        stats: StatsLog,
        metrics: ServerMetrics,
        log: PredictionLog,
        mirror: Mirror,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._router = router
        self._stats = stats
        self._metrics = metrics
        self._log = log
        self._mirror = mirror
        self._clock = clock

    def route(self) -> Route:
        """The endpoint's place in the app."""
        from starlette.routing import Route

        return Route("/models/{model}/invocations", endpoint=self, methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI)."""
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        body = await _body(receive)
        if body is None:
            return
        model = scope["path_params"]["model"]
        try:
            served = self._router.pick(model)
        except MlretrainError as error:
            await _send_json(send, status_of(error), body_of(error), [(b"x-request-id", request_id)])
            return
        with served.answering():
            answer = _Answer(self, model, served, request_id, send)
            asked = _for_mlflow(scope, headers)
            await answer.run(asked, _replay(body, receive))
        self._copy(answer, asked, body)

    def _copy(self, answer: _Answer, asked: Scope, body: bytes) -> None:
        """For the mirrored versions, unless the request was the caller's mistake."""
        code = answer.code
        if code is None or 400 <= code < 500:
            return
        turn = self._router.copies(answer.model)
        if not turn:
            return
        copied = Copied(
            model=answer.model,
            request_id=answer.request_id.decode(),
            scope=asked,
            body=body,
            at=self._now(),
            code=code,
            predictions=answer.call.predictions,
        )
        self._mirror.offer(copied, turn)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def answered(
        self, model: str, version: str, request_id: str, code: int, seconds: float, call: Call
    ) -> None:
        """Count and log a request, before its caller can see the answer."""
        self._stats.record(model, version, code, seconds)
        self._metrics.request(model, version, code, seconds)
        if code == 200 and call.rows is not None:
            self._log.add(
                Prediction(
                    model=model,
                    version=version,
                    served_at=self._now(),
                    request_id=request_id,
                    rows=call.rows,
                    predictions=call.predictions,
                )
            )


class _Answer:
    """One request inside MLflow's app; stands in for ``send`` there."""

    def __init__(
        self, invocations: Invocations, model: str, served: Served, request_id: bytes, send: Send
    ) -> None:
        self._invocations = invocations
        self.model = model
        self._served = served
        self.request_id = request_id
        self._send = send
        self.call = Call()
        self._started_at = time.perf_counter()
        self.code: int | None = None
        self._failed = False

    async def run(self, scope: Scope, receive: Receive) -> None:
        """Let MLflow's app answer."""
        token = CALL.set(self.call)
        try:
            await self._served.app(scope, receive, self)
        except Exception as error:  # noqa: BLE001 - the user's model, or MLflow writing its predictions as JSON
            self.call.failure = self.call.failure or error
            self._log_failure()
            if self.code is None:
                await self._fail()
        finally:
            CALL.reset(token)

    async def __call__(self, message: Message) -> None:
        """Takes one message of MLflow's answer (ASGI ``send``)."""
        if message["type"] == "http.response.start":
            if self.call.failure:
                self._log_failure()
                await self._fail()
                return
            self._count(message["status"])
            message = {**message, "headers": [*message.get("headers", ()), *self._headers()]}
        if not self._failed:
            await self._send(message)

    async def _fail(self) -> None:
        self._failed = True
        self._count(500)
        failure = type(self.call.failure).__name__
        body = {
            "error": f"{self.model} version {self._served.version} failed with {failure}",
            "remedy": f"The server's log has the traceback under request id {self.request_id.decode()}.",
        }
        await _send_json(self._send, 500, body, self._headers())

    def _count(self, code: int) -> None:
        self.code = code
        seconds = time.perf_counter() - self._started_at
        request_id = self.request_id.decode()
        self._invocations.answered(self.model, self._served.version, request_id, code, seconds, self.call)

    def _log_failure(self) -> None:
        logger.error(
            "%s version %s failed, request id %s",
            self.model,
            self._served.version,
            self.request_id.decode(),
            exc_info=self.call.failure,
        )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"x-model-version", self._served.version.encode()), (b"x-request-id", self.request_id)]


def _for_mlflow(scope: Scope, headers: dict[bytes, bytes]) -> Scope:
    """The request as MLflow's app expects it: its own path; JSON if the caller names no content type."""
    sent = list(scope["headers"])
    if b"content-type" not in headers:
        sent.append((b"content-type", b"application/json"))
    return {
        **scope,
        "path": "/invocations",
        "raw_path": b"/invocations",
        "root_path": "",
        "path_params": {},
        "headers": sent,
    }


async def _body(receive: Receive) -> bytes | None:
    """The whole body; ``None`` if the caller went away before it was sent."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body`` first."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


async def _send_json(send: Send, status: int, body: Any, headers: list[tuple[bytes, bytes]]) -> None:
    content = json.dumps(body).encode()
    plain = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *headers]})
    await send({"type": "http.response.body", "body": content})
