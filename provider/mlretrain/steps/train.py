"""The train step: a model in the MLflow run, the reference profile, and the holdout it has not seen."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.data.dataset import Dataset, read_dataset
from mlretrain.data.split import Holdout
from mlretrain.errors import ConfigError, UserCodeError
from mlretrain.runtime.tracking import current_run, run_id_of, tracking
from mlretrain.wire import pretty

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyRelation
    from mlflow import MlflowClient

    from mlretrain.drift.profile import DriftProfile
    from mlretrain.runtime.context import StepContext
    from mlretrain.runtime.flavors import LoggedModel

_HELD_OUT = "mlretrain_held_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to train on what. Exactly one of ``entrypoint`` and ``command`` is given.

    :param features_include: the features; ``None`` means every column but target and time column.
    :param features_exclude: columns that are no features, though included otherwise.
    :param chunk_s: the span, in seconds, of the reference profile's own time chunks, from which drift learns
        its noise: the length of a monitored window.
    """

    dataset_uri: str
    entrypoint: str | None = None
    command: tuple[str, ...] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    target: str
    features_include: tuple[str, ...] | None = None
    features_exclude: tuple[str, ...] = ()
    holdout: Holdout
    time_column: str | None = None
    prediction_method: Literal["predict", "predict_proba"] = "predict"
    chunk_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Data:
    """The rows to learn from, and what is kept of the data: the Parquet bytes of the holdout, the profile."""

    dataset: Dataset
    features: list[str]
    train: pd.DataFrame
    holdout: bytes
    profile: DriftProfile
    holdout_rows: int
    unlabelled_rows: int


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Train, and keep model, profile and holdout.

    Rows without a target are left out. The holdout keeps every column, so that slices may be taken by any and
    a champion with other features can be judged on it.

    :raises ConfigError: a column or the entrypoint does not exist.
    :raises UserCodeError: the user's code failed, or gave no model.
    """
    if (config.entrypoint is None) == (config.command is None):
        raise ConfigError("give either an entrypoint or a command", where="train")
    run_id = run_id_of(ctx.request.frozen)
    with ctx.phase("read"):
        data = _load(config, ctx)
    with tracking(ctx.env) as client:
        _log_params(client, run_id, config.params)
        if config.entrypoint is not None:
            model = _train_function(config.entrypoint, config, ctx, data, run_id)
        else:
            model = _train_command(config.command or (), config, ctx, data, client, run_id)
        metrics = dict(client.get_run(run_id).data.metrics)
    return {
        "model_uri": model.model_uri,
        "flavor": model.flavor,
        "mlflow_run_id": run_id,
        "profile_uri": ctx.write_output("profile", "profile.json", pretty(data.profile)),
        "holdout_uri": ctx.write_output("holdout", "holdout.parquet", data.holdout),
        "holdout_sha256": hashlib.sha256(data.holdout).hexdigest(),
        "features": data.features,
        "rows": len(data.train),
        "holdout_rows": data.holdout_rows,
        "unlabelled_rows": data.unlabelled_rows,
        "metrics": metrics,
    }


def choose_features(config: Config, columns: list[str], time_column: str | None) -> list[str]:
    """The features, in the data's order.

    :raises ConfigError: the target or a feature is no column, the target is a feature, or none are left.
    """
    named = [config.target, *(config.features_include or ()), *config.features_exclude]
    unknown = [each for each in named if each not in columns]
    if unknown:
        raise ConfigError(
            f"the data has no column {', '.join(map(repr, unknown))}",
            where="data.target" if config.target in unknown else "data.features",
            allowed=", ".join(columns),
        )
    left_out = {config.target, *config.features_exclude}
    if config.features_include is None:
        left_out.add(time_column or config.target)
    elif config.target in config.features_include:
        raise ConfigError(f"the target {config.target!r} is included as a feature", where="data.features")
    wanted = columns if config.features_include is None else config.features_include
    features = [each for each in columns if each in wanted and each not in left_out]
    if not features:
        raise ConfigError("no feature is left", where="data.features", found=f"columns {', '.join(columns)}")
    return features


def _load(config: Config, ctx: StepContext) -> _Data:
    from mlretrain.data.frames import to_frame, to_parquet
    from mlretrain.data.read import connect, open_relation
    from mlretrain.data.split import split
    from mlretrain.data.time_window import quote
    from mlretrain.drift.profile import build_profile

    dataset = read_dataset(config.dataset_uri, ctx.env)
    time_column = config.time_column or dataset.time_column
    with connect() as con:
        relation = open_relation(con, dataset, ctx.env)
        features = choose_features(config, relation.columns, time_column)
        labelled = relation.filter(f"{quote(config.target)} IS NOT NULL")
        parts = split(
            labelled, config.holdout, time_column=time_column, seed=ctx.request.seed, where=dataset.uri
        )
        # One frame for both sides: a column has the same type in each, wherever its nulls are.
        frame = to_frame(labelled.project(f"*, {parts.holdout_where} AS {_HELD_OUT}"))
        held_out = frame.pop(_HELD_OUT).astype(bool)
        return _Data(
            dataset=dataset,
            features=features,
            train=frame[~held_out].reset_index(drop=True),
            holdout=to_parquet(labelled.filter(parts.holdout_where)),
            profile=build_profile(
                con,
                labelled.filter(parts.train_where),
                include=features,
                time_column=time_column,
                chunk_s=config.chunk_s if time_column else None,
            ),
            holdout_rows=parts.holdout_rows,
            unlabelled_rows=_count(relation) - parts.train_rows - parts.holdout_rows,
        )


def _count(relation: DuckDBPyRelation) -> int:
    return int(relation.aggregate("count(*)").fetchall()[0][0])


def _log_params(client: MlflowClient, run_id: str, params: dict[str, Any]) -> None:
    """Log what the run does not have yet: MLflow refuses to change a value, and a retry comes second."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    missing = {key: value for key, value in params.items() if key not in known}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in missing.items()}
    if texts:
        client.log_batch(run_id, params=[Param(key, text) for key, text in texts.items()])


