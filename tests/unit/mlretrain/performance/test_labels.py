"""What real logs and labels do to a join, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlretrain.data.read import connect
from mlretrain.errors import InvalidInput
from mlretrain.performance import labels as labels_module
from mlretrain.performance.labels import Answers, Counts, Source

Row = tuple[Any, ...]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


class Join:
    """Predictions ``(id, prediction, second, version)`` and labels ``(id, late, second)``."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def source(self, rows: list[Row], columns: str, kinds: str, time_column: str | None) -> Source:
        values = ", ".join(f"({', '.join(map(_sql, row))})" for row in rows)
        names = columns.split()
        casts = ", ".join(
            f"CAST({name} AS {kind}) AS {name}" for name, kind in zip(names, kinds.split(), strict=True)
        )
        relation = self._con.sql(f"SELECT {casts} FROM (VALUES {values}) AS rows({', '.join(names)})")
        if time_column:
            relation = relation.select(f"* REPLACE (to_timestamp({time_column}) AS {time_column})")
        return Source(relation=relation, time_column=time_column, where="here")

    def answers(self, rows: list[Row], *, timed: bool = True, key: str = "BIGINT") -> Answers:
        source = self.source(
            rows,
            "id prediction second model_version",
            f"{key} DOUBLE BIGINT VARCHAR",
            "second" if timed else None,
        )
        return Answers(self._con, source, join_on=["id"], version="3")

    def labels(
        self, rows: list[Row], *, timed: bool = False, key: str = "BIGINT", kind: str = "BIGINT"
    ) -> Source:
        return self.source(rows, "id late second", f"{key} {kind} BIGINT", "second" if timed else None)


def _sql(value: Any) -> str:
    if isinstance(value, float):
        return f"'{value}'::DOUBLE"
    return "NULL" if value is None else repr(value)


@pytest.fixture
def join(con: duckdb.DuckDBPyConnection) -> Join:
    return Join(con)


def _pairs(answers: Answers) -> dict[float, Any]:
    rows = answers.rows(labelled=True)
    assert rows.labels is not None
    return dict(zip(rows.predictions.tolist(), rows.labels.tolist(), strict=True))


def test_labels_find_their_predictions(join: Join) -> None:
    answers = join.answers([(1, 0.1, 0, "3"), (2, 0.2, 60, "3"), (3, 0.3, 120, "3")])
    answers.join(join.labels([(3, 1, 0), (1, 0, 0), (9, 1, 0)]), "late")
    assert _pairs(answers) == {0.1: 0, 0.3: 1}
    assert answers.counts == Counts(logged=3, answers=3, labelled=2)
    assert answers.counts.coverage == pytest.approx(2 / 3)
    seconds = answers.rows(labelled=False).seconds
    assert seconds is not None
    assert sorted(seconds) == [0, 60, 120]


def test_only_the_champions_answers_count(join: Join) -> None:
    answers = join.answers([(1, 0.1, 0, "3"), (2, 0.2, 0, "2"), (3, 0.3, 0, None)])
    assert (answers.counts.logged, answers.counts.answers) == (3, 1)


def test_a_log_without_versions_counts_whole(con: duckdb.DuckDBPyConnection) -> None:
    relation = con.sql("SELECT i AS id, i / 10.0 AS prediction FROM range(5) AS rows(i)")
    source = Source(relation=relation, time_column=None, where="here")
    answers = Answers(con, source, join_on=["id"], version="3")
    assert answers.counts.answers == 5
    assert answers.rows(labelled=False).seconds is None


def test_the_last_answer_to_a_key_counts(join: Join) -> None:
    rows: list[Row] = [(1, 0.1, 0, "3"), (1, 0.9, 60, "3"), (1, 0.5, 30, "3"), (2, 0.2, 0, "3")]
    answers = join.answers(rows)
    assert sorted(answers.rows(labelled=False).predictions) == [0.2, 0.9]
    assert answers.counts.repeated == 2


def test_what_is_kept_does_not_depend_on_the_order_of_the_rows(join: Join) -> None:
    rows: list[Row] = [(i % 7, i / 100, i % 3, "3") for i in range(50)]
    kept = []
    for order in (rows, rows[::-1]):
        with connect() as con:
            kept.append(Join(con).answers(order).rows(labelled=False).predictions.tolist())
    assert kept[0] == kept[1]


