"""The train step: a model in the MLflow run, what drift is measured from, and the holdout it has not seen."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.data.dataset import Dataset
from mlretrain.data.time_window import quote
from mlretrain.drift.profile import TOP_CATEGORIES
from mlretrain.drift.sample import ROWS
from mlretrain.runtime.fingerprint import fingerprint, signature_digest, size
from mlretrain.runtime.package import fetch, requirements
from mlretrain.runtime.recipe import Recipe, fit_command, fit_function, log_params, no_model, open_rows
from mlretrain.runtime.rehearsal import answer
from mlretrain.runtime.tracking import run_id_of, tracking
from mlretrain.wire import pretty

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyRelation
    from mlflow import MlflowClient

    from mlretrain.drift.profile import DriftProfile
    from mlretrain.runtime.context import StepContext
    from mlretrain.runtime.flavors import LoggedModel
    from mlretrain.runtime.models import KeptModel
    from mlretrain.runtime.recipe import Rows

_HELD_OUT = "mlretrain_held_out"
_ANSWERS = 20_000
"""Training rows, at most, whose answers show how much answers differ from time to time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """How many training rows are kept, and the features that are left out, beside the sensitive ones."""

    rows: int = ROWS
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Recipe):
    """What to train on what, and how to profile it.

    :param chunk_s: the span, in seconds, of the reference profile's own time chunks, from which drift learns
        its noise: the length of a monitored window.
    :param top: categories that the profile keeps by name.
    :param sensitive: columns of which the profile keeps only digests, and the model's input example the most
        common value.
    :param sample: keep rows for the measures that need them; none: keep no row.
    """

    chunk_s: float | None = None
    top: int = TOP_CATEGORIES
    sensitive: tuple[str, ...] = ()
    sample: SampleConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Data:
    """The rows to learn from, and what is kept of the data: holdout and sample as Parquet, the profile."""

    dataset: Dataset
    features: list[str]
    train: pd.DataFrame
    time_column: str | None
    holdout: bytes
    profile: DriftProfile
    sample: bytes | None
    holdout_rows: int
    unlabelled_rows: int


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Train, and keep model, profile and holdout.

    Rows without a target are left out. The holdout keeps every column, so that slices may be taken by any and
    a champion with other features can be judged on it. Of several nodes only rank 0 keeps anything.

    :raises ConfigError: a column or the entrypoint does not exist.
    :raises UserCodeError: the user's code failed, or gave no model.
    """
    from mlretrain.runtime.models import load

    run_id = run_id_of(ctx.request.frozen)
    with ctx.phase("read"):
        data = _load(config, ctx)
    with tracking(ctx.env) as client:
        log_params(client, run_id, config.params)
        if config.entrypoint is not None:
            model = _train_function(config.entrypoint, config, ctx, data, run_id)
        else:
            model = _train_command(config.command or (), config, ctx, data, client, run_id)
        if model is None:
            return {}
        metrics = dict(client.get_run(run_id).data.metrics)
        with ctx.phase("answers"), tempfile.TemporaryDirectory() as scratch:
            folder = fetch(model.model_uri, scratch)
            kept = load(str(folder), data.features)
            package = _package(folder, kept, ctx)
            noise = _answer_noise(kept, data, config.chunk_s)
    return {
        "model_uri": model.model_uri,
        "flavor": model.flavor,
        "mlflow_run_id": run_id,
        **package,
        "profile_uri": ctx.write_output("profile", "profile.json", pretty(data.profile)),
        **({"sample_uri": ctx.write_output("sample", "sample.parquet", data.sample)} if data.sample else {}),
        "holdout_uri": ctx.write_output("holdout", "holdout.parquet", data.holdout),
        "holdout_sha256": hashlib.sha256(data.holdout).hexdigest(),
        "features": data.features,
        "time_column": data.time_column,
        "rows": len(data.train),
        "holdout_rows": data.holdout_rows,
        "unlabelled_rows": data.unlabelled_rows,
        "prediction_noise": noise,
        "metrics": metrics,
    }


def _load(config: Config, ctx: StepContext) -> _Data:
    from mlretrain.data.frames import to_frame, to_parquet

    with open_rows(config, ctx) as rows:
        parts = rows.parts
        # One frame for both sides: a column has the same type in each, wherever its nulls are.
        frame = to_frame(rows.labelled.project(f"*, {parts.holdout_where} AS {_HELD_OUT}"))
        held_out = frame.pop(_HELD_OUT).astype(bool)
        return _Data(
            dataset=rows.dataset,
            features=rows.features,
            train=frame[~held_out].reset_index(drop=True),
            time_column=rows.time_column,
            holdout=to_parquet(rows.labelled.filter(parts.holdout_where)),
            profile=_profile(config, rows),
            sample=_sample(config, config.sample, rows, ctx) if config.sample and not ctx.rank else None,
            holdout_rows=parts.holdout_rows,
            unlabelled_rows=_count(rows.every) - parts.train_rows - parts.holdout_rows,
        )


def _profile(config: Config, rows: Rows) -> DriftProfile:
    from mlretrain.data.read import copied
    from mlretrain.drift.profile import build_profile

    columns = dict.fromkeys([*rows.features, *([rows.time_column] if rows.time_column else [])])
    train = rows.labelled.filter(rows.parts.train_where).project(", ".join(map(quote, columns)))
    with copied(rows.con, train, rows.dataset.uri) as copy:
        return build_profile(
            copy,
            include=[each for each in rows.features if each != rows.time_column],
            time_column=rows.time_column,
            chunk_s=config.chunk_s if rows.time_column else None,
            top=config.top,
            sensitive=config.sensitive,
        )


def _package(folder: Path, kept: KeptModel, ctx: StepContext) -> dict[str, Any]:
    """What tells later whether a model is this one: its files, what it needs, what it says of its example."""
    return {
        "model_sha256": fingerprint(folder),
        "signature_sha256": signature_digest(folder),
        "model_requirements": requirements(folder),
        "model_bytes": size(folder),
        "example_uri": ctx.write_output("example", "example.json", pretty(answer(kept.loaded, folder))),
    }


def _answer_noise(kept: KeptModel, data: _Data, chunk_s: float | None) -> dict[str, float]:
    """By method, how far the model's answers to one time chunk are from those to the others, at most."""
    if chunk_s is None or data.time_column is None:
        return {}
    import pandas as pd

    from mlretrain.data.read import connect
    from mlretrain.drift.profile import build_profile

    rows = data.train.iloc[:: 1 + len(data.train) // _ANSWERS]
    answers = pd.DataFrame({"prediction": list(kept.ask(rows).served), "time": rows[data.time_column].array})
    with connect() as con:
        profile = build_profile(
            con.from_df(answers), include=("prediction",), time_column="time", chunk_s=chunk_s
        )
    return dict(profile.columns[0].noise) if profile.columns else {}


def _sample(config: Config, wanted: SampleConfig, rows: Rows, ctx: StepContext) -> bytes:
    from mlretrain.drift.domain import learn_noise
    from mlretrain.drift.sample import Sample, draw, to_parquet

    train = rows.labelled.filter(rows.parts.train_where)
    unseen = (*wanted.exclude, *config.sensitive)
    columns = [each for each in rows.features if each not in unseen]
    table = draw(train, columns, rows=wanted.rows, time_column=rows.time_column)
    noise: tuple[float, ...] = ()
    if rows.time_column and config.chunk_s:
        noise = learn_noise(
            train,
            table,
            time_column=rows.time_column,
            chunk_s=config.chunk_s,
            rows=wanted.rows,
            seed=ctx.request.seed,
        )
    return to_parquet(Sample(table=table, noise=noise))


def _count(relation: DuckDBPyRelation) -> int:
    return int(relation.aggregate("count(*)").fetchall()[0][0])


def _train_function(
    entrypoint: str, config: Config, ctx: StepContext, data: _Data, run_id: str
) -> LoggedModel | None:
    """The model, unless another node keeps it."""
    import mlflow

    from mlretrain.runtime.flavors import log_model

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
    with ctx.phase("log_model"), mlflow.start_run(run_id=run_id):
        return log_model(
            model,
            inputs=data.train[data.features],
            prediction_method=config.prediction_method,
            user_module=module,
            sensitive=config.sensitive,
        )


def _train_command(
    command: tuple[str, ...],
    config: Config,
    ctx: StepContext,
    data: _Data,
    client: MlflowClient,
    run_id: str,
) -> LoggedModel | None:
    """The model, unless another node keeps it."""
    rows = {"MLRETRAIN_TRAIN_DATA": data.train[[*data.features, config.target]]}
    model = fit_command(command, config, ctx, client, rows=rows, env={}, run_id=run_id)
    if ctx.rank > 0:
        return None
    if model is None:
        raise no_model(run_id)
    return model
