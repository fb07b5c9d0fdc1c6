"""Several settings replayed over the same past, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock

from mlretrain.metrics import higher_is_better
from mlretrain.simulation.bench import Bench, Past
from mlretrain.simulation.outcome import Outcome, Tile, outcome, spans
from mlretrain.simulation.recommend import Candidate, Recommendation, recommend
from mlretrain.simulation.replay import PROMOTED, Replay, Setting, replay
from mlretrain.simulation.workshop import Workshop

Progress = Callable[[int, int], None]
"""Told how many of how many windows are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is replayed.

    :param start: when the first champion takes over; its training window ends here.
    :param window_ends: when the monitor looks, each time at the ``window`` that ends then.
    :param metric: what quality is, if models are trained.
    """

    pipeline: str
    start: datetime
    end: datetime
    window: timedelta
    window_ends: tuple[datetime, ...]
    settings: tuple[Setting, ...]
    metric: str

    def trainings(self) -> list[datetime]:
        """Every instant at which a model may be trained."""
        scheduled = {instant for each in self.settings for instant in each.schedule}
        return sorted({self.start, *self.window_ends, *scheduled})

    def cuts(self, training_window: timedelta | None, ago: timedelta) -> list[datetime]:
        """Every instant at which a window, its reference or a training begins or ends.

        :param ago: how long before a window another one is looked at.
        """
        starts = [each - self.window for each in self.window_ends]
        before = [each - ago for each in (*starts, *self.window_ends)] if ago else []
        trainings = self.trainings()
        first = [each - training_window for each in trainings] if training_window else []
        return sorted({*starts, *self.window_ends, *before, *trainings, *first, self.end})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One setting: what it did and what that was worth."""

    name: str
    replay: Replay
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """All settings side by side; the same for the same data and question, ``timings`` excepted.

    :param rows: rows that were scanned.
    :param trained: whether models were really trained.
    :param notes: what a reader should know about how it was done.
    :param timings: seconds; by setting the training time of all its models.
    """

    version: int = 1
    pipeline: str
    start: datetime
    end: datetime
    window_s: float
    rows: int
    metric: str
    trained: bool
    results: tuple[Result, ...]
    recommendation: Recommendation
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)


def simulate(
    question: Question,
    bench: Bench,
    *,
    jobs: int,
    notes: Sequence[str] = (),
    log: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Simulation:
    """Replay every setting, several at a time; measurements and models are shared between them.

    :param jobs: processes that measure, train and score; 0: this one.
    :param log: where the output of the user's code goes.
    :raises InvalidInput: the first model cannot be trained on this data.
    """
    trained = bench.training is not None
    tiles = spans(question.start, question.end, question.window) if trained else []
    counter = _Counter(len(question.settings) * (len(question.window_ends) + len(tiles)), progress)
    # The workshop is left first: an interrupt ends its processes, and with them the threads that wait.
    with (
        ThreadPoolExecutor(len(question.settings)) as threads,
        Workshop(bench, jobs=jobs, log=log) as workshop,
    ):
        past = Past(bench, workshop, question.window_ends)
        first = past.first(question.start)
        if first.outcome != PROMOTED:
            notes = [*notes, f"The first model stays, though it would not have passed: {first.reason}."]
        lives = [threads.submit(_live, question, past, each, tiles, counter) for each in question.settings]
        results = tuple(each.result() for each in lives)
        timings = {each.name: past.seconds(_trainings(each, question)) for each in results} if trained else {}
    better = higher_is_better(question.metric)
    return Simulation(
        pipeline=question.pipeline,
        start=question.start,
        end=question.end,
        window_s=question.window.total_seconds(),
        rows=bench.history.rows,
        metric=question.metric,
        trained=trained,
        results=results,
        recommendation=recommend(
            [_candidate(each) for each in results], metric=question.metric, higher_is_better=better
        ),
        notes=tuple(notes),
        timings={name: round(seconds, 1) for name, seconds in timings.items()},
    )


def _live(
    question: Question,
    past: Past,
    setting: Setting,
    tiles: Sequence[tuple[datetime, datetime]],
    counter: _Counter,
) -> Result:
    lived = replay(
        setting,
        past,
        pipeline=question.pipeline,
        start=question.start,
        window_ends=question.window_ends,
        window=question.window,
        advance=counter.advance,
    )
    scored = []
    for start, end in tiles:
        score = past.score(lived.champions, start, end, question.metric)
        scored.append(Tile(start=start, end=end, rows=score.rows, value=score.value))
        counter.advance()
    found = outcome(lived, scored, higher_is_better=higher_is_better(question.metric))
    return Result(name=setting.name, replay=lived, outcome=found)


def _trainings(result: Result, question: Question) -> list[datetime]:
    return [question.start, *(each.at for each in result.replay.retrains)]


def _candidate(result: Result) -> Candidate:
    return Candidate(
        name=result.name, outcome=result.outcome, is_fixed=not result.replay.setting.is_monitored
    )


class _Counter:
    """Counts what all replays have done together."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = Lock()

    def advance(self) -> None:
        """One more is done."""
        with self._lock:
            self._done += 1
            self._progress(self._done, self._total)
