"""What a policy was worth: how good the answers were that its champions gave, and what they cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlretrain.simulation.replay import PROMOTED, REJECTED, Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """The answers of one span of time, whoever gave them; ``value`` is NaN where it is not defined."""

    start: datetime
    end: datetime
    rows: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One replay in numbers.

    :param retrains: how many there were, of which ``promoted`` and ``rejected``; the others failed.
    :param drifted: windows with the verdict ``drift``, of ``windows``; ``unknown`` were not judged.
    :param quality: mean of ``tiles`` by rows; ``None`` if nothing was trained.
    :param worst: the worst of them.
    """

    retrains: int
    scheduled: int
    promoted: int
    rejected: int
    windows: int
    drifted: int
    unknown: int
    quality: float | None = None
    worst: Tile | None = None
    tiles: tuple[Tile, ...] = ()


def outcome(replay: Replay, tiles: Sequence[Tile], *, higher_is_better: bool) -> Outcome:
    """The replay in numbers."""
    verdicts = Counter(step.measured.verdict for step in replay.steps)
    ends = Counter(each.outcome for each in replay.retrains)
    defined = [tile for tile in tiles if math.isfinite(tile.value)]
    sign = 1 if higher_is_better else -1
    return Outcome(
        retrains=len(replay.retrains),
        scheduled=sum(each.cause == "schedule" for each in replay.retrains),
        promoted=ends[PROMOTED],
        rejected=ends[REJECTED],
        windows=len(replay.steps),
        drifted=verdicts["drift"],
        unknown=verdicts["unknown"],
        quality=_mean([(tile.value, tile.rows) for tile in defined]) if defined else None,
        worst=min(defined, key=lambda tile: sign * tile.value, default=None),
        tiles=tuple(tiles),
    )


def spans(start: datetime, end: datetime, length: timedelta) -> list[tuple[datetime, datetime]]:
    """[``start``, ``end``) in parts of ``length``; what is left at the end belongs to the last one."""
    count = max(1, (end - start) // length)
    starts = [start + i * length for i in range(count)]
    return list(zip(starts, [*starts[1:], end], strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One replay's quality minus another's on the same rows, better being positive; its standard error."""

    value: float
    error: float


def difference(ours: Outcome, theirs: Outcome, *, higher_is_better: bool) -> Difference:
    """Span by span, so that what is hard for both cancels out."""
    pairs = [
        ((a.value - b.value) * (1 if higher_is_better else -1), a.rows)
        for a, b in zip(ours.tiles, theirs.tiles, strict=True)
        if math.isfinite(a.value) and math.isfinite(b.value)
    ]
    if not pairs:
        return Difference(value=0.0, error=math.inf)
    mean, rows = _mean(pairs), sum(weight for _, weight in pairs)
    spread = math.fsum((weight * (value - mean)) ** 2 for value, weight in pairs)
    n = len(pairs)
    error = math.sqrt(spread * n / (n - 1)) / rows if n > 1 else math.inf
    return Difference(value=mean, error=error)


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    return math.fsum(value * weight for value, weight in weighted) / sum(weight for _, weight in weighted)
