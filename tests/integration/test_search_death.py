"""A search whose worker dies half way: real worker processes, local jobs, MLflow and scikit-learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.store import open_store
from mlretrain_provider.space import read_space
from mlretrain_provider.study import Study
from mlretrain_provider.trials import TrialLog
from tests.fixtures_data import writer
from tests.fixtures_mlflow import mlflow_server

pytestmark = pytest.mark.integration

TRIALS, AT_ONCE = 6, 2
WAIT_S = 120.0
CODE = """
import os
from pathlib import Path
from sklearn.tree import DecisionTreeClassifier

def train(ctx):
    with open(os.environ["FITTED"], "a") as file:
        file.write(f"{os.environ['MLRETRAIN_REQUEST_URI']}\\n")
    frame = ctx.train_frame()
    model = DecisionTreeClassifier(random_state=ctx.seed % 2**32, **ctx.params)
    return model.fit(frame[ctx.features], frame[ctx.target])
"""
WORKER = f"""
import json, sys
from pathlib import Path
from airflow.sdk import DAG
from mlretrain_provider.operators.training import TrainModelOperator
from mlretrain_provider.operators.tuning import TuneModelOperator
from tests.fakes.airflow_harness import DagRunHarness

home = Path(sys.argv[1])
with DAG("churn.retrain", default_args=dict(
    pipeline="churn", artifacts_uri=f"file://{{home}}/artifacts", code_root=str(home / "code"),
    backend_options={{"state_dir": str(home / "jobs")}}, env={{"FITTED": str(home / "fitted")}}, retries=1,
    dataset=f"file://{{home}}/dataset.json", target="late", entrypoint="tiny:train",
    hyperparameters={{"min_samples_leaf": 2}}, time_column="at", prediction_method="predict_proba",
)) as dag:
    tune = TuneModelOperator(
        task_id="tune", sampler="tpe", trials={TRIALS}, parallelism={AT_ONCE}, metric="log_loss",
        space={{"max_depth": {{"int": [1, 9]}}, "criterion": {{"choice": ["gini", "entropy"]}}}},
    )
    TrainModelOperator(task_id="train", tuning=tune.output)
run = DagRunHarness(dag)
outcome = run.run("tune", retries_left=True)
trained = run.run("train").result if outcome.state == "success" else None
(home / "result.json").write_text(json.dumps({{"tune": outcome.result, "train": trained}}))
"""
ROWS = """
    SELECT i AS id, (i * 7919 % 1000) / 10.0 AS distance, i % 7 AS weekday,
        CAST((i * 7919 % 1000) > 600 OR i % 7 = 3 AS INTEGER) AS late,
        TIMESTAMP '2013-01-01' + i * INTERVAL 1 HOUR AS at
    FROM range(600) AS rows(i)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = writer(tmp_path)("rows.parquet", query=ROWS)
    write_dataset(resolve(path.as_uri(), time_column="at"), (tmp_path / "dataset.json").as_uri())
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "tiny.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    with mlflow_server() as uri:
        yield uri


@pytest.fixture
def worker(home: Path, server: str) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    connection = json.dumps({"conn_type": "mlflow", "host": server})

    def start() -> subprocess.Popen[bytes]:
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(home)],
                env={**os.environ, "AIRFLOW_CONN_MLFLOW_DEFAULT": connection},
                cwd=Path(__file__).parents[2],
            )
        )
        return running[-1]

    yield start
    for each in running:
        each.kill()
        each.wait()


def log_of(home: Path) -> TrialLog:
    found = [path.parent for path in (home / "artifacts" / "churn" / "runs").glob("*/tune-*/request.json")]
    return TrialLog(store_of(home), found[0].relative_to(home / "artifacts").as_posix())


def store_of(home: Path) -> ArtifactStore:
    return open_store((home / "artifacts").as_uri())


def answered(home: Path) -> int:
    folders = (home / "artifacts").glob("churn/runs/*/tune-*/trials")
    return sum(1 for folder in folders for _ in folder.glob("*.answered-*.json"))


def test_a_search_killed_half_way_goes_on_where_it_was(
    home: Path, server: str, worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    first = worker()
    deadline = time.monotonic() + WAIT_S
    while answered(home) < TRIALS // 2:
        assert first.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it has not come half way"
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = log_of(home).trials
    assert TRIALS // 2 <= len(before) <= TRIALS
    assert not (home / "result.json").exists()

    assert worker().wait(WAIT_S) == 0
    result = json.loads((home / "result.json").read_text())
    found, trained = result["tune"], result["train"]
    trials = log_of(home).trials
    assert [each.params for each in trials[: len(before)]] == [each.params for each in before]
    assert [each.state for each in trials] == ["complete"] * TRIALS
    assert (found["trials"], found["failed"], found["direction"]) == (TRIALS, 0, "minimize")
    values = [each.value for each in trials if each.value is not None]
    assert found["best_value"] == min(values) == values[found["best_trial"]]
    fitted = (home / "fitted").read_text().split()
    assert len(fitted) == len(set(fitted)) == TRIALS + 1, "each trial once, and the final fit"
    _check_runs(server, found, trained)


def _check_runs(server: str, found: dict[str, Any], trained: dict[str, Any]) -> None:
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("churn")
    assert experiment is not None
    parent = found["mlflow_run_id"]
    nested = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {each.info.run_name for each in nested} == {f"trial {n}" for n in range(TRIALS)}
    assert {each.info.status for each in nested} == {"FINISHED"}
    logged = sorted(each.data.metrics["validation_log_loss"] for each in nested)
    assert logged[0] == pytest.approx(found["best_value"])
    assert {each.data.params["min_samples_leaf"] for each in nested} == {"2"}
    best = {name: str(value) for name, value in found["best_params"].items()}
    assert client.get_run(parent).data.params == best
    final = client.get_run(trained["mlflow_run_id"]).data
    assert final.params == {**best, "min_samples_leaf": "2"}
    assert final.tags["mlretrain.tune_run_id"] == parent
    models = client.search_logged_models([experiment.experiment_id])
    assert [each.model_uri for each in models] == [trained["model_uri"]]


def test_the_next_question_of_a_killed_search_is_the_one_it_would_have_asked(home: Path) -> None:
    """The log of one process is all that another one needs."""
    space = {"max_depth": {"int": [1, 9]}}
    study = Study(space=read_space(space), sampler="tpe", direction="minimize", seed=3)
    log = TrialLog(store_of(home), "tune")
    for number in range(15):
        trial = log.ask(study.ask(log.trials), f"r{number}")
        log.tell(trial, value=float(abs(trial.params["max_depth"] - 4)))
    script = (
        "import sys; from mlretrain.runtime.store import open_store;"
        "from mlretrain_provider.space import read_space; from mlretrain_provider.study import Study;"
        "from mlretrain_provider.trials import TrialLog;"
        f"study = Study(space=read_space({space!r}), sampler='tpe', direction='minimize', seed=3);"
        "print(study.ask(TrialLog(open_store(sys.argv[1]), 'tune').trials))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, (home / "artifacts").as_uri()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(study.ask(log.trials))
