"""All that a promotion is judged by: both models' scores on one frozen holdout, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceScores:
    """Scores on the rows of one slice; ``n`` rows."""

    n: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What one model scored on the holdout with that SHA-256.

    :param metrics: by name, with its :data:`~mlretrain.metrics.COSTS` as far as they could be measured.
    :param slices: by column and value; the values of a column divide all rows among them.
    """

    holdout_sha256: str
    metrics: Mapping[str, float]
    slices: Mapping[str, Mapping[str, SliceScores]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A score, or candidate minus champion, in the metric's own unit, with its confidence interval."""

    estimate: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """What a user's gate function said of the candidate.

    :param observed: what it found, in its own words.
    :param required: what it asks for.
    :param error: why it said nothing that counts; then it has not passed.
    """

    passed: bool
    observed: str = ""
    required: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All evidence on a candidate: its scores and the champion's on one frozen holdout.

    :param differences: candidate minus champion, by metric; intervals are the bootstrap's.
    :param delong: the same for ``roc_auc``, with DeLong's interval.
    :param intervals: the candidate's scores on the whole holdout, by metric.
    :param functions: by ``package.module:name``.
    """

    holdout_sha256: str
    rows: int
    candidate: Scores
    champion: Scores | None = None
    champion_version: str | None = None
    differences: Mapping[str, Interval] = field(default_factory=dict)
    delong: Mapping[str, Interval] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    functions: Mapping[str, FunctionResult] = field(default_factory=dict)

    @property
    def first(self) -> bool:
        """Whether there is no champion at all to compare with; one that could not be scored is one."""
        return self.champion is None and self.champion_version is None
