"""One trial with real MLflow and scikit-learn: which rows it sees, how it is scored, what it leaves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlretrain.data.split import Holdout
from mlretrain.errors import ConfigError, ContractError, MlretrainError, UserCodeError
from mlretrain.steps import train, trial
from mlretrain.steps.trial import Config

from .conftest import MakeContext, MakeDataset

CODE = "flight_models"
LAST_FIFTH = Holdout(by="time", fraction=0.2)
SOME_THIRD = Holdout(by="random", fraction=0.3)


@pytest.fixture
def given(make_dataset: MakeDataset, flights: pd.DataFrame) -> dict[str, Any]:
    return {
        "dataset_uri": make_dataset(flights, "time"),
        "target": "late",
        "features_exclude": ("flight_id",),
        "holdout": LAST_FIFTH,
    }


@pytest.fixture
def run(
    make_context: MakeContext, given: dict[str, Any], tracking_env: dict[str, str], mlflow_run: str
) -> Any:
    def run_trial(**config: Any) -> dict[str, Any]:
        ctx = make_context("trial", env=tracking_env, mlflow_run_id=mlflow_run)
        return trial.run(Config(**({"metric": "roc_auc"} | given | config)), ctx)

    return run_trial


def seen() -> pd.DataFrame:
    frame: pd.DataFrame = sys.modules[CODE].SEEN["frame"]
    return frame


def scored_rows(monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """Filled with the validation rows of each trial from now on."""
    frames: list[pd.DataFrame] = []

    def note(model_uri: str, config: Config, data: Any) -> float:
        frames.append(data.validation)
        return 0.5

    monkeypatch.setattr(trial, "_score", note)
    return frames


def test_a_trial_is_scored_on_the_latest_training_rows(run: Any, flights: pd.DataFrame) -> None:
    result = run(entrypoint=f"{CODE}:train", params={"C": 0.5}, number=3)
    training, validation = flights.iloc[:256], flights.iloc[256:320]

    assert seen()["distance"].tolist() == training["distance"].tolist()
    assert (result["rows"], result["validation_rows"], result["number"]) == (256, 64, 3)
    code = sys.modules[CODE]
    model = code._pipeline(code.SEEN["context"], code.LogisticRegression(C=0.5))
    expected = roc_auc_score(validation["late"], model.predict_proba(validation)[:, 1])
    assert result["value"] == pytest.approx(expected)


def test_numbers_are_logged_and_no_model(run: Any, tracking_env: dict[str, str], mlflow_run: str) -> None:
    result = run(entrypoint=f"{CODE}:train", params={"C": 0.5})
    client = mlflow.MlflowClient(tracking_env["MLFLOW_TRACKING_URI"])
    data = client.get_run(mlflow_run).data
    assert data.params == {"C": "0.5"}
    assert data.metrics == result["metrics"] == {"depth": 3.0, "validation_roc_auc": result["value"]}
    experiment = client.get_run(mlflow_run).info.experiment_id
    models = client.search_logged_models([experiment], filter_string=f"source_run_id = '{mlflow_run}'")
    assert list(models) == []
    assert client.list_artifacts(mlflow_run) == []


@pytest.mark.parametrize(
    ("holdout", "time_column"), [(LAST_FIFTH, "time"), (SOME_THIRD, "time"), (SOME_THIRD, None)]
)
def test_no_trial_sees_a_row_of_the_frozen_holdout(
    make_context: MakeContext,
    make_dataset: MakeDataset,
    flights: pd.DataFrame,
    given: dict[str, Any],
    tracking_env: dict[str, str],
    mlflow_run: str,
    monkeypatch: pytest.MonkeyPatch,
    holdout: Holdout,
    time_column: str | None,
) -> None:
    scored = scored_rows(monkeypatch)
    recipe = given | {
        "dataset_uri": make_dataset(flights, time_column),
        "features_exclude": ("time",),
        "holdout": holdout,
        "entrypoint": f"{CODE}:train",
    }
    ctx = make_context("trial", env=tracking_env, mlflow_run_id=mlflow_run)
    trial.run(Config(**recipe, metric="roc_auc"), ctx)
    trained, validated = set(seen()["flight_id"]), set(scored[0]["flight_id"])
    ctx = make_context("train", env=tracking_env, mlflow_run_id=mlflow_run)
    result = train.run(train.Config(**recipe), ctx)
    held_out = set(pd.read_parquet(result["holdout_uri"].removeprefix("file://"))["flight_id"])

    assert trained | validated | held_out == set(flights["flight_id"])
    assert len(trained) + len(validated) + len(held_out) == len(flights)
    assert trained | validated == set(seen()["flight_id"])
    share = len(validated) / len(trained | validated)
    assert share == pytest.approx(0.2, abs=0.06)


def test_every_trial_is_scored_on_the_same_rows(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = scored_rows(monkeypatch)
    run(entrypoint=f"{CODE}:train", params={"C": 0.5}, number=0)
    run(entrypoint=f"{CODE}:train", params={"C": 5.0}, number=1)
    pd.testing.assert_frame_equal(scored[0], scored[1])


@pytest.mark.parametrize(
    ("entrypoint", "metric", "method"),
    [
        ("train", "log_loss", "predict"),
        ("train", "accuracy", "predict_proba"),
        ("regress", "rmse", "predict"),
        ("constant", "brier", "predict"),
        ("train_own_run", "f1", "predict"),
    ],
)
def test_whatever_can_be_kept_can_be_scored(run: Any, entrypoint: str, metric: str, method: str) -> None:
    result = run(entrypoint=f"{CODE}:{entrypoint}", metric=metric, prediction_method=method)
    assert 0 < result["value"] < 2


def test_a_metric_of_the_users_own_is_the_one_that_the_code_logged(run: Any) -> None:
    assert run(entrypoint=f"{CODE}:train", metric="depth")["value"] == 3


SCRIPT = """
import json, os
import mlflow, pandas as pd
from sklearn.linear_model import LogisticRegression
rows = pd.read_parquet(os.environ["MLRETRAIN_TRAIN_DATA"])
unseen = pd.read_parquet(os.environ["MLRETRAIN_VALIDATION_DATA"])
params = json.loads(os.environ["MLRETRAIN_PARAMS"])
kept = dict(signature=mlflow.models.infer_signature(rows[["distance"]]), pip_requirements=["scikit-learn"])
kept["serialization_format"] = "cloudpickle"
with mlflow.start_run() as run:
    model = LogisticRegression(**params).fit(rows[["distance"]], rows[os.environ["MLRETRAIN_TARGET"]])
