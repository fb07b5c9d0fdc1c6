"""Predictions joined with the labels that came for them, in DuckDB, in bounded memory.

A row is one answer somebody was given. What real logs and labels do to that:

- answers without a usable prediction (null, not finite) are left out and counted;
- of answers with the same key the last in time counts, the others are left out and counted;
- answers whose key is null count as answers that have no label;
- labels that are null or not finite, or whose key is null, are no labels;
- of several labels for one key the latest counts; those that differ at the same time contradict each other:
  the key has no label, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlretrain.data.read import reading
from mlretrain.data.time_window import check_column, literal, quote
from mlretrain.scoring import Array

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

MEMORY = "1GB"
"""DuckDB's own limit; beyond, it spills to the temporary folder."""

SAMPLE = 200_000
"""Rows that are scored; of more, those with the lowest hash of their key. All rows are counted."""

PREDICTION = "prediction"
VERSION = "model_version"

_FLOATS = ("FLOAT", "DOUBLE")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NUMBERS = (*_FLOATS, *_INTEGERS, *(f"U{each}" for each in _INTEGERS), "DECIMAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows of a relation, and how to speak of them.

    :param time_column: each row's time; ``None`` if it has none.
    :param where: the place, for messages.
    """

    relation: DuckDBPyRelation
    time_column: str | None
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the rows.

    :param logged: rows of the log in the window, of any version.
    :param answers: of the champion, with a usable prediction, each key once.
    :param labelled: answers with a label.
    :param unusable: answers left out for their prediction.
    :param repeated: answers left out for a later one with their key.
    :param contradictory: answers whose labels contradict each other.
    """

    logged: int
    answers: int
    labelled: int = 0
    unusable: int = 0
    repeated: int = 0
    contradictory: int = 0

    @property
    def coverage(self) -> float:
        """The labelled share of the answers."""
        return self.labelled / self.answers if self.answers else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Columns of the rows to be scored; ``seconds`` since 1970, ``None`` without a time column.

    :param labels: ``None`` where the rows were asked for with or without one.
    """

    predictions: Array
    labels: Array | None
    seconds: Array | None


class Answers:
    """The champion's answers, and the labels that are joined to them; tables of ``con``.

    :param join_on: the columns that name a row in the predictions and in the labels.
    :param version: whose answers; data without a column ``model_version`` is taken whole.
    :raises InvalidInput: the predictions cannot be read, or a column is missing.
    """

    def __init__(
        self, con: DuckDBPyConnection, predictions: Source, *, join_on: Sequence[str], version: str
    ) -> None:
        for name in (PREDICTION, *join_on):
            check_column(name, predictions.relation.columns, predictions.where)
        self._con = con
        self._join_on = tuple(join_on)
        self._keys = [f"k{i}" for i in range(len(join_on))]
        self._types = [_type(predictions.relation, name) for name in join_on]
        self._has_time = predictions.time_column is not None
        with reading(predictions.where):
            self.counts = self._collect(predictions, version)

    def join(self, labels: Source, column: str) -> None:
        """Join the labels in ``column``, and count them.

        :raises InvalidInput: the labels cannot be read, or a column is missing.
        """
        for name in (column, *self._join_on):
            check_column(name, labels.relation.columns, labels.where)
        with reading(labels.where):
            self._match(labels, column)
        labelled, contradictory = self._count("count(label), count(*) FILTER (contradictory)", "matched")
        self.counts = replace(self.counts, labelled=labelled, contradictory=contradictory)

    def rows(self, *, labelled: bool) -> Rows:
        """Those to be scored, in an order that depends on nothing but the rows.

        :param labelled: only those with a label; after :meth:`join`.
        """
        import numpy as np

        table, columns = ("matched", "prediction, us, label") if labelled else ("answers", "prediction, us")
        where = "WHERE label IS NOT NULL" if labelled else ""
        sql = f"SELECT {columns} FROM {table} {where} ORDER BY lot, {columns} LIMIT {SAMPLE}"  # noqa: S608
        found = {name: np.ma.getdata(each) for name, each in self._con.sql(sql).fetchnumpy().items()}
        return Rows(
            predictions=found["prediction"],
            labels=found.get("label"),
            seconds=found["us"] / 1e6 if self._has_time else None,
        )

    def _collect(self, predictions: Source, version: str) -> Counts:
        """Makes the table ``answers``: ``k0``, …, ``prediction``, ``us`` (its time in microseconds) and
        ``lot``, by which rows are drawn.
        """
        relation = predictions.relation
        own = "true"
        if VERSION in relation.columns:
            own = f"coalesce(CAST({VERSION} AS VARCHAR) = {literal(version)}, false)"
        names = [f"{quote(name)} AS {key}" for name, key in zip(self._join_on, self._keys, strict=True)]
        relation.project(
            f"{', '.join(names)}, {PREDICTION} AS prediction, {_us(predictions)} AS us, "
            f"{_usable(relation, PREDICTION)} AS usable, {own} AS own"
        ).create_view("log")
        keys, named = ", ".join(self._keys), " AND ".join(f"{key} IS NOT NULL" for key in self._keys)
        self._con.execute(
            f"""
            CREATE TEMP TABLE answers AS
            WITH usable AS (SELECT * FROM log WHERE own AND usable),
            named AS (
                SELECT {keys}, us, max(prediction) AS prediction FROM usable WHERE {named} GROUP BY {keys}, us
            ), answered AS (
                SELECT {keys}, arg_max(prediction, us) AS prediction, max(us) AS us FROM named GROUP BY {keys}
                UNION ALL
                SELECT {keys}, prediction, us FROM usable WHERE NOT ({named})
            )
            SELECT *, hash({keys}, prediction, us) AS lot FROM answered
            """  # noqa: S608
        )
        logged, given, unusable = self._count(
            "count(*), count(*) FILTER (own), count(*) FILTER (own AND NOT usable)", "log"
        )
        (answers,) = self._count("count(*)", "answers")
        return Counts(logged=logged, answers=answers, unusable=unusable, repeated=given - unusable - answers)

    def _match(self, labels: Source, column: str) -> None:
        """Makes the table ``matched``: ``prediction``, ``us``, ``lot``, ``label``, ``contradictory``."""
        theirs = [_type(labels.relation, name) for name in self._join_on]
        alike = [_alike(*pair) for pair in zip(self._types, theirs, strict=True)]
        names = [
            f"{form.format(quote(name))} AS {key}"
            for form, name, key in zip(alike, self._join_on, self._keys, strict=True)
        ]
        labels.relation.project(
            f"{', '.join(names)}, {quote(column)} AS label, {_us(labels)} AS us, "
            f"{_usable(labels.relation, column)} AS usable"
        ).create_view("labels")
        same = " AND ".join(
            f"{form.format(f'answers.{key}')} = truth.{key}"
            for form, key in zip(alike, self._keys, strict=True)
        )
        keys = ", ".join(f"truth.{key}" for key in self._keys)
        self._con.execute(
            f"""
            CREATE TEMP TABLE matched AS
            WITH said AS (
                SELECT {keys}, us, min(label) AS lowest, max(label) AS highest
                FROM labels AS truth SEMI JOIN answers ON {same} WHERE usable GROUP BY {keys}, us
            ), truth AS (
                SELECT {keys}, arg_max(lowest, us) AS lowest, arg_max(highest, us) AS highest
                FROM said AS truth GROUP BY {keys}
            )
            SELECT prediction, us, lot, CASE WHEN lowest = highest THEN lowest END AS label,
                coalesce(lowest <> highest, false) AS contradictory
            FROM answers LEFT JOIN truth ON {same}
            """  # noqa: S608
        )

    def _count(self, what: str, table: str) -> tuple[int, ...]:
        (found,) = self._con.execute(f"SELECT {what} FROM {table}").fetchall()  # noqa: S608
        return tuple(found)


def _type(relation: DuckDBPyRelation, name: str) -> str:
    return str(relation.types[relation.columns.index(name)])


def _usable(relation: DuckDBPyRelation, name: str) -> str:
    finite = f" AND isfinite({quote(name)})" if _type(relation, name) in _FLOATS else ""
    return f"{quote(name)} IS NOT NULL{finite}"


def _us(source: Source) -> str:
    return f"coalesce(epoch_us({quote(source.time_column)}), 0)" if source.time_column else "0"


def _alike(ours: str, theirs: str) -> str:
    """How columns of two types are compared: numbers by value, times as instants, all else as text."""
    pair = (ours, theirs)
    if ours == theirs or all(each.partition("(")[0] in _NUMBERS for each in pair):
        return "{}"
    if any(each.startswith(("TIMESTAMP", "DATE")) for each in pair):
        return "TRY_CAST({} AS TIMESTAMPTZ)"
    return "CAST({} AS VARCHAR)"
