"""Joint shifts, which no column shows by itself: can a classifier tell the window from the reference?

An AUC of one half means that it cannot. How far above that a harmless window comes is learnt from the
reference: how well the same classifier tells some of its own chunks of time from the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlretrain.data.time_window import TimeColumn
from mlretrain.drift.encoding import FEWEST
from mlretrain.drift.sample import ROWS, TIME, Sample, draw
from mlretrain.drift.separation import Separation, separate

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

THRESHOLD = 0.6
CONFIDENCE = 0.95
CHUNKS = 8
"""Chunks that the noise is learnt from, at most: each costs as much as a window's measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainShift:
    """How well the window can be told from the reference; it drifted when ``low > threshold + noise``.

    :param auc: with its bounds ``low`` and ``high`` at ``confidence``; ``None`` if nothing could be measured,
        for what ``note`` says.
    :param noise: by how much the AUC of the reference's own chunks exceeds one half, at most.
    :param rows: rows of the window that were looked at.
    :param columns: those that tell most.
    """

    auc: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float = CONFIDENCE
    threshold: float = THRESHOLD
    noise: float = 0.0
    rows: int
    drifted: bool | None = None
    columns: tuple[str, ...] = ()
    note: str | None = None

    @property
    def limit(self) -> float:
        """The AUC beyond which the window drifts."""
        return self.threshold + self.noise

    def judged(self, threshold: float) -> DomainShift:
        """The same measure, judged by another threshold."""
        drifted = None if self.low is None else self.low > threshold + self.noise
        return replace(self, threshold=threshold, drifted=drifted)

    def __str__(self) -> str:
        if self.auc is None or self.low is None:
            return f"joint shift not measured: {self.note}"
        sign = ">" if self.drifted else "≤"
        told = f", told by {', '.join(self.columns)}" if self.drifted and self.columns else ""
        return f"joint shift AUC {self.auc:.2f} (at least {self.low:.2f}) {sign} {self.limit:.2f}{told}"


def measure_domain(
    reference: Sample,
    window: pa.Table,
    *,
    threshold: float = THRESHOLD,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> DomainShift:
    """How well ``window``, drawn as the reference was, can be told from it; the same for one ``seed``."""
    noise = max((0.0, *reference.noise))
    found = separate(reference.table, window, confidence=confidence, seed=seed)
    shift = DomainShift(confidence=confidence, noise=noise, rows=window.num_rows)
    if not isinstance(found, Separation):
        return replace(shift, threshold=threshold, note=found)
    measured = replace(shift, auc=found.auc, low=found.low, high=found.high, columns=found.columns)
    return measured.judged(threshold)


def learn_noise(
    relation: DuckDBPyRelation,
    sample: pa.Table,
    *,
    time_column: str,
    chunk_s: float,
    rows: int = ROWS,
    seed: int = 0,
) -> tuple[float, ...]:
    """By how much the AUC exceeds one half with which the reference's chunks are told from its rest.

    :param relation: all rows of the reference, of which ``sample`` was drawn.
    :param chunk_s: length of a chunk in seconds, best that of the monitored windows.
    :return: empty where there are fewer than two full chunks.
    """
    chunks = _chunks(relation, time_column, chunk_s)
    if len(chunks) < 2:
        return ()
    last = len(chunks) - 1
    spread = {chunks[round(i * last / (CHUNKS - 1))] for i in range(CHUNKS)}
    columns = [name for name in sample.column_names if name != TIME]
    time = f"floor(epoch({TimeColumn(relation, time_column, 'the reference').sql}) / {chunk_s!r})"
    found = [
        separate(
            _outside(sample, chunk * chunk_s, (chunk + 1) * chunk_s),
            draw(relation.filter(f"{time} = {chunk}"), columns, rows=rows, time_column=time_column),
            seed=seed,
            explain=False,
        )
        for chunk in sorted(spread)
    ]
    return tuple(_excesses(found))


def _excesses(found: list[Separation | str]) -> Iterator[float]:
    for each in found:
        if isinstance(each, Separation):
            yield round(max(0.0, each.auc - 0.5), 6)


def _chunks(relation: DuckDBPyRelation, time_column: str, chunk_s: float) -> list[int]:
    """The chunks that are not cut short by the data's ends or by gaps: at least half the median's rows."""
    time = TimeColumn(relation, time_column, "the reference").sql
    source: Any = relation  # DuckDB annotates query() wrongly.
    counted = source.query(
        "mlretrain_rows",
        f"SELECT floor(epoch({time}) / {chunk_s!r})::BIGINT AS chunk, count(*) AS rows FROM mlretrain_rows "  # noqa: S608
        f"WHERE {time} IS NOT NULL GROUP BY chunk ORDER BY chunk",
    ).fetchall()
    if not counted:
        return []
    median = sorted(rows for _, rows in counted)[len(counted) // 2]
    return [chunk for chunk, rows in counted if 2 * rows >= median and rows >= FEWEST]


def _outside(sample: pa.Table, start_s: float, end_s: float) -> pa.Table:
    import numpy as np

    seconds = sample[TIME].to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    return sample.filter((seconds < start_s) | (seconds >= end_s))
