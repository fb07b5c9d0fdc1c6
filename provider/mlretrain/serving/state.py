"""The weights in force, on disk, so that a restarted server serves what it served before."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mlretrain import wire
from mlretrain.errors import ConfigError

FORMAT = 1


class WeightFile:
    """Percentages by model and version in ``<folder>/weights.json``.

    A reader, or a server started after a crash, sees the whole file from before a change or from after it.
    Raises :class:`~mlretrain.errors.ConfigError` if the file cannot be understood.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "weights.json"
        self._models = self._read()

    def all(self) -> dict[str, dict[str, int]]:
        """Weights by model."""
        return {model: dict(weights) for model, weights in self._models.items()}

    def put(self, model: str, weights: dict[str, int]) -> None:
        """Remember one model's weights; they are on disk when this returns."""
        models = {**self._models, model: dict(weights)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(wire.pretty({"format": FORMAT, "models": models}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._models = models

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            found = json.loads(self._path.read_bytes())
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']}")
            return {
                str(model): {str(version): int(weight) for version, weight in weights.items()}
                for model, weights in found["models"].items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                "the file of served weights cannot be read",
                where=str(self._path),
                found=repr(error),
                allowed=f"format {FORMAT}",
                remedy="Remove the file and apply the weights again.",
            ) from error
