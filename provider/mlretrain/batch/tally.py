"""What each version did while a dataset was scored: rows, failures, time per row, difference to what counts.

A job keeps its tally in one object, which it rewrites as partitions end: what has begun before an instant was
scored by an order of before it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlretrain.ports import ArtifactStore, VersionStats
from mlretrain.serving.compare import Comparison
from mlretrain.serving.stats import (
    NO_DIFFERENCE,
    SHORTEST_S,
    SMALLEST,
    bin_of,
    latency_quantiles_ms,
    quantile,
)
from mlretrain.wire import canonical

_TIME = "%Y%m%dT%H%M%S%fZ"


@dataclass(slots=True, kw_only=True)
class Tally:
    """One version's; latencies, in seconds per row of a batch, and differences are numbers of bins."""

    rows: int = 0
    errors: int = 0
    latency: Counter[int] = field(default_factory=Counter)
    compared: int = 0
    differing: int = 0
    differences: Counter[int] = field(default_factory=Counter)

    def answered(self, rows: int, seconds: float) -> None:
        """Count a batch that was answered."""
        self.rows += rows
        self.latency[bin_of(seconds / rows, SHORTEST_S)] += rows

    def failed(self, rows: int) -> None:
        """Count a batch that the version failed on."""
        self.rows += rows
        self.errors += rows

    def differed(self, comparison: Comparison) -> None:
        """Count answers that were compared with those that count."""
        self.compared += comparison.rows
        self.differing += comparison.differing
        self.differences.update(
            bin_of(each, SMALLEST) if each >= SMALLEST else NO_DIFFERENCE for each in comparison.differences
        )

    def add(self, found: Mapping[str, Any]) -> None:
        """Count what another one has kept."""
        for name in ("rows", "errors", "compared", "differing"):
            setattr(self, name, getattr(self, name) + int(found[name]))
        for name in ("latency", "differences"):
            getattr(self, name).update({int(number): int(n) for number, n in found[name].items()})

    @property
    def stats(self) -> VersionStats:
        """The same as statistics; each row is a request."""
        p50, p95, p99 = latency_quantiles_ms(self.latency)
        return VersionStats(
            requests=self.rows,
            errors=self.errors,
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            latency_p99_ms=p99,
            compared=self.compared,
            disagreement=self.differing / self.compared if self.compared else None,
            difference_p95=quantile(self.differences, 0.95, SMALLEST),
        )


def tally_name(begun: datetime, job: str) -> str:
    """The name of a job's tally: names are in the order in which the jobs began."""
    return f"{begun.astimezone(UTC):{_TIME}}-{job}.json"


def write_tallies(store: ArtifactStore, path: str, tallies: Mapping[str, Tally]) -> None:
    """Keep a job's tallies, in place of what it kept before."""
    content = {
        version: {
            **{name: getattr(tally, name) for name in ("rows", "errors", "compared", "differing")},
            **{name: dict(sorted(getattr(tally, name).items())) for name in ("latency", "differences")},
        }
        for version, tally in tallies.items()
    }
    store.write(path, canonical(content))


def read_tallies(store: ArtifactStore, folder: str, since: datetime) -> dict[str, VersionStats]:
    """What was done by the jobs that have begun since an instant, by version."""
    first = tally_name(since, "")
    total: dict[str, Tally] = {}
    for path in store.list(f"{folder}/"):
        if path.rpartition("/")[2] >= first.removesuffix("-.json"):
            for version, found in json.loads(store.read(path)).items():
                total.setdefault(version, Tally()).add(found)
    return {version: tally.stats for version, tally in sorted(total.items(), key=lambda each: int(each[0]))}
