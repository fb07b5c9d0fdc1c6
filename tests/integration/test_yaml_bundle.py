"""YamlDagBundle in a real Airflow: its dag processor, its database, good and broken files side by side."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

STACK = """\
version: 1
backend: local
artifacts_uri: file:///tmp/artifacts
"""
PIPELINE = """\
version: 1
pipeline: {name}
stack: local
data:
  training: {{uri: "file:///tmp/{name}/*.parquet"}}
  target: late
train: {{entrypoint: "code:train"}}
evaluate: {{metrics: [roc_auc]}}
promote: {{gates: [{{metric: roc_auc, min: 0.5}}]}}
"""
BROKEN = {
    "key.pipeline.yaml": PIPELINE.format(name="key").replace("target", "targt"),
    "tab.pipeline.yaml": "version: 1\n\tpipeline: tab\n",
    "empty.pipeline.yaml": "",
    "sub/tag.pipeline.yaml": "version: !!python/object:os.system 1\n",
}


class Airflow:
    """An Airflow home whose only bundle is a folder of YAML files."""

    def __init__(self, root: Path) -> None:
        self.source = root / "dags"
        self.home = root / "home"
        (self.source / "sub").mkdir(parents=True)
        (self.source / "stacks").mkdir()
        (self.source / "stacks" / "local.yaml").write_text(STACK)
        bundle = {
            "name": "pipelines",
            "classpath": "mlretrain_provider.bundles.yaml.YamlDagBundle",
            "kwargs": {"path": str(self.source)},
        }
        self.env = {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(root / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "0",
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "0",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        self.run("db", "migrate")

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.source / name).write_text(text)

    def parse(self) -> None:
        self.run("dag-processor", "--num-runs", "2")

    def run(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "airflow", *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def ask(self, query: str) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            return database.execute(query).fetchall()

    def shown(self) -> set[str]:
        return {name for (name,) in self.ask("select dag_id from dag where not is_stale")}

    def errors(self) -> dict[str, str]:
        return {str(file): text for file, text in self.ask("select filename, stacktrace from import_error")}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


def dags_of(*pipelines: str) -> set[str]:
    return {f"{name}.{kind}" for name in pipelines for kind in ("retrain", "rollback")}


def test_a_folder_of_yaml_is_all_it_takes(airflow: Airflow) -> None:
    good = {
        name: PIPELINE.format(name=Path(name).name.partition(".")[0])
        for name in ("one.pipeline.yaml", "two.pipeline.yaml", "sub/three.pipeline.yaml")
    }
    airflow.write(good | BROKEN)
    airflow.parse()

    assert airflow.shown() == dags_of("one", "two", "three")
    errors = airflow.errors()
    assert set(errors) == {f"{name}.py" for name in BROKEN}
    for name in BROKEN:
        assert re.search(rf"{re.escape(str(airflow.source / name))}:\d+:\d+: .+", errors[f"{name}.py"])

    sources = airflow.ask("select dag_id, fileloc, relative_fileloc from dag where dag_id = 'three.retrain'")
    assert sources == [
        ("three.retrain", str(airflow.source / "sub/three.pipeline.yaml"), "sub/three.pipeline.yaml.py")
    ]
    codes = airflow.ask("select source_code from dag_code where dag_id = 'three.retrain'")
    assert codes == [(good["sub/three.pipeline.yaml"],)]

    airflow.write({"key.pipeline.yaml": PIPELINE.format(name="key"), "two.pipeline.yaml": "version: 2\n"})
    for gone in ("one.pipeline.yaml", "tab.pipeline.yaml"):
        (airflow.source / gone).unlink()
    airflow.parse()

    assert airflow.shown() == dags_of("three", "key")
    assert set(airflow.errors()) == {
        "two.pipeline.yaml.py",
        "empty.pipeline.yaml.py",
        "sub/tag.pipeline.yaml.py",
    }
