"""The smoke test as a pipeline runs it: real MLflow, real training, an environment made from PyPI."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.errors import InvalidInput
from mlretrain.ledger import Ledger
from mlretrain.ports import JobSpec, Traffic
from mlretrain.runtime.store import open_store, read_uri
from mlretrain.serving.target import LocalTarget
from mlretrain_provider.backends.local import LocalBackend
from mlretrain_provider.card import publish_card
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.operators.registry import RegisterModelOperator
from mlretrain_provider.operators.smoke import SmokeTestOperator
from mlretrain_provider.operators.training import TrainModelOperator
from tests.fakes.airflow_harness import DagRunHarness
from tests.fixtures_mlflow import mlflow_server
from tests.fixtures_serving import model_server

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.timeout(900)]

USER_CODE = """
import mlflow
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def far(rows):
    return rows[["distance", "hour"]] / [1000, 24]

def far_and_loud(rows):
    import cowsay  # said nowhere but here
    return far(rows)

def train(ctx, function=far):
    frame = ctx.train_frame()
    model = make_pipeline(FunctionTransformer(function), LogisticRegression())
    return model.fit(frame[ctx.features], frame[ctx.target])

def forgetful(ctx):
    return train(ctx, far_and_loud)

def of_mars(ctx):
    model, rows = train(ctx), ctx.train_frame()[ctx.features]
    return mlflow.sklearn.log_model(
        model,
        name="model",
        serialization_format="cloudpickle",
        input_example=rows.head(2),
        signature=infer_signature(rows, model.predict(rows)),
        pip_requirements=["scikit-learn", "holidays-of-mars==1"],
    )
"""


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An MLflow server, and where it keeps artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder) as uri:
        yield uri, folder / "artifacts"


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def run(
    tmp_path: Path, tracking: tuple[str, Path], environments: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., DagRunHarness]:
    """A run of train, register, smoke_test for an entrypoint; tasks in the worker's own process."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "mlflow", "host": tracking[0]})
    )
    (tmp_path / "trainings.py").write_text(textwrap.dedent(USER_CODE))
    random, n = np.random.default_rng(3), 2000
    rows = pd.DataFrame({"distance": random.uniform(100, 3000, n), "hour": random.integers(0, 24, n)})
    rows["late"] = (rows["distance"] / 3000 + rows["hour"] / 24 + random.normal(0, 0.3, n) > 1).astype(int)
    rows.to_parquet(tmp_path / "data.parquet")
    dataset_uri = (tmp_path / "data.json").as_uri()
    write_dataset(resolve((tmp_path / "data.parquet").as_uri()), dataset_uri)
    options = {"state_dir": str(tmp_path / "jobs"), "environments_dir": str(environments)}

    def make(
        entrypoint: str, *, requirements: list[str] | None = None, mode: Literal["clean", "job"] = "clean"
    ) -> DagRunHarness:
        common = {
            "pipeline": f"late-{entrypoint}",
            "artifacts_uri": (tmp_path / "store").as_uri(),
            "backend_options": options,
            "requirements": requirements,
            "env": {"MLRETRAIN_CODE_PATHS": str(tmp_path)},
        }
        with DAG(f"late-{entrypoint}.retrain", default_args=common) as dag:
            train = TrainModelOperator(
                task_id="train",
                dataset={"dataset_uri": dataset_uri},
                target="late",
                entrypoint=f"trainings:{entrypoint}",
            )
            register = RegisterModelOperator(task_id="register", training=train.output)
            SmokeTestOperator(task_id="smoke_test", training=train.output, version=register.output, mode=mode)
        harness = DagRunHarness(dag)
        for task in ("train", "register"):
            assert harness.run(task).state == "success"
        return harness

    return make


def smoke(harness: DagRunHarness, **attempt: Any) -> dict[str, Any]:
    outcome = harness.run("smoke_test", **attempt)
    assert outcome.state == "success"
    print(json.dumps({key: outcome.result[key] for key in ("reason", "environment", "seconds")}))
    return dict(outcome.result)


def outcomes(harness: DagRunHarness) -> list[tuple[str | None, str | None]]:
    operator: Any = harness.dag.get_task("smoke_test")
    ledger = Ledger(open_store(operator.artifacts_uri), operator.pipeline)
    return [(event.version, event.outcome) for event in ledger.events("tested")]


