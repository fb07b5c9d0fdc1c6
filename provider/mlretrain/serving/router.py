"""Which version answers the next request: traffic, loaded versions, changes without a lost request."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlretrain.errors import InvalidInput, MlretrainError, NotFound, Superseded, TransientError
from mlretrain.ports import Traffic
from mlretrain.serving.state import Pinned, Remembered, TrafficFile
from mlretrain.serving.traffic import refuse_late

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

RESTORE_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class UnknownModel(NotFound):
    """No version of this model is served."""


class NotReady(TransientError):
    """The model's versions are still being loaded after a restart."""


class LoadFailed(InvalidInput):
    """A version cannot be loaded; what was served before is served still."""


Load = Callable[[str, str], "ASGIApp"]
"""``(model, version)`` to the app that answers its ``POST /invocations``; may take long and may raise."""

Changed = Callable[[str, Traffic], None]
"""Told of a model's new traffic."""


@dataclass(eq=False, slots=True)
class Served:
    """One loaded version and the number of requests it is answering."""

    version: str
    app: ASGIApp
    in_flight: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Keeps the version loaded while a request is answered."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    async def drained(self) -> None:
        """Returns once no request is being answered."""
        if self.in_flight:
            await self._idle.wait()


@dataclass(slots=True)
class _Route:
    """One model's traffic in force; every hundred requests are split exactly (smooth round robin)."""

    traffic: Traffic
    loaded: dict[str, Served]
    ticket: int
    _credit: dict[str, int] = field(default_factory=dict)
    _copied: dict[str, int] = field(default_factory=dict)

    def pick(self) -> Served:
        for version, weight in self.traffic.weights.items():
            self._credit[version] = self._credit.get(version, 0) + weight
        chosen = max(self.traffic.served, key=self._credit.__getitem__)
        self._credit[chosen] -= 100
        return self.loaded[chosen]

    def copies(self) -> list[Served]:
        for version, share in self.traffic.mirrored.items():
            self._copied[version] = self._copied.get(version, 0) % 100 + share
        return [self.loaded[version] for version in self.traffic.mirrored if self._copied[version] >= 100]


