"""How long models take for one row at a time, measured side by side.

What else the machine does slows whatever runs at that moment: models that are compared take turns, row by
row, so that it slows them alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from mlretrain.metrics import LATENCY

ROWS = 200
WARM_UP = 20
"""Rows answered before any is timed: caches, lazy imports and compilation are no part of a served answer."""

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
    """Seconds that each model took for each row. Raises what a model raises."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    end = clock() + longest_s
    for turn in range(warm_up + rows):
        if clock() > end:
            break
        # Whoever comes second finds the row's values in the processor's cache.
        for name in list(models)[:: 1 if turn % 2 else -1]:
            start = clock()
            models[name](turn)
            if turn >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds that a share of the answers did not exceed (nearest rank), by :data:`LATENCY`'s names.

    One that fewer than one answer would be above is left out: 20 answers are needed for the 95th, 100 for the
    99th.
    """
    ordered = sorted(seconds)
    known = {name: share for name, share in LATENCY.items() if len(ordered) * (1 - share) >= 1 - 1e-9}
    return {name: 1000 * ordered[math.ceil(share * len(ordered)) - 1] for name, share in known.items()}
