"""A candidate: train it, and score it beside the champion on the same frozen holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain.latency import ROWS
from mlretrain.ports import CHAMPION
from mlretrain.runtime.contract import StepRequest
from mlretrain_provider.links import MLflowRunLink
from mlretrain_provider.operators.pipeline import Upstream
from mlretrain_provider.operators.recipe import RecipeOperator
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainModelOperator(RecipeOperator):
    """Train a candidate model and log it to MLflow.

    Returns ``{model_uri, mlflow_run_id, profile_uri, sample_uri, holdout_uri, holdout_sha256, features, rows,
    metrics, key, dataset_fingerprint}``.
    The MLflow run is opened before the job starts and found again on a retry, so that user code logs live and
    to one run. Idempotent as every :class:`StepOperator`; its further arguments are those of
    :class:`~mlretrain_provider.operators.recipe.RecipeOperator`.

    :param tuning: what :class:`~mlretrain_provider.operators.tuning.TuneModelOperator` returned: its best
        parameters go before ``hyperparameters``.
    :param profile: ``{chunk_s, top, sensitive}`` of the drift profile: the length of a monitored window in
        seconds, how many categories are kept by name, and the columns of which only digests are.
    :param sample: ``{rows, exclude}``: keep so many training rows, without these columns, for the measures of
        drift that need rows; none: keep no row.
    """

    step = "train"
    template_fields = (*RecipeOperator.template_fields, "profile", "sample", "tuning")

    def __init__(
        self,
        *,
        tuning: Upstream = None,
        profile: Mapping[str, Any] | None = None,
        sample: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tuning = tuning
        self.profile = profile
        self.sample = sample

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        self.count_in(run)
        return super().perform(run, context)

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        best = self.tuning["best_params"] if self.tuning else {}
        sample = {"sample": dict(self.sample)} if self.sample else {}
        return {**self.recipe(run, best), **(self.profile or {}), **sample}

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """The MLflow run, open and knowing its data and parameters, before the job starts."""
        name = f"{self.pipeline} {run.window_end:%Y-%m-%d}"
        tags = {"mlretrain.tune_run_id": self.tuning["mlflow_run_id"]} if self.tuning else {}
        facts = self.open_run(run, key, name, config["dataset_uri"], tags)
        self.tracker.log(facts["mlflow_run_id"], params=config["params"])
        return facts

    def finish(self, request: StepRequest, result: Mapping[str, Any]) -> dict[str, Any]:
        fingerprint = request.frozen["dataset_fingerprint"]
        return {**result, "key": request.key, "dataset_fingerprint": fingerprint}


class EvaluateModelOperator(StepOperator):
    """Score the candidate, and the champion beside it, on the frozen holdout.

    Measured besides the metrics are latency (one row at a time) and size of both models.

    Returns ``{evaluation_uri, holdout_sha256, metrics, champion_version, champion_metrics,
    prediction_profile_uri, calibration_uri, importance_uri}``.
    The champion is the one of the first request: who it is does not change when the task is cleared.

    :param training: what :class:`TrainModelOperator` returned.
    :param target: the column to predict.
    :param metrics: names such as ``roc_auc``, ``log_loss``, ``rmse``.
    :param slices: columns by whose values the metrics are also computed.
    :param confidence: level of the interval around the improvement over the champion, such as 0.95.
    :param importance: how to tell what each feature is worth to the candidate: ``native``, by the model
        itself; ``permutation``, by shuffling columns; ``auto``, by whichever can be had; or ``none``.
    :param functions: the gates that are functions, ``package.module:name``: the job asks them, with the rows
        and both models' predictions (:class:`mlretrain.gates.function.Evidence`).
    :param latency_rows: how many rows both models are asked one by one, to measure their latency; 100 are
        needed for its 99th percentile, 20 for its 95th, and 0 measures none.
    """

    step = "evaluate"
    uses_mlflow = True
    template_fields = (
        *StepOperator.template_fields,
        "training",
        "target",
        "metrics",
        "slices",
        "confidence",
        "importance",
        "functions",
        "latency_rows",
    )
    operator_extra_links = (MLflowRunLink(),)

    def __init__(
        self,
        *,
        training: Upstream,
        target: str,
        metrics: Sequence[str],
        slices: Sequence[str] = (),
        confidence: float | None = None,
        importance: str = "auto",
        functions: Sequence[str] = (),
        latency_rows: int = ROWS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training = training
        self.target = target
        self.metrics = metrics
        self.slices = slices
        self.confidence = confidence
        self.importance = importance
        self.functions = functions
        self.latency_rows = latency_rows

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        return {
            "candidate_uri": self.training["model_uri"],
            "holdout_uri": self.training["holdout_uri"],
            "holdout_sha256": self.training["holdout_sha256"],
            "target": self.target,
            "features": self.training["features"],
            "metrics": list(self.metrics),
            "slices": list(self.slices),
            "confidence": self.confidence,
            "time_column": self.training.get("time_column"),
            "importance": self.importance,
            "functions": list(self.functions),
            "latency_rows": int(self.latency_rows),
            "prediction_noise": self.training.get("prediction_noise") or {},
        }

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if champion is None:
            self.log.info("There is no champion yet: the candidate is scored alone.")
        facts = {"version": champion.version, "model_uri": champion.model_uri} if champion else None
        return {"champion": facts, "mlflow_run_id": self.training["mlflow_run_id"]}