class Router:
    """Models, their loaded versions and the share of requests that each version gets.

    Belongs to one event loop: a change of traffic is one assignment between two requests. Loading happens in
    one thread of its own, a version at a time, and moves no traffic. Whatever the traffic names is loaded and
    stays so: what serves, what stands by with a weight of 0, what gets copies.

    :param load: how to load a version.
    :param file: where the traffic in force is kept.
    :param changed: told of every change of traffic.
    :param failed: told why a model will never be served again as it was.
    """

    def __init__(
        self,
        load: Load,
        file: TrafficFile | Pinned,
        changed: Changed = lambda model, traffic: None,
        failed: Callable[[MlretrainError], None] = lambda error: None,
    ) -> None:
        self._load = load
        self._file = file
        self._changed = changed
        self._failed = failed
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._loading: dict[tuple[str, str], asyncio.Future[Served]] = {}
        self._loaded: dict[tuple[str, str], Served] = {}
        self._routes: dict[str, _Route] = {}
        self._ordered = {model: each.ordered for model, each in file.all().items()}
        self._tickets = itertools.count(1)
        self._retiring: set[asyncio.Task[None]] = set()
        self.restoring: dict[str, str] = dict.fromkeys(file.all(), "loading")

    def pick(self, model: str) -> Served:
        """The version that answers the next request."""
        route = self._route(model)
        if not route.traffic.weights:
            raise self._unknown(model)
        return route.pick()

    def copies(self, model: str) -> list[Served]:
        """The versions that get a copy of the request that was just answered."""
        route = self._routes.get(model)
        return route.copies() if route else []

    def traffic(self, model: str) -> Traffic:
        """What is in force; its generation is 0 if it was a person's order."""
        return self._route(model).traffic

    def loaded(self, model: str) -> list[str]:
        """Versions in memory: those of the traffic and those that still answer their last requests."""
        return sorted((version for name, version in self._loaded if name == model), key=int)

    @property
    def busy(self) -> bool:
        """Whether a caller waits for an answer."""
        return any(
            route.loaded[version].in_flight
            for route in self._routes.values()
            for version in route.traffic.served
        )

    @property
    def models(self) -> list[str]:
        """The models that are served."""
        return sorted(model for model, route in self._routes.items() if route.traffic.weights)

    async def apply(self, model: str, order: Traffic) -> None:
        """Load what is new, move the traffic, then let go of what is not in it any more.

        Of two overlapping orders the one of the later generation wins, or the later one if either has none,
        whichever loads faster; an order that needs no loading is therefore never kept waiting by one that
        does. Raises :class:`LoadFailed`, :class:`~mlretrain.errors.Superseded`, or
        :class:`~mlretrain.errors.TransientError` if the registry does not answer; the traffic then stays.
        """
        refuse_late(model, order, self._ordered.get(model))
        ticket = next(self._tickets)
        loaded = await self._load_all(model, order)
        refuse_late(model, order, self._ordered.get(model))
        self._refuse_overtaken(model, order, ticket)
        ordered = order if order.generation else self._ordered.get(model)
        self._file.put(model, Remembered(in_force=order, ordered=ordered))
        self._ordered[model] = ordered
        self._enforce(model, order, loaded, ticket)

    async def restore(self) -> None:
        """Serve again what was served before the restart; keeps trying while the registry does not answer."""
        remembered = self._file.all().items()
        await asyncio.gather(*(self._restore(model, each.in_force) for model, each in remembered))

    def _refuse_overtaken(self, model: str, order: Traffic, ticket: int) -> None:
        current = self._routes.get(model)
        if current is None or current.ticket < ticket:
            return
        if not order.generation or not current.traffic.generation:
            raise Superseded(
                f"a later change of {model} was applied while this one was loading",
                found=f"weights {dict(current.traffic.weights)}",
                remedy="Look at the traffic in force and apply again if it is not what you want.",
            )

    def _enforce(self, model: str, traffic: Traffic, loaded: dict[str, Served], ticket: int) -> None:
        self._routes[model] = _Route(traffic, loaded, ticket)
        self._loaded.update({(model, version): each for version, each in loaded.items()})
        self.restoring.pop(model, None)
        self._changed(model, traffic)
        self._retire(model)

    async def _load_all(self, model: str, traffic: Traffic) -> dict[str, Served]:
        return {
            version: await self._ensure(model, version)
            for version in dict.fromkeys((*traffic.weights, *traffic.mirrored))
        }

    async def _ensure(self, model: str, version: str) -> Served:
        key = (model, version)
        if key in self._loaded:
            return self._loaded[key]
        if key not in self._loading:
            self._loading[key] = asyncio.ensure_future(self._load_one(model, version))
        return await asyncio.shield(self._loading[key])

    async def _load_one(self, model: str, version: str) -> Served:
        try:
            app = await asyncio.get_running_loop().run_in_executor(self._loader, self._load, model, version)
            logger.info("loaded %s version %s", model, version)
            return Served(version, app)
        finally:
            del self._loading[model, version]

    def _retire(self, model: str) -> None:
        for key, served in self._loaded.items():
            if key[0] == model and key[1] not in self._routes[model].loaded:
                task = asyncio.ensure_future(self._unload(key, served))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)

    async def _unload(self, key: tuple[str, str], served: Served) -> None:
        await served.drained()
        model, version = key
        if version not in self._routes[model].loaded and self._loaded.get(key) is served:
            del self._loaded[key]
            logger.info("unloaded %s version %s", model, version)

    async def _restore(self, model: str, traffic: Traffic) -> None:
        pauses = itertools.chain(RESTORE_PAUSES_S, itertools.repeat(RESTORE_PAUSES_S[-1]))
        while model in self.restoring:
            try:
                loaded = await self._load_all(model, traffic)
                if model in self.restoring:
                    self._enforce(model, traffic, loaded, ticket=0)
            except TransientError as error:
                self.restoring[model] = str(error)
                await asyncio.sleep(next(pauses))
            except MlretrainError as error:
                logger.error("cannot serve %s again: %s", model, error)
                self.restoring[model] = str(error)
                self._failed(error)
                return

    def _route(self, model: str) -> _Route:
        route = self._routes.get(model)
        if route:
            return route
        if model in self.restoring:
            raise NotReady(
                f"{model} is not ready", found=self.restoring[model], remedy="Ask again in a second."
            )
        raise self._unknown(model)

    def _unknown(self, model: str) -> UnknownModel:
        return UnknownModel(
            f"no model {model!r} is served here",
            allowed=", ".join(self.models) or "none yet",
            remedy=f'PUT /models/{model}/traffic with {{"weights": {{version: 100}}}} serves one.',
        )
