"""Scores agree with scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.scoring import Predictions, score, slice_rows

N = 500


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def _binary(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = random.integers(0, 2, N)
    positive = np.clip(np.round(truth * 0.3 + random.random(N) * 0.7, 2), 0.01, 0.99)
    return truth, positive


def _with_probabilities(positive: np.ndarray, classes: tuple[object, object]) -> Predictions:
    labels = np.array(classes, dtype=object if isinstance(classes[0], str) else None)[
        (positive >= 0.5).astype(int)
    ]
    return Predictions(
        values=labels, probabilities=np.stack([1 - positive, positive], axis=1), classes=classes
    )


@pytest.mark.parametrize("classes", [(0, 1), ("late", "on time"), (False, True)])
def test_binary_metrics_are_scikit_learns(
    random: np.random.Generator, classes: tuple[object, object]
) -> None:
    truth, positive = _binary(random)
    labels = (positive >= 0.5).astype(int)
    named = np.array(classes, dtype=object if isinstance(classes[0], str) else None)[truth]

    found = score(
        ["roc_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1"],
        named,
        _with_probabilities(positive, classes),
    )

    assert found == pytest.approx(
        {
            "roc_auc": reference.roc_auc_score(truth, positive),
            "log_loss": reference.log_loss(truth, positive),
            "brier": reference.brier_score_loss(truth, positive),
            "accuracy": reference.accuracy_score(truth, labels),
            "precision": reference.precision_score(truth, labels),
            "recall": reference.recall_score(truth, labels),
            "f1": reference.f1_score(truth, labels),
        }
    )


def test_multiclass_metrics_are_macro_averages(random: np.random.Generator) -> None:
    truth = random.integers(0, 3, N)
    raw = random.random((N, 3)) + np.eye(3)[truth] * 0.4
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    labels = probabilities.argmax(axis=1)

    found = score(
        ["roc_auc", "log_loss", "precision", "recall", "f1"],
        truth,
        Predictions(values=labels, probabilities=probabilities, classes=(0, 1, 2)),
    )

    assert found == pytest.approx(
        {
            "roc_auc": reference.roc_auc_score(truth, probabilities, multi_class="ovr"),
            "log_loss": reference.log_loss(truth, probabilities),
            "precision": reference.precision_score(truth, labels, average="macro"),
            "recall": reference.recall_score(truth, labels, average="macro"),
            "f1": reference.f1_score(truth, labels, average="macro"),
        }
    )


def test_regression_metrics_are_scikit_learns(random: np.random.Generator) -> None:
    truth = random.normal(5, 2, N)
    predicted = truth + random.normal(0, 1, N)

    found = score(["rmse", "mae", "r2", "mape"], truth, Predictions(values=predicted))

    assert found == pytest.approx(
        {
            "rmse": reference.root_mean_squared_error(truth, predicted),
            "mae": reference.mean_absolute_error(truth, predicted),
            "r2": reference.r2_score(truth, predicted),
            "mape": reference.mean_absolute_percentage_error(truth, predicted),
        }
    )


def test_a_numeric_prediction_is_read_as_the_positive_probability(random: np.random.Generator) -> None:
    truth, positive = _binary(random)

    found = score(["roc_auc", "brier", "accuracy"], truth, Predictions(values=positive))

    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, positive))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(truth, positive))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, positive >= 0.5))


def test_labels_without_probabilities_still_rank() -> None:
    truth = np.array(["a", "b", "b", "a"], dtype=object)
    found = score(
        ["roc_auc", "accuracy"], truth, Predictions(values=np.array(["a", "b", "a", "a"], dtype=object))
    )
    assert found == {"roc_auc": 0.75, "accuracy": 0.75}


def test_a_metric_that_is_not_defined_is_nan() -> None:
    ones = np.ones(3, dtype=int)
    assert math.isnan(score(["roc_auc"], ones, Predictions(values=np.array([0.1, 0.2, 0.3])))["roc_auc"])
    assert math.isnan(score(["rmse"], ones[:0], Predictions(values=np.array([])))["rmse"])


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "accuracy", "f1", "rmse"])
def test_one_prediction_that_is_no_number_spoils_the_score(metric: str) -> None:
    truth, values = np.array([0, 1, 1]), np.array([0.1, 0.9, np.nan])
    assert math.isnan(score([metric], truth, Predictions(values=values))[metric])


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'auc' \(allowed: roc_auc"):
        score(["auc"], np.ones(3), Predictions(values=np.ones(3)))


def test_labels_are_no_regression() -> None:
    labels = np.array(["x", "y"], dtype=object)
    with pytest.raises(InvalidInput, match="needs numbers"):
        score(["rmse"], labels, Predictions(values=labels))


def test_rare_values_are_scored_together() -> None:
    values = ["a"] * 5 + ["b"] * 3 + ["c", "d", None]
    rows = slice_rows(values, top=3)
    assert {name: int(mask.sum()) for name, mask in rows.items()} == {"a": 5, "b": 3, "other": 3}
    assert set(slice_rows(values, top=50)) == {"a", "b", "c", "d", "null"}
