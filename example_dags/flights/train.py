"""Trains the flight-delay classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

if TYPE_CHECKING:
    from mlretrain.runtime.training import TrainContext


def train(ctx: TrainContext) -> Pipeline:
    """A gradient-boosted classifier; airports and carriers that it has not seen are encoded as missing."""
    frame = ctx.train_frame()
    encode = make_column_transformer(
        (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=20),
            make_column_selector(dtype_include=["object", "string", "category"]),
        ),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    model = HistGradientBoostingClassifier(random_state=ctx.seed, **ctx.params)
    return make_pipeline(encode, model).fit(frame[ctx.features], frame[ctx.target])