def test_answers_without_a_usable_prediction_are_left_out(join: Join) -> None:
    answers = join.answers(
        [(1, None, 0, "3"), (2, float("nan"), 0, "3"), (3, float("inf"), 0, "3"), (4, 0.4, 0, "3")]
    )
    assert (answers.counts.answers, answers.counts.unusable, answers.counts.repeated) == (1, 3, 0)


def test_a_null_key_is_an_answer_without_a_label(join: Join) -> None:
    answers = join.answers([(None, 0.1, 0, "3"), (None, 0.1, 0, "3"), (2, 0.2, 0, "3")])
    answers.join(join.labels([(None, 1, 0), (2, 1, 0)]), "late")
    assert (answers.counts.answers, answers.counts.labelled) == (3, 1)


def test_null_labels_are_no_labels(join: Join) -> None:
    answers = join.answers([(1, 0.1, 0, "3"), (2, 0.2, 0, "3")])
    answers.join(join.labels([(1, None, 0), (2, float("nan"), 0)], kind="DOUBLE"), "late")
    assert answers.counts.labelled == 0


def test_the_latest_label_of_a_key_counts(join: Join) -> None:
    answers = join.answers([(1, 0.1, 0, "3")])
    answers.join(join.labels([(1, 0, 10), (1, 1, 30), (1, 0, 20)], timed=True), "late")
    assert _pairs(answers) == {0.1: 1}


@pytest.mark.parametrize("timed", [False, True])
def test_labels_that_contradict_each_other_are_no_label(join: Join, timed: bool) -> None:
    answers = join.answers([(1, 0.1, 0, "3"), (2, 0.2, 0, "3"), (3, 0.3, 0, "3")])
    answers.join(join.labels([(1, 0, 0), (1, 1, 0), (2, 1, 0), (2, 1, 0)], timed=timed), "late")
    assert _pairs(answers) == {0.2: 1}
    assert (answers.counts.labelled, answers.counts.contradictory) == (1, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        ("BIGINT", "DOUBLE", (1, 1.0)),
        ("BIGINT", "VARCHAR", (1, "1")),
        ("VARCHAR", "VARCHAR", ("a b", "a b")),
        ("TIMESTAMP", "TIMESTAMPTZ", ("2013-01-01 10:00:00", "2013-01-01 05:00:00-05")),
        ("VARCHAR", "TIMESTAMPTZ", ("2013-01-01T05:00:00-05:00", "2013-01-01 10:00:00+00")),
        ("UUID", "VARCHAR", ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",) * 2),
    ],
)
def test_keys_of_different_types_meet(join: Join, ours: str, theirs: str, values: Row) -> None:
    answers = join.answers([(values[0], 0.1, 0, "3")], key=ours)
    answers.join(join.labels([(values[1], 1, 0)], key=theirs), "late")
    assert answers.counts.labelled == 1


def test_several_columns_name_a_row(con: duckdb.DuckDBPyConnection) -> None:
    log = con.sql("SELECT 'AA' AS carrier, i AS flight, i / 10.0 AS prediction FROM range(4) AS rows(i)")
    truth = con.sql(
        "SELECT c AS carrier, i AS flight, 1 AS late FROM range(3) AS a(i), (VALUES ('AA'), ('B6')) AS b(c)"
    )
    answers = Answers(
        con, Source(relation=log, time_column=None, where="log"), join_on=["carrier", "flight"], version="3"
    )
    answers.join(Source(relation=truth, time_column=None, where="labels"), "late")
    assert (answers.counts.answers, answers.counts.labelled) == (4, 3)


def test_missing_columns_are_named(join: Join) -> None:
    answers = join.answers([(1, 0.1, 0, "3")])
    with pytest.raises(InvalidInput, match=r"no column 'lat'.*Did you mean 'late'"):
        answers.join(join.labels([(1, 1, 0)]), "lat")


def test_a_corrupt_file_is_invalid_input(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    con.sql("SELECT i AS id, i / 10.0 AS prediction FROM range(100000) AS rows(i)").write_parquet(str(path))
    relation = con.read_parquet(str(path))
    data = bytearray(path.read_bytes())
    data[4:2000] = b"\0" * 1996
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="the data cannot be read"):
        Answers(con, Source(relation=relation, time_column=None, where="here"), join_on=["id"], version="3")


def test_of_many_rows_some_are_drawn(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "SAMPLE", 100)
    answers = join.answers([(None if i % 2 else i, i / 1000, i, "3") for i in range(1000)])
    drawn = answers.rows(labelled=False).predictions
    assert len(drawn) == 100
    assert 0.4 < drawn.mean() < 0.6
    assert answers.counts.answers == 1000
