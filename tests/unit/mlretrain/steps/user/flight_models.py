"""Training functions as users write them."""

from __future__ import annotations

import random
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlretrain.runtime.training import TrainContext

SEEN: dict[str, Any] = {}


class Thousands(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer that only this module has."""

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Thousands:
        self.fitted_ = True
        return self

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(rows, dtype=float) / 1000


def _pipeline(ctx: TrainContext, model: Any) -> Pipeline:
    frame = ctx.train_frame()
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["carrier"]), (Thousands(), ["distance"])
    )
    return make_pipeline(encode, model).fit(frame[ctx.features], frame[ctx.target])


def train(ctx: TrainContext) -> Pipeline:
    SEEN.update(frame=ctx.train_frame(), context=ctx, drawn=(random.random(), np.random.random()))
    mlflow.log_metric("depth", 3)
    return _pipeline(ctx, LogisticRegression(**ctx.params))


def train_own_run(ctx: TrainContext) -> Any:
    with mlflow.start_run():
        model = _pipeline(ctx, LogisticRegression())
        return mlflow.sklearn.log_model(
            model, name="mine", serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
        )


def regress(ctx: TrainContext) -> Pipeline:
    return _pipeline(ctx, LinearRegression())


class Constant(PythonModel):
    """Says the same of every row."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> np.ndarray:
        return np.full(len(model_input), 0.25)


def constant(ctx: TrainContext) -> Constant:
    return Constant()


class Crowd(PythonModel):
    """Answers many rows only."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> np.ndarray:
        if len(model_input) == 1:
            raise ValueError("one row only")
        return np.full(len(model_input), 0.25)


def crowd(ctx: TrainContext) -> Crowd:
    return Crowd()


def nothing(ctx: TrainContext) -> None:
    return None


def a_dict(ctx: TrainContext) -> dict[str, int]:
    return {"weights": 1}


def fails(ctx: TrainContext) -> None:
    raise KeyError("dep_dleay")
