"""The model server as an ASGI app: MLflow's scoring protocol, traffic, statistics, metrics, health."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlretrain.errors import MissingExtra, MlretrainError
from mlretrain.ports import Traffic
from mlretrain.serving.admin import Admin
from mlretrain.serving.invocations import Invocations
from mlretrain.serving.metrics import ServerMetrics
from mlretrain.serving.mirror import Mirror
from mlretrain.serving.predictions import FLUSH_ROWS, FLUSH_S, PredictionLog
from mlretrain.serving.router import Load, Router
from mlretrain.serving.scoring import MlflowLoader
from mlretrain.serving.state import Pinned, TrafficFile
from mlretrain.serving.stats import StatsLog
from mlretrain.serving.traffic import check_traffic

if TYPE_CHECKING:
    from starlette.applications import Starlette

REQUIRED = ("fastapi", "mlflow", "pandas", "prometheus_client", "pyarrow", "starlette", "uvicorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the server is started with.

    :param tracking_uri: MLflow's server, where the models are registered.
    :param log_dir: folder of the prediction log.
    :param state_dir: folder of the traffic in force.
    :param token: what a change of traffic must bear; ``None`` asks for nothing.
    :param pinned: a model with versions that are served from the start and for good, the first of them every
        request, the others standing by; then nothing is remembered in ``state_dir``.
    """

    tracking_uri: str
    log_dir: Path
    state_dir: Path
    token: str | None = None
    pinned: tuple[str, tuple[str, ...]] | None = None
    flush_rows: int = FLUSH_ROWS
    flush_s: float = FLUSH_S


def create_app(
    settings: Settings,
    *,
    load: Load | None = None,
    clock: Callable[[], float] = time.time,
    ending: Callable[[], bool] = lambda: False,
    failed: Callable[[MlretrainError], None] = lambda error: None,
) -> Starlette:
    """The server, not yet started: its lifespan restores the traffic and ends the prediction log.

    Raises :class:`~mlretrain.errors.MissingExtra`, or :class:`~mlretrain.errors.ConfigError` if the state
    folder holds something else than traffic.

    :param load: how to load a version; by default from MLflow's registry.
    :param clock: seconds since the epoch.
    :param ending: whether the server has been told to stop; it is not ready then.
    :param failed: told why a model that was served, or pinned, will never be.
    """
    require()
    from starlette.applications import Starlette

    metrics = ServerMetrics()
    stats = StatsLog(clock)
    log = PredictionLog(
        settings.log_dir,
        logged=metrics.logged,
        dropped=metrics.dropped,
        flush_rows=settings.flush_rows,
        flush_s=settings.flush_s,
    )
    load = load or MlflowLoader(settings.tracking_uri)
    router = Router(load, _memory(settings), metrics.traffic, failed)
    mirror = Mirror(router=router, stats=stats, metrics=metrics, log=log)
    invocations = Invocations(
        router=router, stats=stats, metrics=metrics, log=log, mirror=mirror, clock=clock
    )
    admin = Admin(router=router, stats=stats, metrics=metrics, log=log, token=settings.token, ending=ending)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        log.start()
        mirror.start()
        restoring = asyncio.ensure_future(router.restore())
        try:
            yield
        finally:
            restoring.cancel()
            mirror.stop()
            await asyncio.to_thread(log.close)

    return Starlette(
        routes=[invocations.route(), *admin.routes()],
        exception_handlers=admin.exception_handlers(),
        lifespan=lifespan,
    )


def _memory(settings: Settings) -> TrafficFile | Pinned:
    if settings.pinned is None:
        return TrafficFile(settings.state_dir)
    model, versions = settings.pinned
    weights = {**dict.fromkeys(versions, 0), versions[0]: 100}
    return Pinned(model, check_traffic(Traffic(weights=weights)))


def require() -> None:
    """Raises :class:`~mlretrain.errors.MissingExtra` for the first package that the server lacks."""
    for package in REQUIRED:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of(package, "serve")
