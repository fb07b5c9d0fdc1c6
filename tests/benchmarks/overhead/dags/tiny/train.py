"""A logistic regression that trains in a blink, so that everything else shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    import pandas as pd

    from mlretrain.runtime.training import TrainContext


def fit(features: pd.DataFrame, target: pd.Series[Any]) -> Pipeline:
    """The fitted model."""
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, target)


def train(ctx: TrainContext) -> Pipeline:
    """The pipeline's entry point."""
    frame = ctx.train_frame()
    return fit(frame[ctx.features], frame[ctx.target])
