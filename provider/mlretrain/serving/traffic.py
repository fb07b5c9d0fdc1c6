"""What may be ordered of a target, and whether an order comes too late."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlretrain.errors import InvalidInput, Superseded
from mlretrain.ports import Traffic

VERSION = re.compile("[1-9][0-9]*")


def read_traffic(found: Any) -> Traffic:
    """The JSON object ``{weights, mirrored, generation}`` as traffic, versions in order.

    Raises :class:`~mlretrain.errors.InvalidInput`.
    """
    names = set(Traffic.__dataclass_fields__)
    if not isinstance(found, Mapping) or not set(found) <= names or "weights" not in found:
        raise _refused(found)
    try:
        return check_traffic(Traffic(**found))
    except (TypeError, AttributeError):
        raise _refused(found) from None


def check_traffic(traffic: Traffic) -> Traffic:
    """``traffic`` with its versions in order. Raises :class:`~mlretrain.errors.InvalidInput`.

    Whole percentages by version number; those of the weights sum to 100, or there are none and nothing is
    mirrored; a version that answers requests gets no copies of them.
    """
    weights, mirrored = traffic.weights, traffic.mirrored
    valid = (
        all(VERSION.fullmatch(str(version)) for version in (*weights, *mirrored))
        and all(type(weight) is int and 0 <= weight <= 100 for weight in weights.values())
        and all(type(share) is int and 1 <= share <= 100 for share in mirrored.values())
        and (sum(weights.values()) == 100 if weights else not mirrored)
        and not set(mirrored) & set(traffic.served)
        and type(traffic.generation) is int
        and traffic.generation >= 0
    )
    if not valid:
        raise _refused({"weights": dict(weights), "mirrored": dict(mirrored)})
    return replace(traffic, weights=_ordered(weights), mirrored=_ordered(mirrored))


def refuse_late(model: str, order: Traffic, last: Traffic | None) -> None:
    """Raises :class:`~mlretrain.errors.Superseded` if ``order`` comes too late.

    That is: its generation is older than the last one that was ordered, or equal with other traffic. An
    order without a generation (0) is a person's and is always followed; it moves no fence: orders that are
    late stay late, and the last order given again undoes what the person did.

    :param last: the last order that had a generation.
    """
    if not order.generation or last is None or order.generation > last.generation:
        return
    if order.generation == last.generation and order.same(last):
        return
    raise Superseded(
        f"a later order for {model} has been followed",
        found=f"generation {order.generation}",
        allowed=f"later than {last.generation}, or {last.generation} as it was",
        remedy="Look at the traffic in force; whoever ordered it knows more.",
    )


def _ordered(shares: Mapping[str, int]) -> dict[str, int]:
    return {version: shares[version] for version in sorted(shares, key=int)}


def _refused(found: Any) -> InvalidInput:
    return InvalidInput(
        "this is no traffic",
        found=repr(found)[:200],
        allowed="whole percentages by version number, summing to 100; mirrored: versions that serve nothing",
        remedy='For example {"weights": {"7": 100, "8": 0}, "mirrored": {"8": 10}, "generation": 0}.',
    )
