"""The smoke test's task: which environment it asks for, and that a model that fails is an ordinary result."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.conduct import unmet
from mlretrain.errors import ConfigError, TransientError, UnmetRequirements
from mlretrain.governance import Policy
from mlretrain.ports import JobStatus
from mlretrain.runtime.contract import parse_request
from mlretrain.runtime.fingerprint import MODEL_TAG
from mlretrain.runtime.store import read_uri
from mlretrain_provider.operators.smoke import SmokeTestOperator
from tests.fakes.airflow_harness import DagRunHarness

NEEDS = ["mlflow==3.17.2", "scikit-learn==1.9.1"]
TRAINING = {
    "model_uri": "models:/m-1",
    "mlflow_run_id": "mlflow-run-1",
    "model_requirements": NEEDS,
    "model_sha256": "a" * 64,
    "signature_sha256": "b" * 64,
    "example_uri": "file:///example.json",
}
CHECKS = [{"name": "files", "passed": True}]


@pytest.fixture
def passed(world: Any) -> None:
    world.store.write("checks.json", json.dumps(CHECKS).encode())
    world.backend.work["smoke"] = lambda request: {
        "passed": True,
        "reason": "it answers",
        "environment": request.config["environment"],
        "checks": CHECKS,
        "checks_uri": f"{world.artifacts_uri}/checks.json",
        "seconds": {"load": 1.0},
    }


def dag_of(world: Any, **arguments: Any) -> DAG:
    dag: DAG = world.dag()
    with dag:
        SmokeTestOperator(task_id="smoke_test", **({"training": TRAINING} | arguments))
    return dag


def request(world: Any) -> Any:
    uri = world.backend.jobs[-1].request_uri
    return parse_request(read_uri(uri), uri)


@pytest.mark.usefixtures("passed")
def test_the_job_gets_the_models_requirements_and_no_others(world: Any) -> None:
    result = DagRunHarness(dag_of(world, requirements=["polars"])).run("smoke_test").result
    assert (result["passed"], result["environment"], result["version"]) == (True, "clean", None)
    assert world.backend.jobs[0].requirements == tuple(NEEDS)
    assert request(world).config == {
        "model_uri": "models:/m-1",
        "requirements": NEEDS,
        "model_sha256": "a" * 64,
        "signature_sha256": "b" * 64,
        "example_uri": "file:///example.json",
        "environment": "clean",
        "install": False,
        "tolerance": 1e-6,
    }


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("arguments", [{"mode": "job"}, {"training": {**TRAINING, "model_requirements": []}}])
def test_the_jobs_own_environment_is_asked(world: Any, arguments: dict[str, Any], remote: bool) -> None:
    world.backend.remote = remote
    dag = dag_of(world, requirements=["polars"], deferrable=False, **arguments)
    assert DagRunHarness(dag).run("smoke_test").result["environment"] == "job"
    assert request(world).config["install"] is False
    assert world.backend.jobs[0].requirements == ("polars",)


@pytest.mark.usefixtures("passed")
def test_a_job_elsewhere_makes_the_environment_itself(world: Any) -> None:
    world.backend.remote = True
    dag = dag_of(world, requirements=["polars"], deferrable=False)
    assert DagRunHarness(dag).run("smoke_test").result["environment"] == "clean"
    assert request(world).config["install"] is True
    assert world.backend.jobs[0].requirements == ("polars",), "its image must have what the pipeline asks for"


@pytest.mark.usefixtures("passed")
def test_a_registered_version_is_tested_as_its_tags_say(world: Any) -> None:
    made = world.registry.register(
        "churn", "models:/m-1", "mlflow-run-1", {MODEL_TAG: "c" * 64, "owner": "ann"}
    )
    run = DagRunHarness(dag_of(world, version={"version": made.version}))
    assert run.run("smoke_test").result["version"] == made.version
    assert request(world).config["model_uri"] == "models:/churn/1"
    assert request(world).frozen == {MODEL_TAG: "c" * 64}
    assert run.run("smoke_test", try_number=2).state == "success"
    (event,) = world.ledger.events("tested")
    assert (event.version, event.outcome, event.reason) == ("1", "passed", "it answers")
    assert event.evidence["checks_uri"].endswith("checks.json")
    assert "checks" not in event.evidence


@pytest.mark.usefixtures("passed")
def test_only_a_test_that_was_passed_lets_the_version_on(world: Any) -> None:
    made = world.registry.register("churn", "models:/m-1", "mlflow-run-1", {})
    run = DagRunHarness(dag_of(world, version=made.version))
    operator: Any = run.dag.get_task("smoke_test")
    policy = Policy(name="task smoke_test", require=operator.demanded())

    def missing() -> list[str]:
        found = unmet([policy], world.ledger.of_run("run-1"), version=made.version)
        return [each.dotted for each in found]

    assert missing() == ["promote.smoke_test"]
    run.run("smoke_test")
    assert missing() == []


def test_a_version_that_is_not_there_is_no_result(world: Any) -> None:
    assert DagRunHarness(dag_of(world, version="9")).run("smoke_test").state == "failed"


UV = """The installer said:
Using Python 3.11.7 environment at: /tmp/x
error: No solution found when resolving dependencies
  cause: Because holidays-of-mars was not found in the package registry and you require
         holidays-of-mars==1, we can conclude that your requirements are unsatisfiable."""
PIP = """The installer said:
ERROR: Could not find a version that satisfies the requirement holidays-of-mars==1 (from versions: none)
ERROR: No matching distribution found for holidays-of-mars==1"""


@pytest.mark.parametrize(
    ("remedy", "reason"),
    [
        (UV, "Because holidays-of-mars was not found in the package registry and you require "),
        (PIP, "No matching distribution found for holidays-of-mars==1"),
        ("Options are for variables.", "not a package: '-c constraints.txt'"),
    ],
)
def test_requirements_that_cannot_be_installed_fail_the_model(
    world: Any, monkeypatch: pytest.MonkeyPatch, remedy: str, reason: str
) -> None:
    def submit(spec: Any) -> str:
        raise UnmetRequirements("not a package", found="'-c constraints.txt'", remedy=remedy)

    monkeypatch.setattr(world.backend, "submit", submit)
    run = DagRunHarness(dag_of(world))
    result = run.run("smoke_test").result
    assert result["passed"] is False
    assert result["reason"].startswith(f"the model's requirements cannot be installed: {reason}")
    assert "\n" not in result["reason"]
    assert [each["name"] for each in result["checks"]] == ["requirements"]
    (event,) = world.ledger.events("tested")
    assert event.outcome == "failed"


@pytest.mark.parametrize("error", [TransientError("the index does not answer"), ConfigError("no place")])
def test_what_is_not_the_models_fault_fails_the_task(
    world: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def submit(spec: Any) -> str:
        raise error

    monkeypatch.setattr(world.backend, "submit", submit)
    assert DagRunHarness(dag_of(world)).run("smoke_test").state == "failed"
    assert world.ledger.events("tested") == ()


def test_a_job_that_fails_fails_the_task(world: Any) -> None:
    world.backend.endings = [JobStatus(state="failed", exit_code=20, reason="MLflow did not answer")]
    assert DagRunHarness(dag_of(world)).run("smoke_test", retries_left=True).state == "up_for_retry"


@pytest.mark.usefixtures("passed")
def test_a_run_that_has_ended_keeps_its_result(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = DagRunHarness(dag_of(world))
    operator: Any = run.dag.get_task("smoke_test")
    first = run.run("smoke_test").result
    monkeypatch.setattr(type(operator), "settled", lambda self, run: object())
    assert run.run("smoke_test", try_number=2).result == first
    assert len(world.backend.jobs) == 1
