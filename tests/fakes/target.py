"""A serving target that remembers what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mlretrain.ports import Traffic, VersionStats
from mlretrain.serving.traffic import check_traffic, refuse_late


class FakeTarget:
    """An :class:`mlretrain.ports.ServingTarget`.

    ``applied`` holds every change of traffic in order, a repeated one not; ``stats`` is what it answers.
    """

    def __init__(self, stats: Mapping[str, VersionStats] | None = None) -> None:
        self.applied: list[tuple[str, Traffic]] = []
        self.stats: dict[str, VersionStats] = dict(stats or {})
        self._traffic: dict[str, Traffic] = {}
        self._ordered: dict[str, Traffic] = {}

    def apply(self, model: str, traffic: Traffic) -> None:
        order = check_traffic(traffic)
        refuse_late(model, order, self._ordered.get(model))
        if order.generation:
            self._ordered[model] = order
        if not order.same(self.current(model)):
            self.applied.append((model, order))
        self._traffic[model] = order

    def current(self, model: str) -> Traffic:
        return self._traffic.get(model, Traffic())

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        traffic = self.current(model)
        versions = (*traffic.weights, *traffic.mirrored)
        return {version: self.stats.get(version, VersionStats()) for version in versions}
