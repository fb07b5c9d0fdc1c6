"""Candidate and champion, trained by real steps, scored on the same held-out rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlretrain.data.split import Holdout
from mlretrain.drift.profile import DriftProfile
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.gates.promotion import Evaluation, Gate, judge
from mlretrain.importance import Importance
from mlretrain.performance.calibration import Calibration
from mlretrain.runtime.models import fit_to_schema
from mlretrain.runtime.store import read_uri
from mlretrain.steps import evaluate, train
from mlretrain.wire import from_wire

from .conftest import MakeContext, MakeDataset

CODE = "flight_models"
CLASSIFICATION = ("roc_auc", "log_loss", "accuracy")

Train = Callable[..., dict[str, Any]]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def train_model(
    make_context: MakeContext,
    make_dataset: MakeDataset,
    flights: pd.DataFrame,
    tracking_env: dict[str, str],
    mlflow_run: str,
) -> Train:
    def run(function: str = "train", frame: pd.DataFrame = flights, **config: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "dataset_uri": make_dataset(frame, "time"),
            "target": "late",
            "entrypoint": f"{CODE}:{function}",
            "features_exclude": ("flight_id",),
            "holdout": Holdout(by="time", fraction=0.25),
        }
        ctx = make_context("train", env=tracking_env, mlflow_run_id=mlflow_run)
        return train.run(train.Config(**(given | config)), ctx)

    return run


@pytest.fixture
def run(make_context: MakeContext, tracking_env: dict[str, str], mlflow_run: str) -> Run:
    def run_evaluate(
        trained: dict[str, Any], champion: dict[str, str] | None = None, **config: Any
    ) -> dict[str, Any]:
        given: dict[str, Any] = {
            "candidate_uri": trained["model_uri"],
            "holdout_uri": trained["holdout_uri"],
            "holdout_sha256": trained["holdout_sha256"],
            "target": "late",
            "features": tuple(trained["features"]),
            "metrics": CLASSIFICATION,
            "latency_rows": 2,
        }
        ctx = make_context("evaluate", env=tracking_env, mlflow_run_id=mlflow_run, champion=champion)
        return evaluate.run(evaluate.Config(**(given | config)), ctx)

    return run_evaluate


def _evaluation(result: dict[str, Any]) -> Evaluation:
    return from_wire(Evaluation, json.loads(read_uri(result["evaluation_uri"])))


def _version(trained: dict[str, Any]) -> dict[str, str]:
    version = mlflow.register_model(trained["model_uri"], "flight-delay")
    return {"version": str(version.version), "model_uri": f"models:/flight-delay/{version.version}"}


@pytest.mark.parametrize("prediction_method", ["predict", "predict_proba"])
def test_a_candidate_alone_is_scored(
    run: Run, train_model: Train, flights: pd.DataFrame, prediction_method: str
) -> None:
    trained = train_model(prediction_method=prediction_method)
    result = run(trained)

    held_out = flights.tail(100)
    model = mlflow.sklearn.load_model(trained["model_uri"])
    probability = model.predict_proba(held_out[trained["features"]])[:, 1]
    assert result["metrics"]["roc_auc"] == pytest.approx(roc_auc_score(held_out["late"], probability))
    assert result["metrics"]["accuracy"] == pytest.approx(((probability > 0.5) == held_out["late"]).mean())
    assert (result["rows"], result["champion_version"], result["champion_metrics"]) == (100, None, None)
    kept = mlflow.get_run(trained["mlflow_run_id"]).data.metrics
    assert kept["holdout_roc_auc"] == pytest.approx(result["metrics"]["roc_auc"])


def test_candidate_and_champion_meet_on_the_same_rows(run: Run, train_model: Train) -> None:
    champion, candidate = train_model(params={"C": 0.001}), train_model()
    result = run(candidate, _version(champion), confidence=0.9, slices=("carrier",))

    evaluation = _evaluation(result)
    assert evaluation.champion is not None
    assert evaluation.champion.holdout_sha256 == evaluation.candidate.holdout_sha256
    interval = evaluation.differences["roc_auc"]
    expected = result["metrics"]["roc_auc"] - result["champion_metrics"]["roc_auc"]
    assert interval.estimate == pytest.approx(expected)
    assert interval.low <= interval.estimate <= interval.high
    slices = evaluation.candidate.slices["carrier"]
    assert set(slices) == {"AA", "B6", "UA"}
    assert sum(each.n for each in slices.values()) == 100


def test_the_same_evaluation_twice_is_the_same(run: Run, train_model: Train) -> None:
    trained = train_model()
    champion = _version(trained)
    first, again = (_evaluation(run(trained, champion, confidence=0.9, latency_rows=0)) for _ in range(2))
    assert first == again
    assert first.differences["roc_auc"].estimate == 0


def test_what_their_use_costs_is_measured_side_by_side(run: Run, train_model: Train) -> None:
    champion, candidate = train_model(params={"C": 0.001}), train_model()
    result = run(candidate, _version(champion), latency_rows=100)

    for measured in (result["metrics"], result["champion_metrics"]):
        assert 0 < measured["latency_p50_ms"] <= measured["latency_p95_ms"] <= measured["latency_p99_ms"]
        assert 0.001 < measured["model_size_mb"] < 1
    kept = mlflow.get_run(candidate["mlflow_run_id"]).data.metrics
    assert kept["latency_p95_ms"] == pytest.approx(result["metrics"]["latency_p95_ms"])
    gates = [
        Gate(metric="latency_p95_ms", versus="champion", max_ratio=50),
        Gate(metric="model_size_mb", max=1),
    ]
    assert judge(gates, _evaluation(result)).verdict == "promote"


def test_a_model_that_takes_no_single_row_has_no_latency(run: Run, train_model: Train) -> None:
    champion = train_model()
    result = run(train_model("crowd"), _version(champion), metrics=("brier",), importance="none")
    assert "latency_p50_ms" not in result["metrics"]
    assert "model_size_mb" in result["metrics"]
    assert "latency_p50_ms" in result["champion_metrics"]
    assert judge([Gate(metric="latency_p50_ms", max=1e6)], _evaluation(result)).verdict == "reject"


def test_delongs_interval_is_there_for_the_gate_that_asks(run: Run, train_model: Train) -> None:
    champion, candidate = train_model(params={"C": 0.001}), train_model()
    evaluation = _evaluation(run(candidate, _version(champion), confidence=0.9, latency_rows=0))
    ours, other = evaluation.delong["roc_auc"], evaluation.differences["roc_auc"]
    assert ours.estimate == pytest.approx(other.estimate)
    assert ours.low < ours.estimate < ours.high
    assert ours.confidence == 0.9


def test_functions_of_ones_own_are_asked_with_the_evidence(run: Run, train_model: Train) -> None:
    names = [f"flight_gates:{name}" for name in ("never_silent", "fails", "gone")]
    result = run(train_model(), functions=tuple(names), slices=("carrier",), latency_rows=0)
    kept = _evaluation(result).functions
    assert (kept[names[0]].passed, kept[names[0]].required) == (True, "≥ 10 late flights of 100")
    assert kept[names[1]].error == "KeyError: 'dep_dleay'"
    assert "has no function 'gone'" in str(kept[names[2]].error)
    verdicts = [judge([Gate(function=name)], _evaluation(result)).verdict for name in names]
    assert verdicts == ["promote", "reject", "reject"]


@pytest.mark.parametrize("model_uri", ["models:/flight-delay/999", "models:/m-gone"])
def test_a_champion_that_cannot_be_loaded_fails_the_gate_only(
    run: Run, train_model: Train, model_uri: str
) -> None:
    trained = train_model()
    result = run(trained, {"version": "999", "model_uri": model_uri})

    assert result["champion_metrics"] is None
    assert result["champion_error"].startswith("champion v999 could not be scored: MlflowException")
    verdict = judge([Gate(metric="roc_auc", versus="champion")], _evaluation(result))
    assert verdict.verdict == "reject"


def test_a_champion_of_other_columns_fails_the_gate_only(
    run: Run, train_model: Train, flights: pd.DataFrame
) -> None:
    champion = train_model(frame=flights.assign(weather=1.0))
    result = run(train_model(), _version(champion))
    assert "weather" in result["champion_error"]


def test_a_champion_of_fewer_columns_is_scored(run: Run, train_model: Train) -> None:
    champion = train_model(features_exclude=("flight_id", "number"))
    assert run(train_model(), _version(champion))["champion_error"] is None


def test_text_labels(run: Run, train_model: Train, flights: pd.DataFrame) -> None:
    named = flights.assign(late=flights["late"].map({0: "on time", 1: "late"}))
    by_name = run(train_model(frame=named))["metrics"]
    by_number = run(train_model())["metrics"]
    for metric in CLASSIFICATION:
        assert by_name[metric] == pytest.approx(by_number[metric], abs=1e-3)


def test_regression(run: Run, train_model: Train, flights: pd.DataFrame) -> None:
    frame = flights.assign(late=flights["distance"] * 2)
    result = run(train_model("regress", frame), metrics=("rmse", "r2"))
    assert result["metrics"]["r2"] == pytest.approx(1.0)


def test_a_model_that_gives_one_probability(run: Run, train_model: Train, flights: pd.DataFrame) -> None:
    result = run(train_model("constant"))
    on_time = 1 - flights.tail(100)["late"].mean()
    assert result["metrics"]["roc_auc"] == 0.5
    assert result["metrics"]["accuracy"] == pytest.approx(on_time)


def test_the_predictions_profile_is_that_of_the_serving_log(run: Run, train_model: Train) -> None:
    result = run(train_model(prediction_method="predict_proba"))
    profile = from_wire(DriftProfile, json.loads(read_uri(result["prediction_profile_uri"])))
    (column,) = profile.columns
    assert (column.name, column.kind, profile.rows) == ("prediction", "numeric", 100)
    assert column.mean is not None
    assert 0 <= column.mean <= 1


def test_what_watching_needs_is_kept(run: Run, train_model: Train) -> None:
    trained = train_model(prediction_method="predict_proba")
    result = run(trained, time_column=trained["time_column"])
    assert trained["time_column"] == "time"

    importance = from_wire(Importance, json.loads(read_uri(result["importance_uri"])))
    assert (importance.method, importance.metric) == ("permutation", "log_loss")
    assert set(importance.values) == {"carrier", "distance", "number"}
    assert importance.values["distance"] > importance.values["number"] == 0

    calibration = from_wire(Calibration, json.loads(read_uri(result["calibration_uri"])))
    assert (calibration.served, calibration.classes) == ("probability", (0, 1))
    assert "100 rows" in str(calibration.reason)

    interval = _evaluation(result).intervals["roc_auc"]
    assert interval.estimate == pytest.approx(result["metrics"]["roc_auc"])
    assert interval.low < interval.estimate < interval.high
    by_row = _evaluation(run(trained)).intervals["roc_auc"]
    assert (by_row.low, by_row.high) != (interval.low, interval.high)


def test_a_model_that_serves_classes_has_no_calibration(run: Run, train_model: Train) -> None:
    calibration = from_wire(Calibration, json.loads(read_uri(run(train_model())["calibration_uri"])))
    assert (calibration.served, calibration.classes) == ("value", (0, 1))
    assert "predict_proba" in str(calibration.reason)


def test_importance_may_be_left_out_or_not_be_had(run: Run, train_model: Train) -> None:
    trained = train_model()
    assert run(trained, importance="none")["importance_uri"] is None
    result = run(trained, importance="native")
    assert (result["importance_uri"], result["importance_error"]) == (
        None,
        "the model says nothing of its features itself",
    )


def test_a_changed_holdout_is_refused(run: Run, train_model: Train) -> None:
    with pytest.raises(InvalidInput, match="the holdout has changed since training"):
        run(train_model(), holdout_sha256="0" * 64)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"metrics": ("auc",)}, "unknown metric"),
        ({"slices": ("airport",)}, "evaluate.slices: the holdout has no column 'airport'"),
    ],
)
def test_what_does_not_exist_is_said(
    run: Run, train_model: Train, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(train_model(), **config)


def test_columns_are_fitted_to_what_a_signature_asks() -> None:
    from mlflow.types import ColSpec, DataType, Schema

    schema = Schema([ColSpec(DataType.double, "a"), ColSpec(DataType.long, "b"), ColSpec(DataType.long, "c")])
    rows = pd.DataFrame({"b": [1.0, 2.0], "a": [1, 2], "c": [1.5, np.nan], "d": 0})
    fitted = fit_to_schema(rows, schema)
    assert {name: str(kind) for name, kind in fitted.dtypes.items()} == {
        "a": "float64",
        "b": "int64",
        "c": "float64",
    }
