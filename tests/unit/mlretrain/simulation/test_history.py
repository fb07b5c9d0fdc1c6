"""What is merged from pieces is what one profile of the same rows would have been."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pandas as pd

from mlretrain.data.read import connect
from mlretrain.data.split import Holdout
from mlretrain.drift.profile import build_profile
from mlretrain.simulation.history import History, read_history
from mlretrain.simulation.simulate import Question
from tests.unit.mlretrain.simulation.conftest import CHANGE, DAY, ROWS, START, TRAINING, WEEK, rows

WEEK_S = 7 * 86_400


def test_a_window_has_exactly_its_rows(history: History, question: Question) -> None:
    for end in question.window_ends:
        window = history.window(end - WEEK, end)
        assert window is not None
        assert (window.rows, window.start, window.end) == (7 * ROWS, end - WEEK, end)


def test_a_window_is_the_profile_of_its_rows(history: History) -> None:
    frame = rows()
    part = frame[(frame["at"] >= START) & (frame["at"] < START + WEEK)]
    merged = history.window(START, START + WEEK)
    assert merged is not None
    with connect() as con:
        whole = build_profile(con.from_df(part), include=("x", "kind"), time_column="at", reference=merged)
    for ours, theirs in zip(merged.columns, whole.columns, strict=True):
        assert (ours.bins, ours.cells, ours.counts) == (theirs.bins, theirs.cells, theirs.counts)


def test_a_reference_leaves_out_what_a_holdout_by_time_keeps_back(history: History) -> None:
    whole = history.reference(START - TRAINING, START, chunk_s=WEEK_S, holdout=Holdout(by="random"))
    known = history.reference(
        START - TRAINING, START, chunk_s=WEEK_S, holdout=Holdout(by="time", fraction=0.25)
    )
    assert whole is not None
    assert known is not None
    assert (whole.rows, known.rows) == (56 * ROWS, 42 * ROWS)
    assert whole.chunks == 8


def test_a_category_that_comes_later_is_none_of_the_reference_s(question: Question) -> None:
    frame = rows()
    frame.loc[frame["at"] >= pd.Timestamp(CHANGE), "kind"] = "new"
    with connect() as con:
        past = read_history(
            con.from_df(frame),
            time_column="at",
            cuts=question.cuts(TRAINING, timedelta()),
            include=["kind"],
        )
    reference = past.reference(None, START, chunk_s=WEEK_S)
    assert reference is not None
    assert set(reference.columns[0].categories) == {"a", "b", "c"}


def test_windows_that_begin_at_any_hour_are_cut_there() -> None:
    ends = [datetime(2026, 2, 1 + i, 10, 17, 5, tzinfo=UTC) for i in range(5)]
    frame = rows()
    with connect() as con:
        past = read_history(con.from_df(frame), time_column="at", cuts=ends, include=["x"])
    assert len(past.pieces) == 6
    for start, end in pairwise(ends):
        window = past.window(start, end)
        wanted = ((frame["at"] >= start) & (frame["at"] < end)).sum()
        assert window is not None
        assert window.rows == wanted


def test_a_span_without_rows_is_none(history: History) -> None:
    empty = replace(history, pieces=history.pieces[:3])

    assert empty.window(START, START + DAY) is None
    assert empty.reference(START, START + DAY, chunk_s=WEEK_S) is None
