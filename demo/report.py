"""What each window measured, decided and served, beside what the first model alone would have done."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from demo.flights import KNOWN_AT_DEPARTURE

if TYPE_CHECKING:
    import pandas as pd

    from demo.services import Services


@dataclass(kw_only=True)
class Window:
    """One monitored week."""

    start: pd.Timestamp
    end: pd.Timestamp
    drift: dict[str, Any]
    decision: dict[str, Any]
    retrain: dict[str, Any] = field(default_factory=dict)


def _first_model(services: Services, pipeline: str) -> Any:
    os.environ.update(
        {"MLFLOW_TRACKING_URI": services.mlflow_url, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    )
    import mlflow.sklearn

    return mlflow.sklearn.load_model(f"models:/{pipeline}/1")


def _served(services: Services, pipeline: str, flights: pd.DataFrame) -> pd.DataFrame:
    """The prediction log joined with the arrivals, one row a served flight whose arrival is known."""
    import duckdb

    log = f"{services.predictions}/{pipeline}/*/*.parquet"
    served = duckdb.execute(
        "select flight_id, prediction, model_version from read_parquet(?, union_by_name := true)", [log]
    ).df()
    known = flights[flights["late"].notna()].astype({"late": "int64"})
    return known.merge(served, on="flight_id", validate="one_to_one")


def _quality(rows: pd.DataFrame, first: Any) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    return {
        "first": roc_auc_score(rows["late"], first.predict_proba(rows[KNOWN_AT_DEPARTURE])[:, 1]),
        "served": roc_auc_score(rows["late"], rows["prediction"]),
    }


def print_table(windows: list[Window], flights: pd.DataFrame, services: Services, pipeline: str) -> None:
    """One line a window, then the mean quality since the first promotion by drift."""
    first = _first_model(services, pipeline)
    served = _served(services, pipeline, flights)
    print(f"\n{'window':15} {'flights':>7} {'drift':>6}  {'drifted columns':26} {'decided':8}", end=" ")
    print(f"{'came of it':12} {'served by':16} {'AUC v1':>7} {'AUC served':>10}")
    since: list[dict[str, float]] = []
    for window in windows:
        inside = (served["sched_dep_time"] >= window.start) & (served["sched_dep_time"] < window.end)
        rows = served[inside]
        versions = rows["model_version"].astype(str).value_counts(normalize=True).sort_index()
        by = ", ".join(f"v{version} {share:.0%}" for version, share in versions.items())
        quality = _quality(rows, first)
        if (rows["model_version"].astype(str) != "1").mean() > 0.5:
            since.append(quality)
        print(
            f"{window.start:%d %b}–{window.end:%d %b}   {len(rows):>7,} {window.drift['share']:>6.0%}  "
            f"{', '.join(window.drift['drifted'])[:26]:26} {window.decision['verdict']:8} "
            f"{window.retrain.get('outcome', '·'):12} {by:16} "
            f"{quality['first']:>7.3f} {quality['served']:>10.3f}"
        )
    if since:
        means = {name: sum(each[name] for each in since) / len(since) for name in ("first", "served")}
        print(
            f"\nIn the {len(since)} windows that a retrained model served: mean AUC {means['served']:.3f}, "
            f"the first model alone {means['first']:.3f} ({means['served'] - means['first']:+.3f})."
        )
    retrained = sum(window.retrain.get("outcome") == "promoted" for window in windows)
    rejected = sum(window.retrain.get("outcome") == "rejected" for window in windows)
    print(f"Retrained by drift and promoted: {retrained}; retrained and rejected by the gates: {rejected}.")
