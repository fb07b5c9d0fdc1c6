"""The hyperparameters that a search may choose, and from which values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from mlretrain.errors import ConfigError
from mlretrain.wire import to_wire

_KINDS = ("int", "float", "choice")
_EXAMPLES = "{int: [3, 9]}, {float: [0.001, 0.3], log: true}, {float: [0, 1], step: 0.1}, {choice: [a, b]}"
LARGEST_GRID = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One hyperparameter: numbers from ``low`` to ``high``, both included, or one of ``choices``.

    :param step: the distance between values, from ``low`` on; none: every value, for ``int`` whole ones.
    :param log: whether the logarithms are searched evenly.
    """

    name: str
    kind: Literal["int", "float", "choice"]
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def labels(self) -> tuple[Any, ...]:
        """The choices as Optuna keeps them: text, numbers, truth and null as they are, all else as JSON.

        All are JSON where Optuna would take one for another, as ``1`` and ``true``.
        """
        labels = tuple(each if _is_plain(each) else _json(each) for each in self.choices)
        return labels if len(set(labels)) == len(labels) else tuple(map(_json, self.choices))

    def chosen(self, label: Any) -> Any:
        """The value that Optuna calls ``label``."""
        if self.kind == "choice":
            return self.choices[self.labels.index(label)]
        return self._nearest(label)

    def label(self, value: Any) -> Any:
        """What Optuna calls ``value``."""
        if self.kind == "choice":
            return self.labels[list(map(_json, self.choices)).index(_json(value))]
        return value

    def values(self) -> tuple[Any, ...]:
        """Every value, for a grid. Raises as :meth:`count`."""
        return (
            self.choices if self.kind == "choice" else tuple(self._at(each) for each in range(self.count()))
        )

    def count(self) -> int:
        """How many values there are.

        :raises ConfigError: there is no end of them.
        """
        if self.kind == "choice":
            return len(self.choices)
        if self.step is None and self.low < self.high:
            raise ConfigError(
                "a grid needs every value",
                where=f"space.{self.name}",
                found=f"float: [{self.low:g}, {self.high:g}] without a step",
                remedy="Give it a step or a choice of values, or use another sampler",
            )
        return self.steps + 1

    @property
    def steps(self) -> int:
        """How many steps from ``low`` to ``high``."""
        return int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) if self.step else 0

    def to_unit(self, value: float) -> float:
        """``value`` as a number within [0, 1], as far from 0 as it is from ``low``."""
        low, high = self._scaled
        return ((math.log(value) if self.log else value) - low) / (high - low)

    def from_unit(self, place: float) -> float:
        """The value nearest to a number within [0, 1]: the inverse of :meth:`to_unit`."""
        low, high = self._scaled
        value = low + place * (high - low)
        return self._nearest(math.exp(value) if self.log else value)

    @property
    def _scaled(self) -> tuple[float, float]:
        """The ends of the range. Those of stepped values are half a step further, so that all are alike."""
        margin = self.step / 2 if self.step else 0.0
        low, high = self.low - margin, self.high + margin
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _nearest(self, value: float) -> float:
        """The value nearest to a number.

        Without a step those of twelve digits: the last ones depend on how numpy happens to compute them.
        """
        if self.step is not None:
            return self._at(round((value - self.low) / self.step))
        return min(max(float(f"{value:.12g}"), self.low), self.high)

    def _at(self, number: int) -> float:
        """The value after so many steps, with no more digits than its parts have."""
        value = _exact(self.low) + min(max(number, 0), self.steps) * _exact(self.step or 0)
        return int(value) if self.kind == "int" else float(value)


def read_space(space: Mapping[str, Mapping[str, Any]]) -> tuple[Dimension, ...]:
    """The dimensions by name. The order in which they are given does not matter.

    :raises ConfigError: one of them is none.
    """
    return tuple(_read(name, space[name]) for name in sorted(space))


def _read(name: str, given: Any) -> Dimension:
    where = f"space.{name}"
    options = dict(given) if isinstance(given, Mapping) else {}
    kinds = [each for each in _KINDS if each in options]
    known = {*kinds, *(("log", "step") if kinds != ["choice"] else ())}
    if len(kinds) != 1 or set(options) - known:
        raise ConfigError("not a set of values", where=where, found=repr(given), allowed=_EXAMPLES)
    if kinds == ["choice"]:
        choices = options["choice"]
        if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
            raise ConfigError("not a list of choices", where=where, found=repr(choices), allowed=_EXAMPLES)
        return Dimension(name=name, kind="choice", choices=tuple(to_wire(choices)))
    return _range(name, "int" if kinds == ["int"] else "float", options, where)


def _range(name: str, kind: Literal["int", "float"], options: Mapping[str, Any], where: str) -> Dimension:
    bounds, step, log = options[kind], options.get("step"), bool(options.get("log"))
    numbers = (int,) if kind == "int" else (int, float)
    if not _are_numbers(bounds, numbers) or len(bounds) != 2 or not bounds[0] <= bounds[1]:
        raise ConfigError("not a range", where=where, found=repr(bounds), allowed=_EXAMPLES)
    is_step = step is None or (_are_numbers([step], (int, float)) and step > 0)
    if not is_step or (kind == "int" and step is not None and step != int(step)):
        raise ConfigError(
            "not a step", where=where, found=repr(step), allowed="a number above 0, for int a whole one"
        )
    if log and (bounds[0] <= 0 or step is not None):
        raise ConfigError(
            "a logarithmic range begins above 0 and has no step", where=where, found=repr(dict(options))
        )
    if kind == "int":
        step = int(step or 1)
    found = Dimension(name=name, kind=kind, low=bounds[0], high=bounds[1], step=step, log=log)
    # The last value is within the range; Optuna would say so in a warning.
    return replace(found, high=found._at(found.steps)) if step else found


def _are_numbers(values: Any, kinds: tuple[type, ...]) -> bool:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return False
    return all(isinstance(each, kinds) and not isinstance(each, bool) for each in values) and all(
        math.isfinite(each) for each in values
    )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _exact(number: float | None) -> Decimal:
    return Decimal(str(number))
