"""What a model relies on, by its own word or by shuffling its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlretrain import importance
from mlretrain.importance import native, permutation
from mlretrain.scoring import Predictions


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two columns that matter, the first twice as much, one that does not, and a text."""
    random = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "much": random.normal(0, 10, 3000),
            "some": random.normal(0, 0.1, 3000),
            "none": random.normal(0, 1, 3000),
            "text": random.choice(["a", "b"], 3000),
        }
    )


def _said(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.asarray(2 * rows["much"] / 10 + rows["some"] / 0.1)


def _ask(rows: pd.DataFrame) -> Predictions:
    return Predictions(values=_said(rows))


def test_shuffling_shows_what_matters(rows: pd.DataFrame) -> None:
    found = permutation(_ask, rows, _said(rows), list(rows.columns), metric="rmse", seed=0)
    assert (found.method, found.metric) == ("permutation", "rmse")
    assert sum(found.values.values()) == pytest.approx(1)
    assert found.values["none"] == found.values["text"] == 0
    assert found.values["much"] == pytest.approx(2 / 3, abs=0.05)


def test_a_better_score_is_a_loss_when_it_falls(rows: pd.DataFrame) -> None:
    late = (_said(rows) > 0).astype(int)

    def ask(some: pd.DataFrame) -> Predictions:
        return Predictions(values=1 / (1 + np.exp(-_said(some))))

    for metric in ("roc_auc", "log_loss"):
        values = permutation(ask, rows, late, list(rows.columns), metric=metric, seed=0).values
        assert values["much"] > values["some"] > values["none"] == 0


def test_the_same_seed_gives_the_same(rows: pd.DataFrame) -> None:
    first, again = (
        permutation(_ask, rows, _said(rows), list(rows.columns), metric="mae", seed=4) for _ in range(2)
    )
    assert first == again


def test_few_rows_are_asked_about_in_few_calls(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def ask(some: pd.DataFrame) -> Predictions:
        calls.append(len(some))
        return _ask(some)

    whole = permutation(ask, rows, _said(rows), list(rows.columns), metric="mae", seed=4)
    assert calls == [importance.ROWS, 20_000, 20_000]  # four columns, shuffled five times each
    monkeypatch.setattr(importance, "_TOGETHER", 1)
    assert permutation(_ask, rows, _said(rows), list(rows.columns), metric="mae", seed=4) == whole


def test_a_model_that_ignores_its_columns_relies_on_none(rows: pd.DataFrame) -> None:
    def ask(some: pd.DataFrame) -> Predictions:
        return Predictions(values=np.zeros(len(some)))

    found = permutation(ask, rows, _said(rows), ["much", "some"], metric="rmse", seed=0)
    assert found.values == {"much": 0.0, "some": 0.0}


def test_trees_say_it_themselves(rows: pd.DataFrame) -> None:
    inputs = rows[["much", "some", "none"]]
    model = RandomForestClassifier(10, max_depth=4, random_state=0).fit(inputs, _said(rows) > 0)
    found = native(model, inputs)
    assert found is not None
    assert found.method == "native"
    assert found.values == pytest.approx(dict(zip(inputs, model.feature_importances_, strict=True)), abs=1e-6)


@pytest.mark.parametrize("model", [LinearRegression(), LogisticRegression()])
def test_coefficients_count_in_deviations_of_their_column(rows: pd.DataFrame, model: Any) -> None:
    inputs = rows[["much", "some", "none"]]
    said = _said(rows) if isinstance(model, LinearRegression) else np.digitize(_said(rows), [-1, 1])
    found = native(model.fit(inputs, said), inputs)
    assert found is not None
    assert found.values["much"] > found.values["none"]
    if isinstance(model, LinearRegression):
        assert found.values == pytest.approx({"much": 2 / 3, "some": 1 / 3, "none": 0}, abs=0.03)


def test_what_does_not_fit_the_columns_is_not_believed(rows: pd.DataFrame) -> None:
    inputs = rows[["much", "some", "none"]]
    late = _said(rows) > 0
    assert native(make_pipeline(StandardScaler(), LogisticRegression()).fit(inputs, late), inputs) is None
    assert native(LogisticRegression().fit(inputs.to_numpy(), late), rows) is None
    other = RandomForestClassifier(2).fit(inputs.rename(columns={"none": "nothing"}), late)
    assert native(other, inputs) is None
    assert native(None, inputs) is None
