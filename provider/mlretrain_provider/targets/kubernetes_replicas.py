"""Shares of the traffic as numbers of pods: a Service gives each of its pods the same."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile

from mlretrain.errors import ConfigError


def replicas(wanted: Mapping[str, int], *, least: int, most: int) -> dict[str, int]:
    """The fewest pods per version whose shares, in whole percent, are those asked for.

    :param wanted: percentages of the versions that answer, above 0, summing to 100.
    :param least: pods that there shall be together.
    :param most: pods that there may be together, if several versions share.
    :raises ConfigError: that takes more than ``most``.
    """
    if len(wanted) == 1:
        return dict.fromkeys(wanted, least)
    most = max(most, least)
    for total in takewhile(lambda each: each <= 100 or each <= most, count(max(least, len(wanted)))):
        found = {version: round(share * total / 100) for version, share in wanted.items()}
        if sum(found.values()) == total and shares(found) == dict(wanted):
            if total <= most:
                return found
            break
    raise ConfigError(
        "these shares take more pods than the model may have",
        where="serving.max_replicas",
        found=f"{_text(wanted)}: {total} pods",
        allowed=f"{most} pods",
        remedy=f"Raise max_replicas to {total}, choose other shares, or let a gateway split the traffic.",
    )


def shares(pods: Mapping[str, int]) -> dict[str, int]:
    """Percentages that sum to 100, from numbers of pods; versions without any are left out.

    Rounding is by largest remainder.
    """
    present = {version: number for version, number in pods.items() if number}
    total = sum(present.values())
    found = {version: 100 * number // total for version, number in present.items()}
    behind = sorted(present, key=lambda version: (-(100 * present[version] % total), version))
    for version in behind[: 100 - sum(found.values()) if found else 0]:
        found[version] += 1
    return found


def _text(found: Mapping[str, int]) -> str:
    return ", ".join(f"version {version} {share} %" for version, share in found.items())
