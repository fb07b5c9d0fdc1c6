"""One condition on a candidate, as a pipeline states it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mlretrain.errors import ConfigError
from mlretrain.metrics import COSTS, HIGHER_IS_BETTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition on one metric, whose fields are combined with *and*, or a user's function.

    :param function: ``package.module:name``, which the evaluation job has called.
    :param min: the smallest allowed value, on the whole holdout or, with ``slices``, in each slice.
    :param max: the largest allowed value, likewise.
    :param versus: compare with the champion on the same holdout.
    :param min_improvement: how much better than the champion, in the metric's own unit and in its better
        direction; 0 if ``versus`` stands without ``max_ratio``.
    :param confidence: judge the improvement by the lower end of its two-sided confidence interval, not by its
        estimate: a candidate that is as good as the champion passes with half of what is left to 1.
    :param method: whose interval; DeLong's is one of ``roc_auc``.
    :param max_ratio: at most so many times the champion's value, for metrics of which less is better.
    :param slices: ``"all"`` applies ``min``, ``max`` and ``max_drop`` to every evaluated slice.
    :param max_drop: how much worse than the champion is tolerated, in the metric's own unit.
    :param groups: a column whose values, evaluated as slices, are treated alike.
    :param max_gap: the largest distance between the best and the worst of ``groups``.
    :param min_support: slices and groups with fewer rows are not judged.
    """

    metric: str | None = None
    function: str | None = None
    min: float | None = None
    max: float | None = None
    versus: Literal["champion"] | None = None
    min_improvement: float | None = None
    confidence: float | None = None
    method: Literal["bootstrap", "delong"] = "bootstrap"
    max_ratio: float | None = None
    slices: Literal["all"] | None = None
    max_drop: float | None = None
    groups: str | None = None
    max_gap: float | None = None
    min_support: int = 100

    def __post_init__(self) -> None:
        for wrong in self._wrong():
            raise wrong

    @property
    def improves(self) -> bool:
        """Whether it asks for an improvement over the champion."""
        return self.min_improvement is not None or (self.versus is not None and self.max_ratio is None)

    def _wrong(self) -> Iterator[ConfigError]:
        bounds = (self.min, self.max, self.versus, self.min_improvement, self.max_ratio, self.max_drop)
        asked = [each for each in (*bounds, self.groups, self.max_gap) if each is not None]
        if (self.metric is None) == (self.function is None):
            yield ConfigError("a gate is on a metric or a function", allowed="exactly one of the two")
        elif self.function is not None:
            if asked or self.slices or self.confidence is not None:
                yield ConfigError(f"the gate {self.function} judges by itself", allowed="function alone")
        elif not asked:
            yield ConfigError(
                f"the gate on {self.metric} asks for nothing",
                allowed="min, max, versus, min_improvement, max_ratio, max_drop, groups",
                remedy="Give it a condition or remove it.",
            )
        else:
            yield from self._incomplete()

    def _incomplete(self) -> Iterator[ConfigError]:
        lower_is_better = self.metric in COSTS or not HIGHER_IS_BETTER.get(str(self.metric), False)
        needs = {
            "`groups` and `max_gap` need each other": (self.groups is None) == (self.max_gap is None),
            "`slices` needs `min`, `max` or `max_drop`": (
                self.slices is None or any(each is not None for each in (self.min, self.max, self.max_drop))
            ),
            "`confidence` needs `versus: champion` or `min_improvement`": (
                self.confidence is None or self.improves
            ),
            "`method: delong` needs `metric: roc_auc` and `confidence`": (
                self.method != "delong" or (self.metric == "roc_auc" and self.confidence is not None)
            ),
            "`max_ratio` needs a metric of which less is better": self.max_ratio is None or lower_is_better,
        }
        for message, fulfilled in needs.items():
            if not fulfilled:
                yield ConfigError(f"the gate on {self.metric}: {message}")
