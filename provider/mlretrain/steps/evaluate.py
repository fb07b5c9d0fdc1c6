"""The evaluate step: candidate and champion scored on the very same held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.errors import InvalidInput
from mlretrain.gates.promotion import Evaluation, Interval, Scores, SliceScores
from mlretrain.metrics import higher_is_better
from mlretrain.runtime.holdout import HeldOut, read_holdout
from mlretrain.runtime.tracking import RUN_FACT, is_away, tracking
from mlretrain.wire import pretty, to_wire

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlretrain.importance import Importance
    from mlretrain.performance.calibration import Calibration
    from mlretrain.runtime.context import StepContext
    from mlretrain.runtime.models import Answer, KeptModel

SLICES = 50
"""Values of a slice column that are scored by themselves; rarer ones are scored together as ``other``."""

METRIC_PREFIX = "holdout_"

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Whom to score on what.

    :param candidate_uri: the model, ``models:/m-…``.
    :param holdout_sha256: the hash of the holdout as training left it.
    :param features: the columns for a model that has no signature.
    :param slices: columns whose values are scored one by one.
    :param confidence: of the interval of each metric's difference to the champion; ``None``: of the
        candidate's own scores only, at :data:`CONFIDENCE`.
    :param time_column: each row's time: rows of one time are alike, which makes intervals wider.
    :param importance: how much the model relies on each feature: as it says itself (``native``), by shuffling
        columns (``permutation``), by whichever of the two can be had (``auto``), or unasked (``none``).
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
            model, candidate = _candidate(config, holdout)
        scores = _scores(config, holdout, candidate)
        _log_metrics(client, ctx, scores.metrics)
        champion_version, champion_answer, champion_error = _champion(config, ctx, holdout)
        with ctx.phase("importance"):
            importance, importance_error = _importance(config, ctx, holdout, model, candidate)
    champion = None if champion_answer is None else _scores(config, holdout, champion_answer)
    with ctx.phase("intervals"):
        evaluation = Evaluation(
            holdout_sha256=config.holdout_sha256,
            rows=len(holdout),
            candidate=scores,
            champion=champion,
            champion_version=champion_version,
            differences=_differences(config, ctx, holdout, candidate, champion_answer),
            intervals=_intervals(config, ctx, holdout, candidate),
        )
    with ctx.phase("calibration"):
        calibration = _calibration(config, ctx, holdout, candidate)
    return {
        "evaluation_uri": ctx.write_output("evaluation", "evaluation.json", pretty(evaluation)),
        "holdout_sha256": config.holdout_sha256,
        "rows": len(holdout),
        "metrics": to_wire(scores.metrics),
        "champion_version": champion_version,
        "champion_metrics": None if champion is None else to_wire(champion.metrics),
        "champion_error": champion_error,
        "prediction_profile_uri": ctx.write_output(
            "prediction_profile", "prediction_profile.json", _prediction_profile(config, candidate)
        ),
        "calibration_uri": ctx.write_output("calibration", "calibration.json", pretty(calibration)),
        "importance_uri": importance
        and ctx.write_output("importance", "importance.json", pretty(importance)),
        "importance_error": importance_error,
    }


def _candidate(config: Config, holdout: HeldOut) -> tuple[KeptModel, Answer]:
    from mlretrain.runtime.models import load

    try:
        model = load(config.candidate_uri, config.features)
        return model, model.ask(holdout.rows)
    except Exception as error:
        if is_away(error):
            raise
        raise InvalidInput(
            "the candidate cannot be loaded or cannot predict on the holdout",
            where=config.candidate_uri,
            found=_describe(error),
        ) from error


def _champion(
    config: Config, ctx: StepContext, holdout: HeldOut
) -> tuple[str | None, Answer | None, str | None]:
    """Version, answer, and why there is no answer."""
    from mlretrain.runtime.models import ask

    frozen: Mapping[str, Any] | None = ctx.request.frozen.get("champion")
    if not frozen:
        return None, None, None
    version = str(frozen["version"])
    try:
        with ctx.phase("champion"):
            return version, ask(str(frozen["model_uri"]), holdout.rows, config.features), None
    except Exception as error:
        if is_away(error):
            raise
        why = f"champion v{version} could not be scored: {_describe(error)}"
        print(why, flush=True)  # noqa: T201 - the job's log
        return version, None, why


def _describe(error: Exception) -> str:
    """In one line, without the rows that MLflow puts before what is wrong with them."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.rpartition(' Error: ')[2][:300]}"


def _scores(config: Config, holdout: HeldOut, answer: Answer) -> Scores:
    from mlretrain.scoring import score, slice_rows

    slices = {}
    for column in config.slices:
        masks = slice_rows(holdout.rows[column].tolist(), SLICES)
        slices[column] = {
            value: SliceScores(
                n=int(mask.sum()),
                metrics=score(config.metrics, holdout.truth[mask], answer.predictions.of(mask)),
            )
            for value, mask in masks.items()
        }
    return Scores(
        holdout_sha256=config.holdout_sha256,
        metrics=score(config.metrics, holdout.truth, answer.predictions),
        slices=slices,
    )


def _differences(
    config: Config, ctx: StepContext, holdout: HeldOut, candidate: Answer, champion: Answer | None
) -> dict[str, Interval]:
    from mlretrain.intervals import difference_interval

    if champion is None or config.confidence is None:
        return {}
    intervals = {}
    for metric in config.metrics:
        estimate, low, high = difference_interval(
            metric,
            holdout.truth,
            candidate.predictions,
            champion.predictions,
            confidence=config.confidence,
            seed=ctx.request.seed,
            blocks=holdout.blocks,
        )
        intervals[metric] = Interval(estimate=estimate, low=low, high=high, confidence=config.confidence)
    return intervals


def _intervals(config: Config, ctx: StepContext, holdout: HeldOut, candidate: Answer) -> dict[str, Interval]:
    """Of the candidate's own scores: what its performance is compared with once it serves."""
    from mlretrain.intervals import score_interval

    confidence = config.confidence or CONFIDENCE
    intervals = {}
    for metric in config.metrics:
        estimate, low, high = score_interval(
            metric,
            holdout.truth,
            candidate.predictions,
            confidence=confidence,
            seed=ctx.request.seed,
            blocks=holdout.blocks,
        )
        intervals[metric] = Interval(estimate=estimate, low=low, high=high, confidence=confidence)
    return intervals


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
    config: Config, ctx: StepContext, holdout: HeldOut, model: KeptModel, candidate: Answer
) -> tuple[Importance | None, str | None]:
    """What each feature is worth to the candidate, or why that is not known."""
    from mlretrain.importance import native, permutation

    if config.importance == "none":
        return None, None
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
            metric="log_loss" if candidate.predictions.probabilities is not None else config.metrics[0],
            seed=ctx.request.seed,
        ), None
    except Exception as error:
        if is_away(error):
            raise
        why = f"the features' importance could not be measured: {_describe(error)}"
        print(why, flush=True)  # noqa: T201 - the job's log
        return None, why


def _log_metrics(client: MlflowClient, ctx: StepContext, metrics: Mapping[str, float]) -> None:
    import math
    import time

    from mlflow.entities import Metric

    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    for name, value in finite.items():
        ctx.log_metric(METRIC_PREFIX + name, value)
    run_id = ctx.request.frozen.get(RUN_FACT)
    if isinstance(run_id, str) and finite:
        now = int(time.time() * 1000)
        client.log_batch(
            run_id, metrics=[Metric(METRIC_PREFIX + name, value, now, 0) for name, value in finite.items()]
        )


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
