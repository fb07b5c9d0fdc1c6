"""``--sweep key=v1,v2``: the same pipeline with other values in ``monitor`` and ``retrain``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel

from mlretrain.errors import ConfigError
from mlretrain_factory.errors import Position, nearest
from mlretrain_factory.inheritance import merge
from mlretrain_factory.source_map import Node, parse
from mlretrain_factory.spec.monitoring import MonitoringSpec
from mlretrain_factory.spec.retraining import RetrainingSpec

SHORT = {"tolerance": "threshold"}
"""What a key's last word may also be called."""
_SWEPT = ("monitor.drift.*", "monitor.quality.*", "monitor.performance.*", "retrain.*")
_NOT_SWEPT = (
    "monitor.drift.engine",
    "monitor.drift.reference*",
    "monitor.drift.top",
    "monitor.drift.domain*",
    "*.sensitive",
    "monitor.performance.labels.*",
    "retrain.escalate.*",
    "retrain.blackout.*",
)
_COMMA = re.compile(r",(?![^\[{]*[\]}])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value in place of what is written.

    :param given: ``key=value`` as it was asked for.
    :param is_choice: whether there are other values to choose from.
    :param node: the pipeline's mapping with nothing but this value in it.
    """

    given: str
    node: Node
    is_choice: bool = True


def sweep(given: Sequence[str]) -> list[tuple[Change, ...]]:
    """Every combination of the values; a single one without changes if nothing is swept.

    :raises ConfigError: a key that cannot be swept, with the nearest that can.
    """
    return list(itertools.product(*(list(_changes(each)) for each in given)))


def together(changes: Sequence[Change]) -> Node | None:
    """All changes as one mapping."""
    node: Node | None = None
    for each in changes:
        node = each.node if node is None else merge(node, each.node)
    return node


def _changes(given: str) -> Iterator[Change]:
    key, equals, values = given.partition("=")
    place = _place(key.strip(), given)
    if not equals or not values.strip():
        raise ConfigError("nothing to sweep", where=f"--sweep {given}", allowed="key=value,value,…")
    texts = _COMMA.split(values)
    for text in texts:
        asked = f"{key.strip()}={text.strip()}"
        value = parse(f"value: {text.strip()}", f"--sweep {asked}").value["value"]
        yield Change(given=asked, node=_nested(place.split("."), value), is_choice=len(texts) > 1)


def _nested(path: Sequence[str], value: Node) -> Node:
    position = Position(value.position.file)
    node = value._replace(position=position, key=position)
    for name in reversed(path):
        node = Node({name: node}, position, position)
    return node


def _place(key: str, given: str) -> str:
    """The dotted place of ``key``, which may leave out ``monitor.`` and ``defaults.``."""
    head, _, last = key.rpartition(".")
    for name in (last, SHORT.get(last, last)):
        for start in ("", "monitor."):
            for middle in (".", ".defaults."):
                place = f"{start}{head}{middle}{name}" if head else f"{start}{name}"
                if _is_known(place):
                    return place
    short = {each.removeprefix("monitor.").replace(".defaults.", ".") for each in KEYS}
    short |= {each.replace(f".{word}", f".{said}") for each in short for said, word in SHORT.items()}
    raise ConfigError(
        f"no key {key!r} to sweep",
        where=f"--sweep {given}",
        allowed="keys of monitor and retrain that decide what is retrained",
        remedy=nearest(key, [*short, *KEYS], f"Take one of {', '.join(sorted(short))}."),
    )


def _is_known(place: str) -> bool:
    return any(fnmatchcase(place, known) and place.count(".") == known.count(".") for known in KEYS)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        place = f"{prefix}.{field.alias or name}"
        nested = list(_models(field.annotation))
        if not nested or str(field.annotation).startswith("tuple"):
            yield place
        for each in nested:
            yield from _keys(each, f"{place}.*" if str(field.annotation).startswith("dict") else place)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


KEYS = tuple(
    key
    for key in (*_keys(MonitoringSpec, "monitor"), *_keys(RetrainingSpec, "retrain"))
    if any(fnmatchcase(key, each) for each in _SWEPT)
    and not any(fnmatchcase(key, each) for each in _NOT_SWEPT)
)
"""What can be swept, dotted; ``*`` stands for a column."""
