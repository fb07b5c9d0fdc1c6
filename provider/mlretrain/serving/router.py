"""Which version answers the next request: weights, loaded versions, changes without a lost request."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ContractError, InvalidInput, MlretrainError, NotFound, TransientError
from mlretrain.serving.state import WeightFile

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

RESTORE_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class UnknownModel(NotFound):
    """No weights were ever applied for this model."""


class NotReady(TransientError):
    """The model's versions are still being loaded after a restart."""


class LoadFailed(InvalidInput):
    """A version cannot be loaded; what was served before is served still."""


class Superseded(ContractError):
    """While this change was loading its versions, a later one was applied."""


Load = Callable[[str, str], "ASGIApp"]
"""``(model, version)`` to the app that answers its ``POST /invocations``; may take long and may raise."""

Changed = Callable[[str, Mapping[str, int]], None]
"""Told of a model's new weights."""


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
    """One model's weights in force; every hundred requests are split exactly (smooth round robin)."""

    weights: dict[str, int]
    served: dict[str, Served]
    ticket: int
    _credit: dict[str, int] = field(default_factory=dict)

    def pick(self) -> Served:
        for version, weight in self.weights.items():
            self._credit[version] = self._credit.get(version, 0) + weight
        chosen = max(self.weights, key=self._credit.__getitem__)
        self._credit[chosen] -= 100
        return self.served[chosen]


class Router:
    """Models, their loaded versions and the share of requests that each version gets.

    Belongs to one event loop: a change of weights is one assignment between two requests. Loading happens in
    one thread of its own, a version at a time, and moves no traffic.

    :param load: how to load a version.
    :param file: where the weights in force are kept.
    :param changed: told of every change of weights.
    """

    def __init__(self, load: Load, file: WeightFile, changed: Changed = lambda model, weights: None) -> None:
        self._load = load
        self._file = file
        self._changed = changed
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._loading: dict[tuple[str, str], asyncio.Future[Served]] = {}
        self._loaded: dict[tuple[str, str], Served] = {}
        self._routes: dict[str, _Route] = {}
        self._tickets = itertools.count(1)
        self._retiring: set[asyncio.Task[None]] = set()
        self.restoring: dict[str, str] = dict.fromkeys(file.all(), "loading")

    def pick(self, model: str) -> Served:
        """The version that answers the next request."""
        return self._route(model).pick()

    def weights(self, model: str) -> dict[str, int]:
        """The percentages in force."""
        return dict(self._route(model).weights)

    def loaded(self, model: str) -> list[str]:
        """Versions in memory: those with a weight and those that still answer their last requests."""
        return sorted((version for name, version in self._loaded if name == model), key=_by_number)

    @property
    def models(self) -> list[str]:
        """The models that are served."""
        return sorted(self._routes)

    async def apply(self, model: str, weights: Mapping[str, int]) -> None:
        """Load what is new, move the traffic, then let go of what is not served any more.

        Of two overlapping changes the later wins, whichever loads faster; a change that needs no loading is
        therefore never kept waiting by one that does. Raises :class:`LoadFailed`, :class:`Superseded`, or
        :class:`~mlretrain.errors.TransientError` if the registry does not answer; the weights then stay.
        """
        await self._change(model, dict(weights), next(self._tickets))

    async def restore(self) -> None:
        """Serve again what was served before the restart; keeps trying while the registry does not answer."""
        await asyncio.gather(*(self._restore(model, weights) for model, weights in self._file.all().items()))

    async def _change(self, model: str, weights: dict[str, int], ticket: int) -> None:
        served = {version: await self._ensure(model, version) for version in weights}
        current = self._routes.get(model)
        if current and ticket < current.ticket:
            raise Superseded(
                f"a later change of {model} was applied while this one was loading",
                found=f"weights {current.weights}",
                remedy="Look at the weights in force and apply again if they are not what you want.",
            )
        self._file.put(model, weights)
        self._routes[model] = _Route(weights, served, ticket)
        self._loaded.update({(model, version): each for version, each in served.items()})
        self.restoring.pop(model, None)
        self._changed(model, weights)
        self._retire(model)

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
            if key[0] == model and key[1] not in self._routes[model].weights:
                task = asyncio.ensure_future(self._unload(key, served))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)

    async def _unload(self, key: tuple[str, str], served: Served) -> None:
        await served.drained()
        model, version = key
        if version not in self._routes[model].weights and self._loaded.get(key) is served:
            del self._loaded[key]
            logger.info("unloaded %s version %s", model, version)

    async def _restore(self, model: str, weights: dict[str, int]) -> None:
        pauses = itertools.chain(RESTORE_PAUSES_S, itertools.repeat(RESTORE_PAUSES_S[-1]))
        while model in self.restoring:
            try:
                await self._change(model, weights, ticket=0)
            except TransientError as error:
                self.restoring[model] = str(error)
                await asyncio.sleep(next(pauses))
            except Superseded:
                return
            except MlretrainError as error:
                logger.error("cannot serve %s again: %s", model, error)
                self.restoring[model] = str(error)
                return

    def _route(self, model: str) -> _Route:
        route = self._routes.get(model)
        if route:
            return route
        if model in self.restoring:
            raise NotReady(
                f"{model} is not ready", found=self.restoring[model], remedy="Ask again in a second."
            )
        raise UnknownModel(
            f"no model {model!r} is served here",
            allowed=", ".join(self.models) or "none yet",
            remedy=f"Serve a version of it: PUT /models/{model}/weights with {{version: 100}}.",
        )


def read_weights(found: Any) -> dict[str, int]:
    """``found`` as weights, ordered by version. Raises :class:`~mlretrain.errors.InvalidInput`."""
    valid = (
        isinstance(found, Mapping)
        and all(re.fullmatch("[1-9][0-9]*", str(version)) for version in found)
        and all(type(weight) is int and 0 <= weight <= 100 for weight in found.values())
        and sum(found.values()) == 100
    )
    if not valid:
        raise InvalidInput(
            "these are not weights",
            found=repr(found)[:200],
            allowed="whole percentages by version number, summing to 100",
            remedy='For example {"7": 90, "8": 10}.',
        )
    return {version: found[version] for version in sorted(found, key=_by_number)}


def _by_number(version: str) -> int:
    return int(version)
