"""How a model comes about: which rows, which features, whose code; for a candidate as for a trial."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.data.dataset import Dataset, read_dataset
from mlretrain.data.split import Holdout, Split
from mlretrain.errors import ConfigError, UserCodeError
from mlretrain.runtime.tracking import current_run

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from mlflow import MlflowClient

    from mlretrain.runtime.context import StepContext
    from mlretrain.runtime.flavors import LoggedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to train on what. Exactly one of ``entrypoint`` and ``command`` is given.

    :param features_include: the features; ``None`` means every column but target and time column.
    :param features_exclude: columns that are no features, though included otherwise.
    :param holdout: the rows that no training sees.
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """The rows of a dataset, while its connection is open.

    :param every: all rows, also those without a target.
    :param labelled: those that have one; ``parts`` divides them into training rows and holdout.
    """

    con: DuckDBPyConnection
    dataset: Dataset
    time_column: str | None
    features: list[str]
    every: DuckDBPyRelation
    labelled: DuckDBPyRelation
    parts: Split


@contextmanager
def open_rows(recipe: Recipe, ctx: StepContext) -> Iterator[Rows]:
    """The recipe's rows. Rows without a target are in neither part.

    :raises ConfigError: a column does not exist, or not exactly one of entrypoint and command is given.
    """
    from mlretrain.data.read import connect, open_relation
    from mlretrain.data.split import split
    from mlretrain.data.time_window import quote

    if (recipe.entrypoint is None) == (recipe.command is None):
        raise ConfigError("give either an entrypoint or a command", where="train")
    dataset = read_dataset(recipe.dataset_uri, ctx.env)
    time_column = recipe.time_column or dataset.time_column
    with connect() as con:
        every = open_relation(con, dataset, ctx.env)
        features = choose_features(recipe, every.columns, time_column)
        labelled = every.filter(f"{quote(recipe.target)} IS NOT NULL")
        parts = split(
            labelled, recipe.holdout, time_column=time_column, seed=ctx.request.seed, where=dataset.uri
        )
        yield Rows(
            con=con,
            dataset=dataset,
            time_column=time_column,
            features=features,
            every=every,
            labelled=labelled,
            parts=parts,
        )


def choose_features(recipe: Recipe, columns: list[str], time_column: str | None) -> list[str]:
    """The features, in the data's order.

    :raises ConfigError: the target or a feature is no column, the target is a feature, or none are left.
    """
    named = [recipe.target, *(recipe.features_include or ()), *recipe.features_exclude]
    unknown = [each for each in named if each not in columns]
    if unknown:
        raise ConfigError(
            f"the data has no column {', '.join(map(repr, unknown))}",
            where="data.target" if recipe.target in unknown else "data.features",
            allowed=", ".join(columns),
        )
    left_out = {recipe.target, *recipe.features_exclude}
    if recipe.features_include is None:
        left_out.add(time_column or recipe.target)
    elif recipe.target in recipe.features_include:
        raise ConfigError(f"the target {recipe.target!r} is included as a feature", where="data.features")
    wanted = columns if recipe.features_include is None else recipe.features_include
    features = [each for each in columns if each in wanted and each not in left_out]
    if not features:
        raise ConfigError("no feature is left", where="data.features", found=f"columns {', '.join(columns)}")
    return features


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Log what the run does not have yet: MLflow refuses to change a value, and a retry comes second."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    missing = {key: value for key, value in params.items() if key not in known}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in missing.items()}
    if texts:
        client.log_batch(run_id, params=[Param(key, text) for key, text in texts.items()])


def fit_function(
    entrypoint: str,
    recipe: Recipe,
    ctx: StepContext,
    *,
    dataset: Dataset,
    features: list[str],
    train: pd.DataFrame,
    run_id: str,
) -> tuple[Any, ModuleType]:
    """What the user's function makes of the rows ``train``, and the module it lives in."""
    from mlretrain.runtime.training import TrainContext, call, load_entrypoint

    function, module = load_entrypoint(entrypoint)
    context = TrainContext(
        params=recipe.params,
        target=recipe.target,
        features=features,
        seed=ctx.request.seed,
        window_end=ctx.request.window_end,
        mlflow_run_id=run_id,
        dataset=dataset,
        frame=train,
        store=ctx.store,
        node=ctx.node,
    )
    with ctx.phase("train"), current_run(run_id):
        return call(function, context, entrypoint), module


def fit_command(
    command: tuple[str, ...],
    recipe: Recipe,
    ctx: StepContext,
    client: MlflowClient,
    *,
    rows: Mapping[str, pd.DataFrame],
    env: Mapping[str, str],
    run_id: str,
) -> LoggedModel | None:
    """Run the script with all it needs in its environment; the model that it logged last, if any.

    :param rows: what is put into Parquet files, by the environment variables that name these.
    :param env: further environment variables.
    """
    from mlretrain.data.read import connect
    from mlretrain.runtime.command import run_command
    from mlretrain.runtime.flavors import LoggedModel

    with ctx.phase("train"), tempfile.TemporaryDirectory(prefix="mlretrain-train-") as folder:
        given = {
            "MLFLOW_RUN_ID": run_id,
            "MLRETRAIN_TARGET": recipe.target,
            "MLRETRAIN_PARAMS": json.dumps(recipe.params),
            "MLRETRAIN_SEED": str(ctx.request.seed),
            "MLRETRAIN_CHECKPOINT_URI": ctx.checkpoint_uri,
            "MLRETRAIN_WINDOW_END": ctx.request.window_end.isoformat(),
            **env,
        }
        with connect() as con:
            for name, frame in rows.items():
                path = Path(folder) / f"{name.lower()}.parquet"
                con.from_df(frame).write_parquet(str(path))
                given[name] = str(path)
        run_command(command, {**os.environ, **ctx.env, **given})
    models = client.search_logged_models(
        [client.get_run(run_id).info.experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        max_results=1,
    )
    return LoggedModel(model_uri=models[0].model_uri, flavor=None) if models else None


def no_model(run_id: str, also: str = "") -> UserCodeError:
    """The error for a command that left nothing to go on with.

    :param also: what else it might have logged.
    """
    return UserCodeError(
        f"the command logged no model{also}",
        where="train.command",
        found=f"MLflow run {run_id} without a logged model",
        remedy="Log the model with mlflow.<flavour>.log_model(model, name=...) in MLflow 3; "
        "mlflow.start_run() takes the run from MLFLOW_RUN_ID",
    )
