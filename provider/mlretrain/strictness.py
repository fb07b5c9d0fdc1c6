"""When one condition is at least as strict as another: whatever meets the first meets the second.

Gates and guards are mappings of the same words. A word that only the given condition has makes it stricter,
or the condition does not cover: nothing that a pipeline adds can loosen what a policy demands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SAME = ("metric", "function", "versus", "method", "slices", "groups")
AT_LEAST = ("min", "min_improvement", "confidence")
AT_MOST = ("max", "max_ratio", "max_increase", "max_drop", "max_gap", "min_support")
WORDS = (*SAME, *AT_LEAST, *AT_MOST)
"""What a condition can say."""

MIN_SUPPORT = 100
"""Rows that a slice or group must have to be judged, where a condition does not say."""

_OF_ROWS = ("min", "max", "max_drop")
"""The bounds that ``slices`` makes bounds of each slice instead of all rows."""

_COMPARED = ("min_improvement", "max_ratio", "max_increase")


def covers(given: Mapping[str, Any], demanded: Mapping[str, Any]) -> bool:
    """Whether ``given`` is at least as strict as ``demanded``.

    What a demand leaves out is free, with two exceptions. A comparison with the champion without a bound
    demands that the candidate is no worse, and slices or groups are judged from :data:`MIN_SUPPORT` rows on.
    A gate that judges smaller ones as well covers, also where the demanded one would find too few to judge.
    """
    given, demanded = said(given), _completed(said(demanded))
    if not set(given) <= set(WORDS) or not _same_rows(given, demanded):
        return False
    if _is_bare_comparison(demanded) and not (_is_bare_comparison(given) or _is_no_worse(given)):
        return False
    return all(_is_as_strict(word, given.get(word), bound) for word, bound in demanded.items())


def said(condition: Mapping[str, Any]) -> dict[str, Any]:
    """The words of a condition that say something."""
    return {word: value for word, value in condition.items() if value is not None}


def worded(condition: Mapping[str, Any]) -> str:
    """A condition as it is written in YAML, on one line: ``{metric: roc_auc, min: 0.7}``."""
    words = [*(word for word in WORDS if word in condition), *sorted(set(condition) - set(WORDS))]
    said_words = (f"{word}: {condition[word]}" for word in words if condition[word] is not None)
    return "{" + ", ".join(said_words) + "}"


def _completed(demanded: dict[str, Any]) -> dict[str, Any]:
    if "slices" in demanded or "groups" in demanded:
        return {"min_support": MIN_SUPPORT, **demanded}
    return demanded


def _same_rows(given: Mapping[str, Any], demanded: Mapping[str, Any]) -> bool:
    bounded = any(word in demanded for word in _OF_ROWS)
    return not bounded or given.get("slices") == demanded.get("slices")


def _is_bare_comparison(demanded: Mapping[str, Any]) -> bool:
    return "versus" in demanded and not any(word in demanded for word in _COMPARED)


def _is_no_worse(given: Mapping[str, Any]) -> bool:
    return any(
        _is_as_strict(word, given.get(word), bound)
        for word, bound in (("min_improvement", 0.0), ("max_ratio", 1.0), ("max_increase", 0.0))
    )


def _is_as_strict(word: str, given: Any, bound: Any) -> bool:
    if word in SAME:
        return bool(given == bound)
    if word == "min_support" and given is None:
        given = MIN_SUPPORT
    if not (_is_number(given) and _is_number(bound)):
        return False
    if word in AT_LEAST:
        return bool(given >= bound)
    return word in AT_MOST and bool(given <= bound)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
