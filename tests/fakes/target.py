"""A serving target that remembers what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mlretrain.errors import ConfigError
from mlretrain.ports import VersionStats


class FakeTarget:
    """An :class:`mlretrain.ports.ServingTarget`.

    ``applied`` holds every change of weights in order, a repeated one not; ``stats`` is what it answers.
    """

    def __init__(self, stats: Mapping[str, VersionStats] | None = None) -> None:
        self.applied: list[tuple[str, dict[str, int]]] = []
        self.stats: dict[str, VersionStats] = dict(stats or {})
        self._weights: dict[str, dict[str, int]] = {}

    def apply(self, model: str, weights: Mapping[str, int]) -> None:
        if sum(weights.values()) != 100 or min(weights.values()) < 0:
            raise ConfigError("these are not weights", found=str(dict(weights)))
        wanted = {version: weight for version, weight in weights.items() if weight}
        if wanted != self._weights.get(model):
            self._weights[model] = wanted
            self.applied.append((model, dict(wanted)))

    def current(self, model: str) -> dict[str, int]:
        return dict(self._weights.get(model, {}))

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        return {version: self.stats.get(version, VersionStats()) for version in self.current(model)}
