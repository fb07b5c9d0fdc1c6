"""The evaluate step: candidate and champion scored on the very same held-out rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.gates.promotion import Evaluation, Interval, Scores, SliceScores
from mlretrain.metrics import higher_is_better
from mlretrain.runtime.store import read_uri
from mlretrain.runtime.tracking import RUN_FACT, is_away, tracking
from mlretrain.wire import pretty, to_wire

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from mlretrain.runtime.context import StepContext
    from mlretrain.runtime.models import Answer

SLICES = 50
"""Values of a slice column that are scored by themselves; rarer ones are scored together as ``other``."""

METRIC_PREFIX = "holdout_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Whom to score on what.

    :param candidate_uri: the model, ``models:/m-…``.
    :param holdout_sha256: the hash of the holdout as training left it.
    :param features: the columns for a model that has no signature.
    :param slices: columns whose values are scored one by one.
    :param confidence: of the interval of each metric's difference to the champion; ``None``: no intervals.
    """

    candidate_uri: str
    holdout_uri: str
    holdout_sha256: str
    target: str
    features: tuple[str, ...]
    metrics: tuple[str, ...]
    slices: tuple[str, ...] = ()
    confidence: float | None = None


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
        holdout = _read_holdout(config, ctx)
    with tracking(ctx.env) as client:
        with ctx.phase("candidate"):
            candidate = _candidate(config, holdout)
        scores = _scores(config, holdout, candidate)
        _log_metrics(client, ctx, scores.metrics)
        champion_version, champion_answer, champion_error = _champion(config, ctx, holdout)
    champion = None if champion_answer is None else _scores(config, holdout, champion_answer)
    with ctx.phase("intervals"):
        differences = _differences(config, ctx, holdout, candidate, champion_answer)
    evaluation = Evaluation(
        holdout_sha256=config.holdout_sha256,
        rows=len(holdout),
        candidate=scores,
        champion=champion,
        champion_version=champion_version,
        differences=differences,
    )
    return {
        "evaluation_uri": ctx.write_output("evaluation", "evaluation.json", pretty(evaluation)),
        "holdout_sha256": config.holdout_sha256,
        "rows": len(holdout),
        "metrics": to_wire(scores.metrics),
        "champion_version": champion_version,
        "champion_metrics": None if champion is None else to_wire(champion.metrics),
        "champion_error": champion_error,
        "prediction_profile_uri": ctx.write_output(
            "prediction_profile", "prediction_profile.json", _prediction_profile(candidate)
        ),
    }


def _read_holdout(config: Config, ctx: StepContext) -> pd.DataFrame:
    from mlretrain.data.frames import to_frame
    from mlretrain.data.read import connect

    data = read_uri(config.holdout_uri, ctx.env)
    found = hashlib.sha256(data).hexdigest()
    if found != config.holdout_sha256:
        raise InvalidInput(
            "the holdout has changed since training",
            where=config.holdout_uri,
            found=f"SHA-256 {found[:12]}…",
            allowed=f"{config.holdout_sha256[:12]}…",
            remedy="Train again: scores on different rows cannot be compared",
        )
    with tempfile.TemporaryDirectory(prefix="mlretrain-") as folder, connect() as con:
        path = Path(folder) / "holdout.parquet"
        path.write_bytes(data)
        holdout = to_frame(con.read_parquet(str(path)))
    missing = [each for each in (config.target, *config.slices) if each not in holdout.columns]
    if missing:
        raise ConfigError(
            f"the holdout has no column {', '.join(map(repr, missing))}",
            where="evaluate.slices" if config.target in holdout.columns else "data.target",
            allowed=", ".join(map(str, holdout.columns)),
        )
    return holdout


def _candidate(config: Config, holdout: pd.DataFrame) -> Answer:
    from mlretrain.runtime.models import ask

    try:
        return ask(config.candidate_uri, holdout, config.features)
    except Exception as error:
        if is_away(error):
            raise
        raise InvalidInput(
            "the candidate cannot be loaded or cannot predict on the holdout",
            where=config.candidate_uri,
            found=_describe(error),
        ) from error


def _champion(
    config: Config, ctx: StepContext, holdout: pd.DataFrame
) -> tuple[str | None, Answer | None, str | None]:
    """Version, answer, and why there is no answer."""
    from mlretrain.runtime.models import ask

    frozen: Mapping[str, Any] | None = ctx.request.frozen.get("champion")
    if not frozen:
        return None, None, None
    version = str(frozen["version"])
    try:
        with ctx.phase("champion"):
            return version, ask(str(frozen["model_uri"]), holdout, config.features), None
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


def _scores(config: Config, holdout: pd.DataFrame, answer: Answer) -> Scores:
    from mlretrain.scoring import score, slice_rows

    truth = holdout[config.target].to_numpy()
    slices = {}
    for column in config.slices:
        masks = slice_rows(holdout[column].tolist(), SLICES)
        slices[column] = {
            value: SliceScores(
                n=int(mask.sum()), metrics=score(config.metrics, truth[mask], answer.predictions.of(mask))
            )
            for value, mask in masks.items()
        }
    return Scores(
        holdout_sha256=config.holdout_sha256,
        metrics=score(config.metrics, truth, answer.predictions),
        slices=slices,
    )


def _differences(
    config: Config, ctx: StepContext, holdout: pd.DataFrame, candidate: Answer, champion: Answer | None
) -> dict[str, Interval]:
    from mlretrain.intervals import difference_interval

    if champion is None or config.confidence is None:
        return {}
    intervals = {}
    for metric in config.metrics:
        estimate, low, high = difference_interval(
            metric,
            holdout[config.target].to_numpy(),
            candidate.predictions,
            champion.predictions,
            confidence=config.confidence,
            seed=ctx.request.seed,
        )
        intervals[metric] = Interval(estimate=estimate, low=low, high=high, confidence=config.confidence)
    return intervals


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


def _prediction_profile(answer: Answer) -> bytes:
    """The profile of the column that a served model's prediction log has."""
    import pandas as pd

    from mlretrain.data.read import connect
    from mlretrain.drift.profile import build_profile

    with connect() as con:
        served = pd.DataFrame({"prediction": list(answer.served)})
        return pretty(build_profile(con, con.from_df(served), include=("prediction",)))
