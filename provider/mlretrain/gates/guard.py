"""What a version has to keep to while it is watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlretrain.errors import ConfigError
from mlretrain.verdict import number

GuardMetric = Literal[
    "error_rate",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "prediction_shift",
    "disagreement",
    "difference_p95",
]

COMPARABLE: tuple[GuardMetric, ...] = ("error_rate", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
"""Those that the champion has too; the others compare with it in themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A limit of one metric, of its own or by the champion's in the same time.

    :param metric: ``error_rate`` a share; ``latency_…`` milliseconds; ``prediction_shift`` the Jensen–Shannon
        distance of the predictions from the champion's; of mirrored versions ``disagreement``, the share of
        rows with another prediction, and ``difference_p95``, in the prediction's own unit.
    :param max: the largest value that it may have.
    :param versus: ``champion``, with one of the next two.
    :param max_increase: how much larger than the champion's it may be.
    :param max_ratio: how many times the champion's it may be.
    :raises ConfigError: another combination.
    """

    metric: GuardMetric
    max: float | None = None
    versus: Literal["champion"] | None = None
    max_increase: float | None = None
    max_ratio: float | None = None

    def __post_init__(self) -> None:
        relative = [each for each in (self.max_increase, self.max_ratio) if each is not None]
        alone = self.versus is None and self.max is not None and not relative
        compared = self.versus is not None and self.max is None and len(relative) == 1
        if not alone and not (compared and self.metric in COMPARABLE):
            raise ConfigError(
                "this guard cannot be judged",
                where=self.metric,
                found=str(self),
                allowed="max; or versus: champion with max_increase or max_ratio, for what it has too",
            )

    @property
    def name(self) -> str:
        """The guard in a table."""
        return f"{self.metric} versus {self.versus}" if self.versus else self.metric

    @property
    def ratio(self) -> float:
        """How many times the champion's value is allowed."""
        return 1.0 if self.max_ratio is None else self.max_ratio

    @property
    def increase(self) -> float:
        """How much is allowed on top of that."""
        return self.max_increase or 0.0

    def limit(self, champion: float | None) -> float | None:
        """The largest allowed value; ``None`` if it depends on the champion's, which is not known."""
        if self.versus is None:
            return self.max
        return None if champion is None else self.ratio * champion + self.increase

    def __str__(self) -> str:
        if self.versus is None:
            return f"≤ {number(self.max)}"
        if self.max_increase is not None:
            return f"≤ {self.versus} + {number(self.max_increase)}"
        return f"≤ {number(self.max_ratio)} times {self.versus}"
