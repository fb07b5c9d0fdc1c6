"""The trial step: what one choice of hyperparameters is worth, on training rows that it has not seen."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.data.dataset import Dataset
from mlretrain.data.split import Holdout
from mlretrain.errors import UserCodeError
from mlretrain.metrics import HIGHER_IS_BETTER
from mlretrain.runtime.recipe import Recipe, fit_command, fit_function, log_params, no_model, open_rows
from mlretrain.runtime.tracking import is_away, run_id_of, tracking

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from mlretrain.runtime.context import StepContext

METRIC_PREFIX = "validation_"

_VALIDATES = "mlretrain_validates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Recipe):
    """One choice of hyperparameters (``params``), and how it is judged.

    :param metric: one of :mod:`mlretrain.metrics`, or any that the user's code logs to its MLflow run.
    :param validation_fraction: which share of the training rows is kept from training and scored instead.
    :param number: which trial of the search this is, from 0.
    :param study: the search's key.
    """

    metric: str
    validation_fraction: float = 0.2
    number: int = 0
    study: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Data:
    """The training rows in two parts; none of the holdout's."""

    dataset: Dataset
    features: list[str]
    train: pd.DataFrame
    validation: pd.DataFrame


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Train with these hyperparameters and score the model. Nothing is kept but numbers.

    The validation rows are the latest of the training rows where there is a time column, else drawn from them
    by a hash of their content: the same rows in every trial of a search. A metric that is not one of ours,
    or a command that logs no model, is judged by what the user's code itself logged as ``metric``.

    :raises ConfigError: a column or the entrypoint does not exist.
    :raises UserCodeError: the user's code failed, or what it gave cannot be scored.
    """
    run_id = run_id_of(ctx.request.frozen)
    with ctx.phase("read"):
        data = _load(config, ctx)
    with tracking(ctx.env) as client, tempfile.TemporaryDirectory(prefix="mlretrain-trial-") as folder:
        log_params(client, run_id, config.params)
        model_uri: str | None
        if config.entrypoint is not None:
            model_uri = _fit_function(config.entrypoint, config, ctx, data, run_id, Path(folder) / "model")
        else:
            model_uri = _fit_command(config.command or (), config, ctx, data, client, run_id)
        if ctx.rank > 0:
            return {}
        if model_uri is not None and config.metric in HIGHER_IS_BETTER:
            with ctx.phase("score"):
                value = _score(model_uri, config, data)
            client.log_metric(run_id, METRIC_PREFIX + config.metric, value)
        else:
            value = _logged(client, run_id, config, model_uri is not None)
        metrics = dict(client.get_run(run_id).data.metrics)
    return {
        "number": config.number,
        "value": value,
        "metric": config.metric,
        "metrics": metrics,
        "params": config.params,
        "mlflow_run_id": run_id,
        "rows": len(data.train),
        "validation_rows": len(data.validation),
    }


def _load(config: Config, ctx: StepContext) -> _Data:
    from mlretrain.data.frames import to_frame
    from mlretrain.data.split import split

    with open_rows(config, ctx) as rows:
        known = rows.labelled.filter(rows.parts.train_where)
        parts = split(
            known,
            Holdout(by="time" if rows.time_column else "random", fraction=config.validation_fraction),
            time_column=rows.time_column,
            # Not the holdout's seed: rows would be drawn again by the hash that has left them over.
            seed=ctx.request.seed + 1,
            where=f"the training rows of {rows.dataset.uri}",
        )
        # One frame for both sides: a column has the same type in each, wherever its nulls are.
        frame = to_frame(known.project(f"*, {parts.holdout_where} AS {_VALIDATES}"))
    validates = frame.pop(_VALIDATES).astype(bool)
    return _Data(
        dataset=rows.dataset,
        features=rows.features,
        train=frame[~validates].reset_index(drop=True),
        validation=frame[validates].reset_index(drop=True),
    )


def _fit_function(
    entrypoint: str, config: Config, ctx: StepContext, data: _Data, run_id: str, path: Path
) -> str | None:
    """The URI of the model, saved as the final one will be, so that it predicts as that one will.

    ``None`` on all nodes but the first.
    """
    from mlretrain.runtime.flavors import save_model

    model, module = fit_function(
        entrypoint,
        config,
        ctx,
        dataset=data.dataset,
        features=data.features,
        train=data.train,
        run_id=run_id,
    )
    if ctx.rank > 0:
        return None
    return save_model(
        model,
        str(path),
        inputs=data.train[data.features],
        prediction_method=config.prediction_method,
        user_module=module,
    )


def _fit_command(
    command: tuple[str, ...],
    config: Config,
    ctx: StepContext,
    data: _Data,
    client: MlflowClient,
    run_id: str,
) -> str | None:
    columns = [*data.features, config.target]
    rows = {
        "MLRETRAIN_TRAIN_DATA": data.train[columns],
        "MLRETRAIN_VALIDATION_DATA": data.validation[columns],
    }
    env = {"MLRETRAIN_TRIAL": str(config.number), "MLRETRAIN_METRIC": config.metric}
    model = fit_command(command, config, ctx, client, rows=rows, env=env, run_id=run_id)
    return None if model is None else model.model_uri


def _score(model_uri: str, config: Config, data: _Data) -> float:
    from mlretrain.runtime.models import ask
    from mlretrain.scoring import score

    try:
        answer = ask(model_uri, data.validation, data.features)
    except Exception as error:
        if is_away(error):
            raise
        raise UserCodeError(
            "the model cannot predict on the validation rows",
            where=f"trial {config.number}",
            found=" ".join(f"{type(error).__name__}: {error}".split())[:300],
        ) from error
    truth = data.validation[config.target].to_numpy()
    value = score([config.metric], truth, answer.predictions)[config.metric]
    if math.isfinite(value):
        return value
    raise UserCodeError(
        f"{config.metric} is not a number on the validation rows",
        where=f"trial {config.number}",
        found=f"{data.validation[config.target].nunique()} distinct values of {config.target!r} in "
        f"{len(data.validation)} rows, "
        f"{'finite' if answer.predictions.usable() else 'not only finite'} predictions",
    )


def _logged(client: MlflowClient, run_id: str, config: Config, has_model: bool) -> float:
    """The metric as the user's code logged it."""
    value = client.get_run(run_id).data.metrics.get(config.metric)
    if value is not None and math.isfinite(value):
        return float(value)
    if value is None and not has_model:
        raise no_model(run_id, f" and no metric {config.metric!r}")
    raise UserCodeError(
        f"the code logged no number as the metric {config.metric!r}",
        where=f"trial {config.number}",
        found=f"{value!r} in MLflow run {run_id}",
        allowed=f"one of {', '.join(HIGHER_IS_BETTER)}, or what the code logs with mlflow.log_metric",
    )
