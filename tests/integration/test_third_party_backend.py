"""A backend that somebody else made: really installed, held to the suite, and chosen by a word in a stack."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from airflow.sdk import DAG
from mlretrain_factory.loader import load_folder
from mlretrain_factory.to_airflow import load
from mlretrain_provider.operators.profiling import ProfileDataOperator
from tests.fakes.airflow_harness import DagRunHarness

home = Path(sys.argv[1])
faults = [str(each) for each in load_folder(home).errors]
(dag, *_) = [dag for dag in load(home / "churn.pipeline.yaml") if dag.dag_id == "churn.retrain"]
train = dag.get_task("train")
chosen = {"backend": train.backend, "backend_options": train.backend_options}
where = {"pipeline": "churn", "artifacts_uri": f"file://{home}/artifacts"}
with DAG("churn.monitor") as by_hand:
    ProfileDataOperator(task_id="profile", uri=f"file://{home}/rows.csv", reference=None, **where, **chosen)
ran = DagRunHarness(by_hand).run("profile")
print(json.dumps({**chosen, "faults": faults, "state": ran.state, "rows": ran.result["rows"]}))
"""
PIPELINE = """\
version: 1
pipeline: churn
stack: theirs
data:
  training: {uri: "file:///data/rows.parquet", time_column: at, window: 90d}
  target: y
train: {entrypoint: shop.train:train}
evaluate: {metrics: [roc_auc]}
promote: {gates: [{metric: roc_auc, min: 0.7}]}
"""

pytestmark = [pytest.mark.airflow, pytest.mark.integration]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages, with nothing in it but the third party's distribution."""
    source, target = tmp_path_factory.mktemp("source") / "dist", tmp_path_factory.mktemp("packages")
    shutil.copytree(ROOT / "tests/third_party_backend", source)
    uv = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    pip = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", target, source], check=True)
    assert list(target.glob("mlretrain_shell_backend-1.0.dist-info"))
    return target


def run(*command: str, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*((packages,) if packages else ()), ROOT)))}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "churn.pipeline.yaml").write_text(PIPELINE)
    stack = {
        "version": 1,
        "backend": "shell",
        "options": {"folder": f"{tmp_path}/jobs", "grace_s": 3},
        "artifacts_uri": f"file://{tmp_path}/artifacts",
        "serving": {"conn_id": "model_server"},
    }
    (tmp_path / "stacks/theirs.yaml").write_text(json.dumps(stack))
    (tmp_path / "rows.csv").write_text("x,colour\n" + "".join(f"{number},red\n" for number in range(10)))
    return tmp_path


def test_it_keeps_the_promises_of_the_conformance_suite(installed: Path) -> None:
    suite = ["tests/conformance/test_backend.py", "--backend", "shell", "-p", "no:cacheprovider"]
    ended = run(sys.executable, "-m", "pytest", *suite, packages=installed)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert re.search(r"^\d\d passed in", ended.stdout, re.MULTILINE), ended.stdout


def test_a_stack_names_it_and_its_jobs_run_there(installed: Path, pipelines: Path) -> None:
    ended = run(sys.executable, "-c", PROGRAM, str(pipelines), packages=installed)
    assert ended.returncode == 0, ended.stderr[-5000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == {
        "faults": [],
        "backend": "shell",
        "backend_options": {"folder": f"{pipelines}/jobs", "grace_s": 3},
        "state": "success",
        "rows": 10,
    }
    assert len([each for each in (pipelines / "jobs").iterdir() if (each / "exit").read_text() == "0\n"]) == 1


def test_without_it_the_stack_is_refused_at_its_line(pipelines: Path) -> None:
    lint = "import sys; from mlretrain_factory.cli import main; sys.exit(main(sys.argv[1:]))"
    refused = run(sys.executable, "-c", lint, "lint", str(pipelines))
    assert refused.returncode != 0
    assert "shell" in refused.stdout + refused.stderr
    assert "kubernetes, local, sagemaker" in refused.stdout + refused.stderr
