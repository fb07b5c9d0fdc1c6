"""Both models' predictions on one holdout made into the evidence that gates judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlretrain.delong import delong_interval
from mlretrain.gates.evaluation import Evaluation, Interval, Scores, SliceScores
from mlretrain.intervals import difference_interval, score_interval
from mlretrain.runtime.holdout import HeldOut
from mlretrain.scoring import Predictions, score, slice_rows

SLICES = 50
"""Values of a slice column that are scored by themselves; rarer ones are scored together as ``other``."""

CONFIDENCE = 0.95
"""Of the intervals of the candidate's own scores, where none is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What is measured on which rows.

    :param champion_version: whose scores are missing if there are none.
    :param confidence: of the intervals; ``None``: differences to the champion have none.
    """

    holdout: HeldOut
    sha256: str
    champion_version: str | None
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    confidence: float | None
    seed: int

    def of(
        self, candidate: Predictions, champion: Predictions | None, costs: Mapping[str, Mapping[str, float]]
    ) -> Evaluation:
        """The evidence, as far as it is a matter of predictions.

        :param costs: what else was measured of ``candidate`` and ``champion``, by metric.
        """
        return Evaluation(
            holdout_sha256=self.sha256,
            rows=len(self.holdout),
            candidate=self._scores(candidate, costs["candidate"]),
            champion=None if champion is None else self._scores(champion, costs["champion"]),
            champion_version=self.champion_version,
            differences=self._differences(candidate, champion),
            delong=self._delong(candidate, champion),
            intervals=self._intervals(candidate),
        )

    def _scores(self, predictions: Predictions, costs: Mapping[str, float]) -> Scores:
        truth, slices = self.holdout.truth, {}
        for column in self.slices:
            masks = slice_rows(self.holdout.rows[column].tolist(), SLICES)
            slices[column] = {
                value: SliceScores(
                    n=int(mask.sum()), metrics=score(self.metrics, truth[mask], predictions.of(mask))
                )
                for value, mask in masks.items()
            }
        return Scores(
            holdout_sha256=self.sha256,
            metrics={**score(self.metrics, truth, predictions), **costs},
            slices=slices,
        )

    def _differences(self, candidate: Predictions, champion: Predictions | None) -> dict[str, Interval]:
        if champion is None or self.confidence is None:
            return {}
        found = {
            metric: difference_interval(
                metric,
                self.holdout.truth,
                candidate,
                champion,
                confidence=self.confidence,
                seed=self.seed,
                blocks=self.holdout.blocks,
            )
            for metric in self.metrics
        }
        return {metric: _interval(each, self.confidence) for metric, each in found.items()}

    def _delong(self, candidate: Predictions, champion: Predictions | None) -> dict[str, Interval]:
        if champion is None or self.confidence is None or "roc_auc" not in self.metrics:
            return {}
        found = delong_interval(
            self.holdout.truth,
            candidate,
            champion,
            confidence=self.confidence,
            blocks=self.holdout.blocks,
        )
        return {"roc_auc": _interval(found, self.confidence)}

    def _intervals(self, candidate: Predictions) -> dict[str, Interval]:
        """Of the candidate's own scores: what its performance is compared with once it serves."""
        confidence = self.confidence or CONFIDENCE
        found = {
            metric: score_interval(
                metric,
                self.holdout.truth,
                candidate,
                confidence=confidence,
                seed=self.seed,
                blocks=self.holdout.blocks,
            )
            for metric in self.metrics
        }
        return {metric: _interval(each, confidence) for metric, each in found.items()}


def _interval(found: tuple[float, float, float], confidence: float) -> Interval:
    estimate, low, high = found
    return Interval(estimate=estimate, low=low, high=high, confidence=confidence)