"""


@pytest.mark.parametrize(
    ("left", "value"),
    [
        ('mlflow.sklearn.log_model(model, name="model", **kept)', None),
        ('mlflow.log_metric(os.environ["MLRETRAIN_METRIC"], len(rows) / len(unseen))', 4.0),
    ],
)
def test_a_script_is_scored_by_its_model_or_else_by_what_it_logged(
    run: Any, tmp_path: Path, flights: pd.DataFrame, left: str, value: float | None
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT + f"    {left}\n")
    result = run(command=(sys.executable, str(script)), params={"C": 2.0})
    unseen = flights.iloc[256:320]
    expected = roc_auc_score(unseen["late"], unseen["distance"]) if value is None else value
    assert result["value"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"entrypoint": f"{CODE}:fails"}, UserCodeError, r"models.py:\d+: KeyError: 'dep_dleay'"),
        ({"entrypoint": f"{CODE}:trian"}, ConfigError, rf"Did you mean {CODE}:train\?"),
        (
            {"entrypoint": f"{CODE}:train", "metric": "profit"},
            UserCodeError,
            "no number as the metric 'profit'",
        ),
        ({"command": ("true",)}, UserCodeError, "logged no model and no metric 'roc_auc'"),
        ({}, ConfigError, "either an entrypoint or a command"),
    ],
)
def test_what_is_wrong_is_said(
    run: Any, config: dict[str, Any], error: type[MlretrainError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(**config)


def test_a_metric_without_a_value_is_the_trials_failure(
    run: Any, make_dataset: MakeDataset, flights: pd.DataFrame
) -> None:
    one_class = flights.assign(late=flights["late"].where(flights.index < 256, 1))
    with pytest.raises(
        UserCodeError, match=r"roc_auc is not a number.*1 distinct values of 'late' in 64 rows"
    ):
        run(dataset_uri=make_dataset(one_class, "time"), entrypoint=f"{CODE}:train")


def test_a_request_names_its_run(make_context: MakeContext, given: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="names no MLflow run"):
        trial.run(Config(**given, entrypoint=f"{CODE}:train", metric="f1"), make_context("trial"))
