"""Loading 300 pipelines into DAGs stays light, whole and repeatable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.airflow

EVERYTHING = Path(__file__).parents[1] / "golden" / "everything"
HEAVY = (
    "boto3",
    "botocore",
    "cmaes",
    "duckdb",
    "great_expectations",
    "kubernetes",
    "mlflow",
    "numpy",
    "optuna",
    "optuna",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
)
LOAD = """
import json, sys
namespace = {"__file__": sys.argv[1] + "/loader.py"}
from mlretrain_factory import load_airflow_dags
load_airflow_dags(namespace)
dags = [value for name, value in namespace.items() if not name.startswith("__")]
loaded = sorted({name.partition(".")[0] for name in sys.modules})
from airflow.serialization.serialized_objects import DagSerialization
# Airflow itself hashes sorted keys; their order is that of a set in it.
blob = json.dumps([DagSerialization.to_dict(dag) for dag in dags], sort_keys=True)
print(json.dumps({"dags": len(dags), "modules": loaded, "blob": blob}))
"""


def folder_of(root: Path, pipelines: int, text: str | None = None) -> Path:
    written = text or (EVERYTHING / "pipeline.yaml").read_text()
    root.mkdir(exist_ok=True)
    for name in ("stacks", "suite.json"):
        (root / name).symlink_to(EVERYTHING / name)
    for i in range(pipelines):
        name = f"p{i:03}"
        (root / f"{name}.pipeline.yaml").write_text(written.replace('"everything"', f'"{name}"'))
    return root


def load(folder: Path, **environ: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)],
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def as_json(reverse: bool) -> str:
    from mlretrain_factory.source_map import read_source

    data = read_source(EVERYTHING / "pipeline.yaml").data
    return json.dumps(dict(sorted(data.items(), reverse=reverse)))


def test_300_pipelines_import_nothing_heavy(tmp_path: Path) -> None:
    found = load(folder_of(tmp_path / "dags", 300, as_json(reverse=False)))
    assert found["dags"] == 900
    assert sorted(set(HEAVY) & set(found["modules"])) == []


def test_the_same_pipeline_has_the_same_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "dags", 1, as_json(reverse=False))
    first = load(folder, PYTHONHASHSEED="1")
    (folder / "p000.pipeline.yaml").write_text(as_json(reverse=True).replace('"everything"', '"p000"'))
    second = load(folder, PYTHONHASHSEED="2")
    assert first["blob"] == second["blob"]
