"""The evaluate step: candidate and champion scored on the very same held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.gates.evaluation import Evaluation, FunctionResult
from mlretrain.latency import ROWS
from mlretrain.metrics import COSTS, higher_is_better
from mlretrain.runtime.holdout import HeldOut, read_holdout
from mlretrain.runtime.tracking import RUN_FACT, is_away, tracking
from mlretrain.steps import contest
from mlretrain.steps.comparison import Comparison
from mlretrain.steps.contest import Contender
from mlretrain.wire import pretty, to_wire

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlretrain.importance import Importance
    from mlretrain.performance.calibration import Calibration
    from mlretrain.runtime.context import StepContext
    from mlretrain.runtime.models import Answer

METRIC_PREFIX = "holdout_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Whom to score on what.

    :param candidate_uri: the model, ``models:/m-…``.
    :param holdout_sha256: the hash of the holdout as training left it.
    :param features: the columns for a model that has no signature.
    :param slices: columns whose values are scored one by one.
    :param confidence: of the interval of each metric's difference to the champion; ``None``: of the
        candidate's own scores only, at :data:`~mlretrain.steps.comparison.CONFIDENCE`.
    :param time_column: each row's time: rows of one time are alike, which makes intervals wider.
    :param importance: how much the model relies on each feature: as it says itself (``native``), by shuffling
        columns (``permutation``), by whichever of the two can be had (``auto``), or unasked (``none``).
    :param functions: gates of the user's own, ``package.module:name``, that are called with the evidence.
    :param latency_rows: rows that both models are asked one by one; 0: latency is not measured.
    :param prediction_noise: what training has seen of how the model's answers differ from time to time.
    """

    candidate_uri: str
    holdout_uri: str
    holdout_sha256: str
    target: str
    features: tuple[str, ...]
    metrics: tuple[str, ...]
    slices: tuple[str, ...] = ()
    confidence: float | None = None
    time_column: str | None = None
    importance: Literal["auto", "permutation", "native", "none"] = "auto"
    functions: tuple[str, ...] = ()
    latency_rows: int = ROWS
    prediction_noise: Mapping[str, float] = field(default_factory=dict)


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Score both models and keep the evidence for the promotion gate.

    A champion that cannot be loaded, or cannot predict on these columns, leaves its scores out and says why
    in ``champion_error``: the gate then fails closed, the step does not.

    :raises InvalidInput: the holdout is not the one that training left, or the candidate fails on it.
    :raises ConfigError: a metric or a column does not exist.
    """
    for metric in config.metrics:
        higher_is_better(metric)
    with ctx.phase("read"):
        holdout = read_holdout(
            config.holdout_uri,
            config.holdout_sha256,
            target=config.target,
            slices=config.slices,
            time_column=config.time_column,
            env=ctx.env,
        )
    with tracking(ctx.env) as client:
        with ctx.phase("candidate"):
            candidate = contest.candidate(config.candidate_uri, config.features, holdout.rows)
        champion, champion_error = _champion(config, ctx, holdout)
        with ctx.phase("latency"):
            costs = contest.costs(candidate, champion, holdout.rows, singles=config.latency_rows)
        with ctx.phase("importance"):
            importance, importance_error = _importance(config, ctx, holdout, candidate)
        evaluation = _compared(config, ctx, holdout, candidate, champion, costs)
        _log_metrics(client, ctx, evaluation.candidate.metrics)
        with ctx.phase("functions"):
            functions = _functions(config, holdout, evaluation, candidate, champion)
    evaluation = replace(evaluation, functions=functions)
    with ctx.phase("calibration"):
        calibration = _calibration(config, ctx, holdout, candidate.answer)
    return {
        "evaluation_uri": ctx.write_output("evaluation", "evaluation.json", pretty(evaluation)),
        "holdout_sha256": config.holdout_sha256,
        "rows": len(holdout),
        "metrics": to_wire(evaluation.candidate.metrics),
        "champion_version": evaluation.champion_version,
        "champion_metrics": evaluation.champion and to_wire(evaluation.champion.metrics),
        "champion_error": champion_error,
        "prediction_profile_uri": ctx.write_output(
            "prediction_profile", "prediction_profile.json", _prediction_profile(config, candidate.answer)
        ),
        "calibration_uri": ctx.write_output("calibration", "calibration.json", pretty(calibration)),
        "importance_uri": importance
        and ctx.write_output("importance", "importance.json", pretty(importance)),
        "importance_error": importance_error,
    }


def _champion(config: Config, ctx: StepContext, holdout: HeldOut) -> tuple[Contender | None, str | None]:
    """The champion, and why it has no answer if there is one at all."""
    frozen: Mapping[str, Any] | None = ctx.request.frozen.get("champion")
    if not frozen:
        return None, None
    with ctx.phase("champion"):
        return contest.champion(
            str(frozen["version"]), str(frozen["model_uri"]), config.features, holdout.rows
        )


def _compared(
    config: Config,
    ctx: StepContext,
    holdout: HeldOut,
    candidate: Contender,
    champion: Contender | None,
    costs: Mapping[str, Mapping[str, float]],
) -> Evaluation:
    frozen: Mapping[str, Any] | None = ctx.request.frozen.get("champion")
    comparison = Comparison(
        holdout=holdout,
        sha256=config.holdout_sha256,
        champion_version=str(frozen["version"]) if frozen else None,
        metrics=config.metrics,
        slices=config.slices,
        confidence=config.confidence,
        seed=ctx.request.seed,
    )
    rival = None if champion is None else champion.answer.predictions
    with ctx.phase("intervals"):
        return comparison.of(candidate.answer.predictions, rival, costs)


def _functions(
    config: Config,
    holdout: HeldOut,
    evaluation: Evaluation,
    candidate: Contender,
    champion: Contender | None,
) -> dict[str, FunctionResult]:
    from mlretrain.gates.function import Evidence, ask

    evidence = Evidence(
        evaluation=evaluation,
        rows=holdout.rows,
        target=config.target,
        candidate=candidate.answer.predictions,
        champion=champion.answer.predictions if champion else None,
    )
    return {name: ask(name, evidence) for name in config.functions}


def _calibration(config: Config, ctx: StepContext, holdout: HeldOut, candidate: Answer) -> Calibration:
    from mlretrain.performance.calibration import calibrate

    return calibrate(
        candidate.served,
        candidate.predictions,
        holdout.truth,
        seconds=holdout.seconds,
        seed=ctx.request.seed,
    )


def _importance(
    config: Config, ctx: StepContext, holdout: HeldOut, candidate: Contender
) -> tuple[Importance | None, str | None]:
    """What each feature is worth to the candidate, or why that is not known."""
    from mlretrain.importance import native, permutation

    if config.importance == "none":
        return None, None
    model, answer = candidate.model, candidate.answer
    inputs = model.inputs(holdout.rows)
    found = native(model.raw, inputs) if config.importance in ("auto", "native") else None
    if found is not None or config.importance == "native":
        return found, None if found else "the model says nothing of its features itself"
    try:
        return permutation(
            lambda rows: model.ask(rows).predictions,
            inputs,
            holdout.truth,
            list(inputs.columns),
            metric="log_loss" if answer.predictions.probabilities is not None else config.metrics[0],
            seed=ctx.request.seed,
        ), None
    except Exception as error:
        if is_away(error):
            raise
        return None, contest.report(
            f"the features' importance could not be measured: {contest.describe(error)}"
        )


def _log_metrics(client: MlflowClient, ctx: StepContext, metrics: Mapping[str, float]) -> None:
    import math
    import time

    from mlflow.entities import Metric

    named = {name if name in COSTS else METRIC_PREFIX + name: value for name, value in metrics.items()}
    finite = {name: value for name, value in named.items() if math.isfinite(value)}
    for name, value in finite.items():
        ctx.log_metric(name, value)
    run_id = ctx.request.frozen.get(RUN_FACT)
    if isinstance(run_id, str) and finite:
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in finite.items()])


def _prediction_profile(config: Config, answer: Answer) -> bytes:
    """The profile of the column that a served model's prediction log has."""
    import pandas as pd

    from mlretrain.data.read import connect
    from mlretrain.drift.profile import build_profile

    with connect() as con:
        served = pd.DataFrame({"prediction": list(answer.served)})
        profile = build_profile(con.from_df(served), include=("prediction",))
    columns = tuple(replace(each, noise=config.prediction_noise) for each in profile.columns)
    return pretty(replace(profile, columns=columns))
