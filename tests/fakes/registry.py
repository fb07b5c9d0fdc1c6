"""A model registry in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mlretrain.errors import NotFound
from mlretrain.ports import ModelVersion


class FakeRegistry:
    """An :class:`mlretrain.ports.ModelRegistry`.

    ``sources`` holds the model URI of each version, ``descriptions`` what is said of it.
    """

    def __init__(self) -> None:
        self.sources: dict[tuple[str, str], str] = {}
        self.descriptions: dict[tuple[str, str], str] = {}
        self._versions: dict[str, dict[str, ModelVersion]] = {}
        self._aliases: dict[str, dict[str, str]] = {}

    def register(self, name: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        versions = self._versions.setdefault(name, {})
        number = next((each.version for each in versions.values() if each.run_id == run_id), None)
        if number is None:
            number = str(len(versions) + 1)
            versions[number] = ModelVersion(name=name, version=number, run_id=run_id, tags=dict(tags))
            self.sources[name, number] = model_uri
        return self._shown(name, number)

    def version(self, name: str, ref: str) -> ModelVersion | None:
        number = self._aliases.get(name, {}).get(ref[1:]) if ref.startswith("@") else ref
        return self._shown(name, number) if number in self._versions.get(name, {}) and number else None

    def versions(self, name: str) -> list[ModelVersion]:
        return [self._shown(name, number) for number in self._versions.get(name, {})]

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        aliases = self._aliases.setdefault(name, {})
        if version is None:
            aliases.pop(alias, None)
        else:
            self._expect(name, version)
            aliases[alias] = version

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        found = self._expect(name, version)
        self._versions[name][version] = replace(found, tags={**found.tags, **tags})

    def describe_version(self, name: str, version: str, text: str) -> None:
        self._expect(name, version)
        self.descriptions[name, version] = text

    def web_url(self, name: str, version: str) -> str:
        return f"http://mlflow/models/{name}/versions/{version}"

    def _shown(self, name: str, version: str) -> ModelVersion:
        pointing = (alias for alias, number in self._aliases.get(name, {}).items() if number == version)
        return replace(self._versions[name][version], aliases=tuple(sorted(pointing)))

    def _expect(self, name: str, version: str) -> ModelVersion:
        found = self._versions.get(name, {}).get(version)
        if found is None:
            raise NotFound("there is no such model version", where=f"{name} version {version}")
        return found
