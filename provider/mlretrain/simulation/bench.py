"""What one process can find out about the past: how a window looked, what a model was worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from mlretrain.data.split import Holdout
from mlretrain.drift.noise import of_two_windows
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, merge, with_prediction
from mlretrain.drift.verdict import unknown_report
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.performance.policy import PerformancePolicy
from mlretrain.simulation.history import History
from mlretrain.simulation.replay import FAILED, PROMOTED, Attempt, Champion, Measured, Performed
from mlretrain.simulation.training import Model, Score, Served, Training
from mlretrain.simulation.workshop import Workshop

ASSUMED = "assumed: nothing was trained"

Reference = Literal["champion", "previous_window"] | timedelta
"""What a window is compared with; a length of time: the window so long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The past and how to look at it.

    :param training_window: length of a training's window; ``None``: all that is before its end.
    :param chunk_s: length of a reference's own chunks, from which its noise is learnt.
    :param delay: how long after an answer its label is there.
    """

    history: History
    training_window: timedelta | None
    holdout: Holdout
    chunk_s: float
    delay: timedelta = timedelta()
    reference: Reference = "champion"
    training: Training | None = None
    _learnt: dict[datetime, DriftProfile | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def measure(
        self,
        start: datetime,
        end: datetime,
        policy: DriftPolicy,
        trained: datetime,
        answers: DriftProfile | None,
    ) -> Measured:
        """What the window [``start``, ``end``) shows beside the champion of ``trained``.

        :param answers: how its rows were answered; ``None`` if that is not looked at.
        """
        reference = self._reference(start, end, trained)
        current = self.history.window(start, end)
        if reference is None or current is None:
            why = "it has no rows" if current is None else "there are no rows to compare it with"
            return Measured.of(unknown_report(why, rows=current.rows if current else 0))
        importance = None
        if self.training is not None:
            importance = self.training.importance(trained)
            if answers is not None:
                reference = with_prediction(reference, self.training.expected(trained))
                current = with_prediction(current, answers)
        return Measured.of(compare(reference, current, policy, importance=importance))

    def open(self) -> None:
        """See :meth:`Training.open`."""
        self._models.open()

    def train(self, trained: datetime) -> Model:
        """See :meth:`Training.train`."""
        return self._models.train(trained)

    def answers(self, served: Served, trained: datetime) -> DriftProfile:
        """See :meth:`Training.answers`."""
        return self._models.answers(served, trained)

    def judge(self, candidate: datetime, champion: datetime | None) -> Attempt:
        """See :meth:`Training.judge`."""
        return self._models.judge(candidate, champion)

    def perform(self, served: Served, policy: PerformancePolicy) -> Performed:
        """See :meth:`Training.perform`."""
        return Performed.of(self._models.perform(served, policy))

    def score(self, served: Sequence[Served], metric: str) -> Score:
        """See :meth:`Training.score`."""
        return self._models.score(served, metric)

    @property
    def _models(self) -> Training:
        if self.training is None:
            raise ConfigError("nothing is trained in this simulation", remedy="Ask for --train.")
        return self.training

    def _reference(self, start: datetime, end: datetime, trained: datetime) -> DriftProfile | None:
        if trained not in self._learnt:
            since = trained - self.training_window if self.training_window else None
            self._learnt[trained] = self.history.reference(
                since, trained, chunk_s=self.chunk_s, holdout=self.holdout
            )
        learnt = self._learnt[trained]
        if self.reference == "champion" or learnt is None:
            return learnt
        ago = self.reference if isinstance(self.reference, timedelta) else end - start
        before = self.history.window(start - ago, end - ago)
        return of_two_windows(before, learnt) if before else None


class Past:
    """The past as replays see it; what one of them has found out is known to all.

    :param bench: what the workshop's processes work on.
    :param window_ends: where windows may be cut into pieces that others share.
    """

    def __init__(self, bench: Bench, workshop: Workshop, window_ends: Sequence[datetime]) -> None:
        self._bench = bench
        self._window_ends = window_ends
        self._workshop = workshop

    def measure(
        self, start: datetime, end: datetime, policy: DriftPolicy, champions: Sequence[Champion]
    ) -> Measured:
        """What the window shows beside the last champion."""
        trained = champions[-1].trained
        answers = None
        if self._bench.training is not None and policy.prediction_threshold is not None:
            answers = self._answers(champions, start, end)
        return self._workshop.call(self._bench.measure, start, end, policy, trained, answers)

    def _answers(self, champions: Sequence[Champion], start: datetime, end: datetime) -> DriftProfile | None:
        """How the rows were answered: merged from pieces, which windows that overlap share."""
        trained = champions[-1].trained
        cuts = [start, *(each for each in self._window_ends if start < each < end), end]
        pieces = [
            self._workshop.start(self._bench.answers, served, trained)
            for first, last in pairwise(cuts)
            for served in served_between(champions, first, last)
        ]
        return merge(piece.result() for piece in pieces) if pieces else None

    def perform(
        self, start: datetime, end: datetime, policy: PerformancePolicy, champion: Champion
    ) -> Performed | None:
        """How good the champion's answers were in the window of labels that have arrived by ``end``."""
        if self._bench.training is None:
            return None
        first, last = max(start - self._bench.delay, champion.since), end - self._bench.delay
        if first >= last:
            return Performed(verdict="unknown", summary="the champion has no answers with labels yet")
        served = Served(trained=champion.trained, start=first, end=last)
        return self._workshop.call(self._bench.perform, served, policy)

    def first(self, trained: datetime) -> Attempt:
        """What comes of the first champion.

        :raises InvalidInput: there is nothing to train it on, or it cannot be trained.
        """
        self._check_rows(trained)
        if self._bench.training is None:
            return Attempt(outcome=PROMOTED, reason=ASSUMED)
        self._workshop.call(self._bench.open)
        model = self._workshop.call(self._bench.train, trained)
        if model.error is not None:
            raise InvalidInput("the first model cannot be trained", found=model.error)
        return self._workshop.call(self._bench.judge, trained, None)

    def _check_rows(self, trained: datetime) -> None:
        history, window = self._bench.history, self._bench.training_window
        if history.between(trained - window if window else None, trained):
            return
        pieces = history.pieces
        raise InvalidInput(
            f"no rows to train the first model on, at {trained:%Y-%m-%d}",
            found=f"rows from {pieces[0].start:%Y-%m-%d} to {pieces[-1].end:%Y-%m-%d}"
            if pieces
            else "no rows",
            remedy="Begin the replay when there is a training window of data.",
        )

    def retrain(self, trained: datetime, champion: Champion) -> Attempt:
        """What comes of a candidate beside the champion; without training it is assumed to be promoted."""
        if self._bench.training is None:
            return Attempt(outcome=PROMOTED, reason=ASSUMED)
        model = self._workshop.call(self._bench.train, trained)
        if model.error is not None:
            return Attempt(outcome=FAILED, reason=model.error)
        return self._workshop.call(self._bench.judge, trained, champion.trained)

    def prepare(self, trained: Sequence[datetime]) -> None:
        """Begin to train the models."""
        for each in trained if self._bench.training is not None else ():
            self._workshop.start(self._bench.train, each)

    def seconds(self, instants: Iterable[datetime]) -> float:
        """How long the models of these instants took to train, all together."""
        return sum(self._workshop.call(self._bench.train, each).seconds for each in instants)

    def score(self, champions: Sequence[Champion], start: datetime, end: datetime, metric: str) -> Score:
        """How good the answers in [``start``, ``end``) were, whoever was the champion then."""
        return self._workshop.call(self._bench.score, served_between(champions, start, end), metric)


def served_between(champions: Sequence[Champion], start: datetime, end: datetime) -> tuple[Served, ...]:
    """Who answered the rows of [``start``, ``end``); nobody those before the first champion."""
    ends = [*(each.since for each in champions[1:]), end]
    spans = (
        Served(trained=each.trained, start=max(start, each.since), end=min(end, until))
        for each, until in zip(champions, ends, strict=True)
    )
    return tuple(each for each in spans if each.start < each.end)
