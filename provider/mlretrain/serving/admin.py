"""What operators and probes ask the server: traffic, statistics, metrics, health."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.errors import InvalidInput, MlretrainError, TransientError
from mlretrain.serving.metrics import ServerMetrics
from mlretrain.serving.predictions import PredictionLog
from mlretrain.serving.replies import body_of, status_of
from mlretrain.serving.router import Router
from mlretrain.serving.stats import KEPT_S, StatsLog
from mlretrain.serving.traffic import read_traffic

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

TOKEN_VARIABLE = "MLRETRAIN_SERVE_TOKEN"  # noqa: S105 - the name of a variable


class Admin:
    """The endpoints beside scoring; those that change something ask for ``token``, if there is one."""

    def __init__(
        self,
        *,
        router: Router,
        stats: StatsLog,
        metrics: ServerMetrics,
        log: PredictionLog,
        token: str | None,
        ending: Callable[[], bool],
    ) -> None:
        self._router = router
        self._stats = stats
        self._metrics = metrics
        self._log = log
        self._token = token
        self._ending = ending

    def routes(self) -> list[Route]:
        """The endpoints' places in the app."""
        from starlette.routing import Route

        return [
            Route("/models/{model}", self._model, methods=["GET"]),
            Route("/models/{model}/traffic", self._apply, methods=["PUT"]),
            Route("/models/{model}/stats", self._statistics, methods=["GET"]),
            Route("/models/{model}/flush", self._flush, methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/ready", self._ready, methods=["GET"]),
            Route("/metrics", self._prometheus, methods=["GET"]),
        ]

    def exception_handlers(self) -> dict[Any, Callable[[Request, Any], Any]]:
        """Errors as JSON answers."""
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse

        async def refuse(request: Request, error: MlretrainError) -> Response:
            return JSONResponse(body_of(error), status_of(error))

        async def http(request: Request, error: HTTPException) -> Response:
            body = {
                "error": error.detail,
                "remedy": f"{request.method} {request.url.path} is not served here.",
            }
            return JSONResponse(body, error.status_code, headers=error.headers)

        return {MlretrainError: refuse, HTTPException: http}

    async def _model(self, request: Request) -> Response:
        return self._state(request.path_params["model"])

    async def _apply(self, request: Request) -> Response:
        refused = self._unauthorized(request)
        if refused:
            return refused
        model = request.path_params["model"]
        if model.startswith("."):
            raise InvalidInput("not the name of a model", found=repr(model), allowed="no leading dot")
        await self._router.apply(model, read_traffic(_json(await request.body())))
        return self._state(model)

    async def _statistics(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        model = request.path_params["model"]
        text = request.query_params.get("since")
        since = wire.parse_time(text.replace(" ", "+"), "since") if text else datetime.fromtimestamp(0, UTC)
        traffic = self._router.traffic(model)
        found = self._stats.since(model, since, (*traffic.weights, *traffic.mirrored))
        body = {"versions": wire.to_wire(found), "kept_s": KEPT_S}
        if request.query_params.get("bins") == "true":
            body["latency_bins"] = wire.to_wire(self._stats.latency_bins(model, since))
        return JSONResponse(body)

    async def _flush(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        refused = self._unauthorized(request)
        if refused:
            return refused
        try:
            await asyncio.to_thread(self._log.flush)
        except OSError as error:
            raise TransientError(
                "predictions cannot be written",
                found=str(error),
                remedy="They wait in memory; mend the disk.",
            ) from error
        return JSONResponse({"flushed": True})

    async def _health(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        waiting = self._router.restoring
        ready = not waiting and not self._ending()
        return JSONResponse({"ready": ready, "restoring": waiting}, 200 if ready else 503)

    async def _prometheus(self, request: Request) -> Response:
        from starlette.responses import Response

        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _state(self, model: str) -> Response:
        from starlette.responses import JSONResponse

        body = wire.to_wire(self._router.traffic(model))
        return JSONResponse({**body, "loaded": self._router.loaded(model)})

    def _unauthorized(self, request: Request) -> Response | None:
        from starlette.responses import JSONResponse

        given = request.headers.get("authorization", "")
        if not self._token or secrets.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return None
        body = {
            "error": "this changes what is served and needs the server's token",
            "remedy": f"Send `Authorization: Bearer …` with the value of {TOKEN_VARIABLE}.",
        }
        return JSONResponse(body, 401, headers={"WWW-Authenticate": "Bearer"})


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise InvalidInput("the body is not JSON", found=str(error)) from None
