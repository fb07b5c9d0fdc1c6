"""A past with one known change: from the first of March on, ``x`` is one standard deviation larger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlretrain.data.read import connect
from mlretrain.data.split import Holdout
from mlretrain.drift.policy import DriftPolicy
from mlretrain.policy.retrain import RetrainPolicy
from mlretrain.simulation.bench import Bench
from mlretrain.simulation.history import History, read_history
from mlretrain.simulation.replay import Setting
from mlretrain.simulation.simulate import Question

FIRST = datetime(2025, 12, 1, tzinfo=UTC)
CHANGE = datetime(2026, 3, 1, tzinfo=UTC)
START = datetime(2026, 2, 1, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
TRAINING = timedelta(days=56)
ROWS = 600
"""A day."""


def rows() -> pd.DataFrame:
    """Every day's rows; ``kind`` never changes."""
    random = np.random.default_rng(7)
    n = ROWS * ((END - FIRST) // DAY)
    at = pd.Timestamp(FIRST) + pd.to_timedelta(np.arange(n) * 86_400 // ROWS, unit="s")
    x = random.normal(size=n) + (at >= pd.Timestamp(CHANGE))
    kind = random.choice(["a", "b", "c"], size=n)
    late = (random.normal(size=n) + x > 1).astype("int64")
    return pd.DataFrame({"at": at, "x": x, "kind": kind, "late": late})


@pytest.fixture(scope="session")
def question() -> Question:
    """A setting that must notice the change, and one that never looks."""
    retrain = RetrainPolicy(violated=2, of=3, cooldown_s=14 * 86_400, warm_up=1)
    return Question(
        pipeline="late",
        start=START,
        end=END,
        window=WEEK,
        window_ends=tuple(START + i * DAY for i in range(1, (END - START) // DAY + 1)),
        settings=(
            Setting(name="as written", drift=DriftPolicy(share=0.5), retrain=retrain),
            Setting(name="never"),
        ),
        metric="roc_auc",
    )


@pytest.fixture(scope="session")
def history(question: Question) -> History:
    """The past, scanned once."""
    return scan(rows(), question)


@pytest.fixture
def bench(history: History) -> Bench:
    """The past without models."""
    return Bench(history=history, training_window=TRAINING, holdout=Holdout(by="random"), chunk_s=7 * 86_400)


def scan(frame: Any, question: Question) -> History:
    """The history of a frame."""
    with connect() as con:
        return read_history(
            con.from_df(frame),
            time_column="at",
            cuts=question.cuts(TRAINING, timedelta()),
            include=["x", "kind"],
        )
