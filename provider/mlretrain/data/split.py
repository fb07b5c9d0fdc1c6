"""Which rows train and which are held out: decided by the rows themselves, so the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from mlretrain.data.time_window import TimeColumn, from_epoch_us, literal, quote
from mlretrain.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """How rows are held out for evaluation.

    :param by: ``time``: the latest rows; ``random``: rows drawn by a hash of their content.
    :param fraction: which share of the rows, between 0 and 1.
    """

    by: Literal["time", "random"] = "time"
    fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ConfigError(
                "holdout.fraction is out of range", found=str(self.fraction), allowed="0 < x < 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Two SQL predicates; every row meets exactly one.

    :param cut: the first held-out instant of a split by time.
    """

    train_where: str
    holdout_where: str
    cut: datetime | None
    train_rows: int
    holdout_rows: int


def split(
    relation: DuckDBPyRelation,
    holdout: Holdout,
    *,
    time_column: str | None = None,
    seed: int = 0,
    where: str = "dataset",
) -> Split:
    """Divide ``relation``; equal rows land on the same side.

    :param where: the dataset's name in errors.
    :raises InvalidInput: one side would be empty.
    """
    if holdout.by == "time":
        if time_column is None:
            raise ConfigError(
                "a holdout by time needs a time column",
                where=where,
                remedy="Set data.training.time_column, or holdout: {by: random}.",
            )
        return _split_by_time(relation, holdout.fraction, time_column, where)
    return _split_at_random(relation, holdout.fraction, seed, where)


def _split_by_time(relation: DuckDBPyRelation, fraction: float, time_column: str, where: str) -> Split:
    time = TimeColumn(relation, time_column, where)
    instants = relation.project(f"epoch_us({time.sql}) AS t").filter("t IS NOT NULL")
    at, rows = _one(instants.aggregate(f"quantile_disc(t, {1 - fraction!r}), count(*)"))
    if at is None:
        raise InvalidInput("no row has a time to split by", where=where, found=f"column {time_column!r}")
    # Many rows may share one instant: the cut is before or after them, whichever is nearer to the fraction.
    later, from_at, after = _one(
        instants.aggregate(
            f"min(t) FILTER (t > {at}), count(*) FILTER (t >= {at}), count(*) FILTER (t > {at})"
        )
    )
    cuts = [
        (abs(held / rows - fraction), t) for t, held in ((at, from_at), (later, after)) if 0 < held < rows
    ]
    if not cuts:
        raise InvalidInput(
            "all rows have the same time, so none can be held out by time",
            where=where,
            found=from_epoch_us(at).isoformat(),
            remedy="Use holdout: {by: random}.",
        )
    cut = from_epoch_us(min(cuts)[1])
    held_out = time.at_or_after(cut)
    return _counted(relation, f"coalesce({held_out}, false)", cut, where)


def _split_at_random(relation: DuckDBPyRelation, fraction: float, seed: int, where: str) -> Split:
    # MD5 of text rather than DuckDB's hash(), whose values may change with its version.
    texts = [f"coalesce(CAST({quote(name)} AS VARCHAR), chr(30))" for name in sorted(relation.columns)]
    row = f"concat_ws(chr(31), {literal(str(seed))}, {', '.join(texts)})"
    threshold = int(fraction * 2**32)
    return _counted(relation, f"md5_number_lower({row}) % 4294967296 < {threshold}", None, where)


def _counted(relation: DuckDBPyRelation, held_out: str, cut: datetime | None, where: str) -> Split:
    total, held = _one(relation.aggregate(f"count(*), count(*) FILTER ({held_out})"))
    if not 0 < held < total:
        raise InvalidInput(
            "too few rows to hold some out", where=where, found=f"{held} of {total} rows would be held out"
        )
    return Split(
        train_where=f"NOT ({held_out})",
        holdout_where=held_out,
        cut=cut,
        train_rows=total - held,
        holdout_rows=held,
    )


def _one(relation: DuckDBPyRelation) -> tuple[int, ...]:
    return tuple(relation.fetchall()[0])
