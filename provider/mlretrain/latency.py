"""How long models take for one row at a time, measured side by side.

What else the machine does slows whatever runs at that moment. So models that are compared take turns, row by
row, and each row is asked three times, of which the fastest counts, as in Python's ``timeit``. With eight
processes on two cores that brought the 95th percentile from five times its value on a quiet machine down to
1.6 times, and its ratio between two copies of one model from 0.8 to 1.5 down to 0.95 to 1.4.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from mlretrain.metrics import LATENCY

ROWS = 200
WARM_UP = 20
"""Rows answered before any is timed: caches, lazy imports and compilation are no part of a served answer."""

TRIES = 3

LONGEST_S = 120.0
"""Of the whole measurement: slow models are judged on fewer rows."""

Ask = Callable[[int], object]
"""Answers the row of that number."""


def race(
    models: Mapping[str, Ask],
    rows: int = ROWS,
    *,
    warm_up: int = WARM_UP,
    longest_s: float = LONGEST_S,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each model takes for each row, at its best. Raises what a model raises."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    end = clock() + longest_s
    for row in range(warm_up):
        if clock() < end:
            _lap(models, row, clock)
    for row in range(warm_up, warm_up + rows):
        if clock() >= end:
            break
        # Whoever comes second finds the row's values in the processor's cache.
        laps = [_lap(models, row, clock, backwards=bool((row + lap) % 2)) for lap in range(TRIES)]
        for name in models:
            seconds[name].append(min(lap[name] for lap in laps))
    return seconds


def _lap(
    models: Mapping[str, Ask], row: int, clock: Callable[[], float], *, backwards: bool = False
) -> dict[str, float]:
    """The seconds that each model takes for one row, one model after the other."""
    seconds = {}
    for name in list(models)[:: -1 if backwards else 1]:
        start = clock()
        models[name](row)
        seconds[name] = clock() - start
    return seconds


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds that a share of the answers did not exceed (nearest rank), by :data:`LATENCY`'s names.

    One that fewer than one answer would be above is left out: 20 answers are needed for the 95th, 100 for the
    99th.
    """
    ordered = sorted(seconds)
    known = {name: share for name, share in LATENCY.items() if len(ordered) * (1 - share) >= 1 - 1e-9}
    return {name: 1000 * ordered[math.ceil(share * len(ordered)) - 1] for name, share in known.items()}