def test_a_model_passes_in_an_environment_of_its_own(
    run: Callable[..., DagRunHarness], environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = run("train")
    result = smoke(harness)
    assert result["passed"], result["checks"]
    assert result["environment"] == "clean"
    assert [each["name"] for each in result["checks"]][-1] == "same answer"
    assert outcomes(harness) == [("1", "passed")]
    (link,) = (each for each in environments.iterdir() if each.is_symlink())
    monkeypatch.setattr(LocalBackend, "submit", _nobody)
    assert smoke(harness, try_number=2) == result, "a second try finds the first one's result"
    assert link.exists()


def test_a_job_elsewhere_makes_a_clean_environment_of_the_requirements_alone(
    run: Callable[..., DagRunHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = run("train")
    monkeypatch.setattr(LocalBackend, "remote", True)  # what a job in a cluster is told
    monkeypatch.setattr(harness.dag.get_task("smoke_test"), "deferrable", False)
    monkeypatch.setattr(harness.dag.get_task("smoke_test"), "poll_s", 0.1)
    result = smoke(harness)
    assert (result["passed"], result["environment"]) == (True, "clean"), result["checks"]
    assert result["seconds"]["install"] > 0


def _nobody(self: LocalBackend, spec: JobSpec) -> str:
    raise AssertionError(spec.name)


def test_a_package_that_training_had_and_the_model_does_not_name_is_found(
    run: Callable[..., DagRunHarness],
) -> None:
    result = smoke(run("forgetful", requirements=["cowsay==6.1", "scikit-learn"]))
    assert result["passed"] is False
    assert result["reason"] == (
        "the model does not answer its input example: ModuleNotFoundError: No module named 'cowsay'"
    )


def test_a_requirement_that_does_not_exist_is_found(run: Callable[..., DagRunHarness]) -> None:
    harness = run("of_mars")
    result = smoke(harness)
    assert result["passed"] is False
    assert result["reason"].startswith(
        "the model's requirements cannot be installed: Because holidays-of-mars"
    )
    assert outcomes(harness) == [("1", "failed")]
    assert json.loads(read_uri(result["checks_uri"])) == result["checks"]


def test_a_requirement_that_the_jobs_own_environment_lacks_is_found(
    run: Callable[..., DagRunHarness],
) -> None:
    result = smoke(run("of_mars", mode="job"))
    assert (result["passed"], result["environment"]) == (False, "job")
    assert result["reason"] == (
        "the environment does not have what the model requires: holidays-of-mars==1 (not installed)"
    )


def test_a_tampered_version_is_found_and_not_served(
    run: Callable[..., DagRunHarness], tracking: tuple[str, Path], tmp_path: Path
) -> None:
    harness = run("train", mode="job")
    operator: Any = harness.dag.get_task("smoke_test")
    version = MLflowHook().registry().version(operator.pipeline, "@challenger")
    assert version is not None
    everything = Traffic(weights={version.version: 100})
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
    with model_server(tmp_path / "before", tracking[0]) as server:
        LocalTarget(server.url).apply(operator.pipeline, everything)
        assert LocalTarget(server.url).current(operator.pipeline).served == everything.served

    training = harness.supervisor.xcoms["train", "return_value"]
    model_id = training["model_uri"].removeprefix("models:/")
    (file,) = tracking[1].rglob(f"{model_id}/**/model.pkl")
    file.write_bytes(file.read_bytes() + b"\0")
    with (
        model_server(tmp_path / "after", tracking[0]) as server,
        pytest.raises(InvalidInput, match="the model is not what was registered: other files"),
    ):
        LocalTarget(server.url).apply(operator.pipeline, everything)

    result = smoke(harness)
    assert result["passed"] is False
    assert result["reason"].startswith("the model's files changed since training")
    assert [each["name"] for each in result["checks"]] == ["files"]
    assert version.tags["mlretrain.model_sha256"].startswith(result["checks"][0]["required"])

    uri = publish_card(operator, version.version)
    assert "failed: the model's files changed since training" in read_uri(uri).decode()
    rest = MLflowHook().rest
    known = {"name": operator.pipeline, "version": version.version}
    description = rest.get("model-versions/get", known)["model_version"]["description"]
    assert description.startswith(f"# {operator.pipeline}, version {version.version}\n\nIt has never been")
    files = rest.get("artifacts/list", {"run_id": version.run_id or ""})["files"]
    assert "card.md" in [each["path"] for each in files]
