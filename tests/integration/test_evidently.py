"""The real Evidently, in the environment that its own job gets, from the operators to the report."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG

from mlretrain.data.read import connect
from mlretrain.drift.evidently import REQUIREMENTS
from mlretrain.drift.profile import build_profile
from mlretrain.drift.sample import Sample, draw, to_parquet
from mlretrain.errors import TransientError
from mlretrain.runtime.store import open_store
from mlretrain.wire import pretty
from mlretrain_provider.backends.environment import Environments
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.operators.monitoring import DetectDriftOperator
from mlretrain_provider.operators.profiling import ProfileDataOperator
from tests.fakes.airflow_harness import DagRunHarness
from tests.fakes.registry import FakeRegistry
from tests.fakes.tracker import FakeTracker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

COLUMNS = ["x", "y", "kind", "night"]
PRESET = """
from evidently import Report
from evidently.metrics import ValueDrift

def tuned():
    return Report([ValueDrift(column="x", method="psi", threshold=5.0), ValueDrift(column="kind")])
"""


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the environment with Evidently, which this Python does not have."""
    assert find_spec("evidently") is None, "the test would prove nothing"
    folder = tmp_path_factory.mktemp("environments")
    try:
        Environments(folder).python(REQUIREMENTS)
    except TransientError as error:
        pytest.skip(f"NOT TESTED, Evidently's environment cannot be made: {error}")
    return folder


def _rows(n: int, start: str, x: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(n)
    return pd.DataFrame(
        {
            "at": pd.date_range(start, periods=n, freq="3min"),
            "x": random.normal(x, 1, n),
            "y": [None if i % 7 == 0 else float(i % 5) for i in range(n)],
            "kind": random.choice(["a", "b", "c"], n),
            "night": random.random(n) < 0.3,
        }
    )


@pytest.fixture
def monitor(tmp_path: Path, environments: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``monitor(frame, …)``: what is detected about a window, and the report."""
    registry, tracker = FakeRegistry(), FakeTracker()
    monkeypatch.setattr(MLflowHook, "registry", lambda self: registry)
    monkeypatch.setattr(MLflowHook, "tracker", lambda self, env=None: tracker)
    root = f"file://{tmp_path}/artifacts"
    store = open_store(root)
    with connect() as con:
        relation = con.from_df(_rows(3_000, "2026-01-01"))
        profile = build_profile(relation, include=COLUMNS, time_column="at")
        table = draw(relation, COLUMNS, rows=1_200, time_column="at")
    store.write("profile.json", pretty(profile))
    store.write("sample.parquet", to_parquet(Sample(table=table)))
    tags = {"mlretrain.profile_uri": f"{root}/profile.json", "mlretrain.sample_uri": f"{root}/sample.parquet"}
    version = registry.register("churn", "models:/m", "run", tags).version
    registry.set_alias("churn", "champion", version)
    (tmp_path / "team_presets.py").write_text(PRESET)

    def detect(frame: pd.DataFrame, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        frame.to_parquet(tmp_path / "window.parquet", index=False)
        dag = DAG("churn.monitor", default_args={"pipeline": "churn", "artifacts_uri": root})
        with dag:
            profiled = ProfileDataOperator(
                task_id="profile_window",
                uri=f"file://{tmp_path}/window.parquet",
                time_column="at",
                engine="evidently",
                domain={"rows": 1_200},
                backend_options={
                    "state_dir": str(tmp_path / "jobs"),
                    "environments_dir": str(environments),
                },
                code_root=str(tmp_path),
                **arguments,
            )
            DetectDriftOperator(task_id="detect_drift", profile=profiled.output)
        run = DagRunHarness(dag)
        for task in ("profile_window", "detect_drift"):
            outcome = run.run(task)
            assert outcome.state == "success", outcome.error
        folder = outcome.result["report_uri"].removeprefix(f"{root}/").rpartition("/")[0]
        assert b"<html" in store.read(f"{folder}/evidently.html")[:2_000].lower()
        return outcome.result, json.loads(store.read(f"{folder}/report.json"))

    return detect


def test_its_own_preset_judges_the_columns(monitor: Any) -> None:
    result, report = monitor(_rows(2_000, "2026-03-01", x=0.6))
    assert report["engine"] == "evidently"
    methods = {each["name"]: each["method"] for each in report["columns"]}
    assert methods == {
        "x": "Wasserstein distance (normed)",
        "y": "Jensen-Shannon distance",
        "kind": "Jensen-Shannon distance",
        "night": "Jensen-Shannon distance",
    }
    assert result["drifted"] == ["x"]
    assert "x Wasserstein distance (normed) 0." in result["summary"]
    assert (result["verdict"], result["share"]) == ("drift", 0.25), "by the joint shift alone"
    assert result["signals"]["domain"] is True


def test_a_teams_preset_judges_by_its_own_thresholds(monitor: Any) -> None:
    result, report = monitor(_rows(2_000, "2026-03-01"), preset="team_presets:tuned")
    assert {each["name"]: each["threshold"] for each in report["columns"]} == {"x": 5.0, "kind": 0.1}
    assert (result["verdict"], result["drifted"]) == ("stable", [])