def _train_function(
    entrypoint: str, config: Config, ctx: StepContext, data: _Data, run_id: str
) -> LoggedModel:
    import mlflow

    from mlretrain.runtime.flavors import log_model
    from mlretrain.runtime.training import TrainContext, call, load_entrypoint

    function, module = load_entrypoint(entrypoint)
    context = TrainContext(
        params=config.params,
        target=config.target,
        features=data.features,
        seed=ctx.request.seed,
        window_end=ctx.request.window_end,
        mlflow_run_id=run_id,
        dataset=data.dataset,
        frame=data.train,
    )
    with ctx.phase("train"), current_run(run_id):
        model = call(function, context, entrypoint)
    with ctx.phase("log_model"), mlflow.start_run(run_id=run_id):
        return log_model(
            model,
            inputs=data.train[data.features],
            prediction_method=config.prediction_method,
            user_module=module,
        )


def _train_command(
    command: tuple[str, ...],
    config: Config,
    ctx: StepContext,
    data: _Data,
    client: MlflowClient,
    run_id: str,
) -> LoggedModel:
    """Run the script with all it needs in its environment, then find what it logged."""
    from mlretrain.data.read import connect
    from mlretrain.runtime.command import run_command
    from mlretrain.runtime.flavors import LoggedModel

    with ctx.phase("train"), tempfile.TemporaryDirectory(prefix="mlretrain-train-") as folder:
        path = Path(folder) / "train.parquet"
        with connect() as con:
            con.from_df(data.train[[*data.features, config.target]]).write_parquet(str(path))
        given = {
            "MLFLOW_RUN_ID": run_id,
            "MLRETRAIN_TRAIN_DATA": str(path),
            "MLRETRAIN_TARGET": config.target,
            "MLRETRAIN_PARAMS": json.dumps(config.params),
            "MLRETRAIN_SEED": str(ctx.request.seed),
            "MLRETRAIN_WINDOW_END": ctx.request.window_end.isoformat(),
        }
        run_command(command, {**os.environ, **ctx.env, **given})
    models = client.search_logged_models(
        [client.get_run(run_id).info.experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        max_results=1,
    )
    if not models:
        raise UserCodeError(
            "the command logged no model",
            where="train.command",
            found=f"MLflow run {run_id} without a logged model",
            remedy="Log the model with mlflow.<flavour>.log_model(model, name=...) in MLflow 3; "
            "mlflow.start_run() takes the run from MLFLOW_RUN_ID",
        )
    return LoggedModel(model_uri=models[0].model_uri, flavor=None)
