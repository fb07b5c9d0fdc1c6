"""After how many requests a guard is breached: ``python -m tests.benchmarks.guards``, for docs/guards.md.

A canary with a tenth of the requests, looked at again and again, 300 times over with other random numbers.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlretrain.gates.certainty import deviations, quantile_error, rate_exceeds, rates_differ
from mlretrain.gates.predictions import PredictionLog, PredictionShift

RUNS = 300
MOST = 4000
LEAST = 20
SHARE = 9
"""Requests of the champion for each of the version's."""

SHIFTED = datetime(2026, 3, 9, tzinfo=UTC)

Run = Callable[[np.random.Generator], int | None]
"""One rollout: the request after which it is rolled back, if it is."""


def errors(rate: float, limit: float) -> Run:
    def run(random: np.random.Generator) -> int | None:
        failed = np.cumsum(random.random(MOST) < rate)
        looks = range(1, MOST + 1)
        spent = (n for n in looks if failed[n - 1] > limit * max(n, LEAST))
        return next((n for n in spent if rate_exceeds(int(failed[n - 1]), n, limit)), None)

    return run


def more_errors(rate: float, champion: float, increase: float) -> Run:
    def run(random: np.random.Generator) -> int | None:
        failed = np.cumsum(random.random(MOST) < rate)
        theirs = np.cumsum(random.random(MOST * SHARE) < champion)

        def certain(n: int) -> bool:
            ours, base = int(failed[n - 1]), int(theirs[SHARE * n - 1])
            return rates_differ(ours, n, base, SHARE * n, ratio=1.0, increase=increase, least=LEAST)

        return next(filter(certain, range(LEAST, MOST + 1, 5)), None)

    return run


def slower(times: float, ratio: float) -> Run:
    def run(random: np.random.Generator) -> int | None:
        ours, theirs = (
            times * np.exp(random.normal(0, 0.5, MOST)),
            np.exp(random.normal(0, 0.5, MOST * SHARE)),
        )

        def certain(n: int) -> bool:
            a, b = quantiles(ours[:n]), quantiles(theirs[: SHARE * n])
            error = math.hypot(quantile_error(0.95, n, *a), quantile_error(0.95, SHARE * n, *b))
            return math.log(a[1] / (ratio * b[1])) > deviations(n / LEAST) * error

        return next(filter(certain, [*range(LEAST, 400, 20), *range(400, MOST + 1, 100)]), None)

    return run


def quantiles(latencies: np.typing.NDArray[np.float64]) -> tuple[float, float, float]:
    p50, p95, p99 = np.quantile(latencies, [0.5, 0.95, 0.99], method="inverted_cdf")
    return float(p50), float(p95), float(p99)


def shifts(alpha: float, rows: int, runs: int = 20) -> Iterator[PredictionShift]:
    """Of predictions from Beta(``alpha``, 5) against Beta(2, 5)."""
    for seed in range(runs):
        random = np.random.default_rng(seed)
        predictions = np.r_[random.beta(2, 5, SHARE * rows), random.beta(alpha, 5, rows)]
        versions = ["1"] * (SHARE * rows) + ["2"] * rows
        table = {"prediction": predictions, "model_version": versions, "served_at": [SHIFTED] * len(versions)}
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(pa.table(table), Path(folder) / "part.parquet")
            found = PredictionLog(f"file://{folder}").shift("2", "1", SHIFTED)
        if found:
            yield found


def main() -> None:
    """Print the table."""
    cases: dict[str, Run] = {
        **{f"error_rate max 0.01, true {rate}": errors(rate, 0.01) for rate in (0.01, 0.03, 0.05, 0.1, 1.0)},
        **{
            f"error_rate champion 0.005 + 0.005, true {rate}": more_errors(rate, 0.005, 0.005)
            for rate in (0.01, 0.05, 0.1)
        },
        **{f"p95 champion x 1.3, true x {times}": slower(times, 1.3) for times in (1.3, 1.5, 2.0)},
    }
    for name, run in cases.items():
        ends = [end for seed in range(RUNS) if (end := run(np.random.default_rng(seed)))]
        after = f"after {np.median(ends):.0f}; {np.quantile(ends, 0.95):.0f}" if ends else ""
        print(f"{name:50} rolled back {len(ends) / RUNS:.3f} {after}")
    for alpha in (2.0, 2.6, 4.0):
        for rows in (100, 200, 500, 3000):
            found = list(shifts(alpha, rows))
            advances = np.mean([each.effect <= 0.1 for each in found])
            backs = np.mean([each.certain > 0.1 for each in found])
            effect = np.mean([each.effect for each in found])
            print(
                f"prediction_shift max 0.1, Beta({alpha}, 5), {rows} rows: {effect:.3f}, "
                f"advances {advances:.2f}, rolled back {backs:.2f}"
            )


if __name__ == "__main__":
    main()
