"""Who scores from now on: a chain of orders in the artifact store, of which the last is in force.

An order is one object, ``<pipeline>/batch/<model>/orders/<number:08d>.json``, made only if there is none:
of two writers who have seen the same last order one finds the place taken, looks again, and is refused if it
has come too late.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import quote

from mlretrain import wire
from mlretrain.ports import ArtifactStore, Traffic
from mlretrain.serving.traffic import refuse_late


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is in force, and the last that was ordered with a generation, which may be another."""

    in_force: Traffic = field(default_factory=Traffic)
    ordered: Traffic | None = None


def batch_folder(pipeline: str, model: str) -> str:
    """The folder in the artifact store of all that is kept about scoring with a model."""
    return f"{pipeline}/batch/{quote(model, safe=' ')}"


class Orders:
    """One model's orders."""

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self._store = store
        self._folder = f"{folder}/orders"

    def last(self) -> Order:
        """The order in force; an empty one if there has never been any."""
        return self._last()[1]

    def place(self, model: str, traffic: Traffic) -> None:
        """Put ``traffic`` in force, unless it is. Raises :class:`~mlretrain.errors.Superseded`."""
        while True:
            number, last = self._last()
            refuse_late(model, traffic, last.ordered)
            if traffic == last.in_force:
                return
            order = Order(in_force=traffic, ordered=traffic if traffic.generation else last.ordered)
            if self._store.create(self._path(number + 1), wire.pretty(order)):
                return

    def _last(self) -> tuple[int, Order]:
        known = self._store.list(f"{self._folder}/")
        if not known:
            return 0, Order()
        order = wire.from_wire(Order, json.loads(self._store.read(known[-1])))
        return int(known[-1].rpartition("/")[2].removesuffix(".json")), order

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"
