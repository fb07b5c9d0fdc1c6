"""The traffic in force, on disk, so that a restarted server serves what it served before."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlretrain import wire
from mlretrain.errors import ConfigError, MlretrainError
from mlretrain.ports import Traffic

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """One model's traffic in force and the last that was ordered with a generation, which may be another."""

    in_force: Traffic
    ordered: Traffic | None = None


class TrafficFile:
    """Traffic by model in ``<folder>/weights.json``.

    A reader, or a server started after a crash, sees the whole file from before a change or from after it.
    Raises :class:`~mlretrain.errors.ConfigError` if the file cannot be understood.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "weights.json"
        self._models = self._read()

    def all(self) -> dict[str, Remembered]:
        """What is remembered, by model."""
        return dict(self._models)

    def put(self, model: str, remembered: Remembered) -> None:
        """Remember one model's traffic; it is on disk when this returns."""
        models = {**self._models, model: remembered}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(wire.pretty({"format": FORMAT, "models": wire.to_wire(models)}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._models = models

    def _read(self) -> dict[str, Remembered]:
        try:
            found = json.loads(self._path.read_bytes())
            read = {1: _of_weights, FORMAT: _of_wire}.get(found["format"])
            if read is None:
                raise ValueError(f"format {found['format']}")
            return {str(model): read(each) for model, each in found["models"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError, MlretrainError) as error:
            raise ConfigError(
                "the file of served traffic cannot be read",
                where=str(self._path),
                found=repr(error),
                allowed=f"format {FORMAT}",
                remedy="Remove the file and apply the traffic again.",
            ) from error


class Pinned:
    """In place of the file: one model's traffic as the command line has it, for a server without a memory."""

    def __init__(self, model: str, traffic: Traffic) -> None:
        self._model = model
        self._traffic = traffic

    def all(self) -> dict[str, Remembered]:
        """The traffic that was pinned."""
        return {self._model: Remembered(in_force=self._traffic)}

    def put(self, model: str, remembered: Remembered) -> None:
        """Refuses; nothing but a restart changes what is pinned."""
        raise ConfigError(
            "this server serves what it was started with, and nothing else",
            found=f"a change of {model}",
            remedy="Start another server, without --version.",
        )


def _of_wire(found: Any) -> Remembered:
    return wire.from_wire(Remembered, found)


def _of_weights(found: Any) -> Remembered:
    """As the first format has it: percentages by version."""
    weights = {str(version): int(weight) for version, weight in found.items()}
    return Remembered(in_force=Traffic(weights=weights))
