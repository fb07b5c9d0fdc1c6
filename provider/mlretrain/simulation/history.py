"""The past as small profiles that merge into any window and any champion's reference: one scan."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from mlretrain.data.split import Holdout
from mlretrain.drift.noise import with_noise
from mlretrain.drift.profile import TOP_CATEGORIES, ColumnProfile, DriftProfile, merge, profile_chunks

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Profiles of consecutive, disjoint spans of data on one grid, oldest first.

    :param pieces: each with the ``start`` and ``end`` of its span; spans without rows are left out.
    """

    pieces: tuple[DriftProfile, ...]

    @property
    def rows(self) -> int:
        """All rows that have a time."""
        return sum(piece.rows for piece in self.pieces)

    def between(self, start: datetime | None, end: datetime) -> tuple[DriftProfile, ...]:
        """The pieces of [``start``, ``end``); of all that is before ``end`` without a start."""
        starts = [_start(piece) for piece in self.pieces]
        first = 0 if start is None else bisect_left(starts, start)
        return self.pieces[first : bisect_left(starts, end)]

    def window(self, start: datetime, end: datetime) -> DriftProfile | None:
        """The rows of [``start``, ``end``) as one profile; ``None`` if there are none."""
        pieces = self.between(start, end)
        return replace(merge(pieces), start=start, end=end) if pieces else None

    def reference(
        self, start: datetime | None, end: datetime, *, chunk_s: float, holdout: Holdout | None = None
    ) -> DriftProfile | None:
        """What a champion trained on [``start``, ``end``) would remember; ``None`` if there are no rows.

        As in training, its noise is learnt from its chunks of ``chunk_s`` seconds, the rows that a holdout by
        time keeps back are not in it (to the nearest piece), and a category that it has not seen is none.
        """
        pieces = self.between(start, end)
        if holdout is not None and holdout.by == "time":
            pieces = _before_holdout(pieces, holdout.fraction)
        if not pieces:
            return None
        last = pieces[-1].end or end
        chunks = [
            merge(members)
            for _, members in groupby(pieces, lambda piece: (_start(piece) - last) // (_SECOND * chunk_s))
        ]
        learnt = with_noise(merge(chunks), chunks)
        return replace(learnt, columns=tuple(_as_seen(column) for column in learnt.columns))


def read_history(
    relation: DuckDBPyRelation,
    *,
    time_column: str,
    cuts: Sequence[datetime],
    include: Sequence[str],
    exclude: Sequence[str] = (),
    top: int = TOP_CATEGORIES,
    sensitive: Sequence[str] = (),
) -> History:
    """One scan of ``relation``, so that every span between two of the ``cuts`` can be merged from its pieces.

    Chunks are of the greatest length that divides all cuts; those between the same two cuts are merged.

    :param cuts: every instant at which a window or a training begins or ends; whole seconds.
    """
    instants = sorted(set(cuts))
    origin = instants[0]
    chunks = profile_chunks(
        relation,
        time_column=time_column,
        chunk_s=math.gcd(*((each - origin) // _SECOND for each in instants)) or 1,
        origin=origin,
        include=include,
        exclude=exclude,
        top=top,
        sensitive=sensitive,
    )
    merged = [
        merge(members) for _, members in groupby(chunks, lambda each: bisect_right(instants, _start(each)))
    ]
    return History(pieces=tuple(merged))


def _start(piece: DriftProfile) -> datetime:
    return piece.start or _EPOCH


def _as_seen(column: ColumnProfile) -> ColumnProfile:
    """Without the categories that only other parts of the history have: the champion does not know them."""
    if not column.listed:
        return column
    seen = [(name, rows) for name, rows in zip(column.categories, column.counts, strict=True) if rows]
    return replace(column, categories=tuple(name for name, _ in seen), counts=tuple(rows for _, rows in seen))


def _before_holdout(pieces: Sequence[DriftProfile], fraction: float) -> tuple[DriftProfile, ...]:
    """The first pieces, whose rows are nearest to what a holdout of the latest ``fraction`` leaves."""
    wanted = (1 - fraction) * sum(piece.rows for piece in pieces)
    kept, rows = list[DriftProfile](), 0
    for piece in pieces:
        if kept and abs(rows + piece.rows - wanted) > abs(rows - wanted):
            break
        kept.append(piece)
        rows += piece.rows
    return tuple(kept)
