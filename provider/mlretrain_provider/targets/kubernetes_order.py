"""The traffic that is in force and the last order of it, kept on the object by which it is switched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlretrain import wire
from mlretrain.errors import ConfigError, ContractError
from mlretrain.ports import Traffic
from mlretrain_provider.backends.kubernetes_job import NAME_ANNOTATION

Object = Mapping[str, Any]

IN_FORCE, LAST = "mlretrain/traffic", "mlretrain/last-order"
STAMP = "mlretrain/generation"
"""On a version: the latest generation that has wanted it, which older ones therefore leave alone."""


def in_force(found: Object | None) -> Traffic:
    """What was ordered last, by whomever; empty if nothing was."""
    return _traffic(found, IN_FORCE) or Traffic()


def last_order(found: Object | None) -> Traffic | None:
    """The last order that had a generation."""
    return _traffic(found, LAST)


def notes(model: str, order: Traffic, found: Object | None) -> dict[str, str]:
    """The annotations that put ``order`` in force."""
    last = order if order.generation else last_order(found)
    written = {IN_FORCE: order, **({LAST: last} if last else {})}
    return {NAME_ANNOTATION: model, **{name: wire.canonical(each).decode() for name, each in written.items()}}


def stamp(order: Traffic, found: Object | None) -> int:
    """The generation with which ``order`` acts; a person's order acts with that of the last one."""
    last = last_order(found)
    return order.generation or (last.generation if last else 0)


def stamped(found: Object) -> int:
    """The latest generation that has wanted the version."""
    return int(notes_of(found).get(STAMP, 0))


def notes_of(found: Object) -> dict[str, str]:
    """The object's annotations."""
    return dict(found["metadata"].get("annotations") or {})


def is_strange(model: str, found: Object) -> bool:
    """Whether the object is not this model's."""
    return notes_of(found).get(NAME_ANNOTATION) != model


def refuse_strangers(model: str, found: Object | None) -> None:
    """Raises :class:`~mlretrain.errors.ConfigError` for an object of that name that is not this model's."""
    if found and is_strange(model, found):
        metadata, owner = found["metadata"], notes_of(found).get(NAME_ANNOTATION)
        raise ConfigError(
            f"the {found.get('kind', 'object')} {metadata['name']} is "
            + (f"that of {owner!r}" if owner else "somebody else's"),
            where=f"{metadata.get('namespace')}/{metadata['name']}",
            remedy="Delete it, or serve this model in another namespace.",
        )


def _traffic(found: Object | None, name: str) -> Traffic | None:
    text = notes_of(found).get(name) if found else None
    if text is None:
        return None
    try:
        return wire.from_wire(Traffic, json.loads(text))
    except (ValueError, ContractError):
        metadata = found["metadata"] if found else {}
        raise ConfigError(
            f"the annotation {name} is no traffic",
            where=f"{metadata.get('namespace')}/{metadata.get('name')}",
            found=text[:200],
            remedy="Remove the annotation, and apply the traffic again.",
        ) from None
