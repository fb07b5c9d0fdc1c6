"""The smoke test of models that training has packed: what passes, and the sentence about what does not."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlretrain.data.split import Holdout
from mlretrain.errors import TransientError, UnmetRequirements
from mlretrain.runtime.fingerprint import MODEL_TAG
from mlretrain.runtime.rehearsal import Rehearsal
from mlretrain.runtime.store import read_uri
from mlretrain.steps import smoke, train
from mlretrain.steps.smoke import Config, largest_difference

from .conftest import MakeContext, MakeDataset

CODE = "flight_models"


@pytest.fixture
def trained(
    make_context: MakeContext,
    make_dataset: MakeDataset,
    flights: pd.DataFrame,
    tracking_env: dict[str, str],
    mlflow_run: str,
) -> Callable[..., dict[str, Any]]:
    def run(entrypoint: str, **config: Any) -> dict[str, Any]:
        given = train.Config(
            dataset_uri=make_dataset(flights, "time"),
            target="late",
            entrypoint=f"{CODE}:{entrypoint}",
            features_exclude=("flight_id",),
            holdout=Holdout(by="time", fraction=0.2),
            **config,
        )
        return train.run(given, make_context("train", env=tracking_env, mlflow_run_id=mlflow_run))

    return run


@pytest.fixture
def tested(make_context: MakeContext, tracking_env: dict[str, str]) -> Callable[..., dict[str, Any]]:
    def run(training: dict[str, Any], *, tags: dict[str, str] | None = None, **config: Any) -> dict[str, Any]:
        given = {
            "model_uri": training["model_uri"],
            "requirements": tuple(training["model_requirements"]),
            "model_sha256": training["model_sha256"],
            "signature_sha256": training["signature_sha256"],
            "example_uri": training["example_uri"],
        }
        ctx = make_context("smoke", env=tracking_env | config.pop("env", {}), **(tags or {}))
        return smoke.run(Config(**(given | config)), ctx)

    return run


Run = Callable[..., dict[str, Any]]


def names(result: dict[str, Any]) -> list[str]:
    return [each.name for each in result["checks"]]


def test_training_tells_what_the_model_is(trained: Run) -> None:
    result = trained("train")
    assert len(result["model_sha256"]) == len(result["signature_sha256"]) == 64
    assert {each.split("==")[0] for each in result["model_requirements"]} >= {"mlflow", "scikit-learn"}
    assert result["model_bytes"] > 1000
    example = json.loads(read_uri(result["example_uri"]))
    assert (example["rows"], example["failure"]) == (3, None)
    assert len(example["answer"]) == 3


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_model_as_it_was_trained_passes(trained: Run, tested: Run, method: str) -> None:
    training = trained("train", prediction_method=method)
    result = tested(training, tags={MODEL_TAG: training["model_sha256"]})
    assert result["passed"], result["reason"]
    assert result["reason"] == (
        "the model is unchanged, and answers its input example in an environment of its own requirements "
        "as it did in training"
    )
    assert names(result) == [
        *("files", "signature", "requirements", "loading"),
        *("input example", "answer", "values", "output schema", "same answer"),
    ]
    assert result["seconds"].keys() >= {"download", "rehearsal", "load", "answer"}
    assert len(json.loads(read_uri(result["checks_uri"]))) == 9


def test_a_model_that_needs_the_pipelines_code_fails(trained: Run, tested: Run) -> None:
    result = tested(trained("train_own_run"))
    assert result["passed"] is False
    assert result["reason"] == (
        "the model cannot be loaded: ModuleNotFoundError: No module named 'flight_models'"
    )


def test_a_tampered_model_is_not_loaded(trained: Run, tested: Run) -> None:
    training = trained("train")
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=training["model_uri"]))
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    result = tested(training)
    assert result["passed"] is False
    assert result["reason"].startswith("the model's files changed since training: SHA-256 ")
    assert names(result) == ["files"]


def test_a_version_that_was_registered_with_other_files_fails(trained: Run, tested: Run) -> None:
    result = tested(trained("train"), tags={MODEL_TAG: "0" * 64})
    assert "required 000000000000 and" in result["reason"]


def test_an_environment_without_a_requirement_fails(trained: Run, tested: Run) -> None:
    result = tested(trained("train"), requirements=("scikit-learn", "holidays==0.1"), environment="job")
    assert result["reason"] == (
        "the environment does not have what the model requires: holidays==0.1 (not installed)"
    )


def test_another_answer_than_in_training_is_found(trained: Run, tested: Run, tmp_path: Path) -> None:
    training = trained("regress")
    known = json.loads(read_uri(training["example_uri"]))
    for factor, passed in ((1 + 1e-7, True), (1 + 1e-5, False)):
        file = tmp_path / "example.json"
        file.write_text(json.dumps(known | {"answer": [each * factor for each in known["answer"]]}))
        result = tested(training, example_uri=file.as_uri())
        assert result["passed"] is passed
    assert result["reason"].startswith("the model answers otherwise than where it was trained: [")


def test_what_training_did_not_say_is_not_asked(trained: Run, tested: Run) -> None:
    result = tested(trained("constant"), model_sha256="", signature_sha256="", example_uri=None)
    assert result["passed"], result["reason"]
    assert "same answer" not in names(result)


def test_where_the_job_can_install_the_environment_is_its_own(
    trained: Run, tested: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def install(target: Path, packages: list[str], named: list[str], env: dict[str, str]) -> Path:
        asked.append(packages)
        assert "UV_CONSTRAINT" not in env
        return Path(sys.executable)

    monkeypatch.setattr(smoke, "install", install)
    training = trained("train")
    result = tested(training, install=True, env={"UV_CONSTRAINT": "/etc/pins.txt"})
    assert (result["passed"], result["environment"]) == (True, "clean")
    assert asked == [training["model_requirements"]]
    assert "install" in result["seconds"]


def test_what_cannot_be_installed_fails_the_model(
    trained: Run, tested: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(*args: object) -> Path:
        raise UnmetRequirements("no", found="x", remedy="uv said\n  cause: there is no holidays==99")

    monkeypatch.setattr(smoke, "install", install)
    result = tested(trained("train"), install=True)
    assert (result["passed"], result["environment"]) == (False, "clean")
    assert result["reason"] == "the model's requirements cannot be installed: there is no holidays==99"
    assert names(result)[-1] == "requirements"


@pytest.mark.parametrize("extra", [(), ("holidays==0.1",)])
def test_without_an_index_the_jobs_environment_must_do(
    trained: Run, tested: Run, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    def install(*args: object) -> Path:
        raise TransientError("the index does not answer")

    monkeypatch.setattr(smoke, "install", install)
    training = trained("train")
    needs = (*training["model_requirements"], *extra)
    result = tested(training, install=True, requirements=needs)
    assert (result["passed"], result["environment"]) == (not extra, "job")


@pytest.mark.parametrize(
    ("came", "name", "reason"),
    [
        ({"loaded": True}, "input example", "the model has no input example: log it with input_example=…"),
        (
            {"rows": 3, "failure": "KeyError: 'x'"},
            "answer",
            "the model does not answer its input example: KeyError: 'x'",
        ),
        ({"rows": 3, "answered": 1}, "answer", "the model answers 1 rows where 3 are asked"),
        (
            {"rows": 2, "answered": 2, "answer": [[1.0, None], [None, 2]]},
            "values",
            "2 values of the answer are null or not finite",
        ),
        (
            {"rows": 1, "answered": 1, "answer": [1], "misfit": "int64 is no double"},
            "output schema",
            "the answer does not fit the model's signature: int64 is no double",
        ),
    ],
)
def test_how_a_model_fails(came: dict[str, Any], name: str, reason: str) -> None:
    checks = list(smoke._performed(Rehearsal(**{"loaded": True} | came)))
    failed = next(each for each in checks if not each.passed)
    assert failed.name == name
    assert smoke.outcome(checks, "job") == (False, reason)


@pytest.mark.parametrize(
    ("found", "known", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.2 / 2.2),
        ([1, 0], [1.0, 0.0], 0.0),
        ([1e-18, 1.0], [3e-18, 1.0], 2e-12),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ({"p": [0.5], "label": ["a"]}, {"p": [0.5], "label": ["b"]}, math.inf),
        ({"p": [0.5]}, {"q": [0.5]}, math.inf),
        ([True], [1], math.inf),
        ([1.0], [1.0, 2.0], math.inf),
        ([None], [1.0], math.inf),
        ("a", "a", 0.0),
    ],
)
def test_how_far_two_answers_are_apart(found: Any, known: Any, difference: float) -> None:
    assert largest_difference(found, known) == pytest.approx(difference)


answers = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(answers)
def test_an_answer_is_the_same_as_itself(answer: Any) -> None:
    assert largest_difference(answer, answer) == 0.0
