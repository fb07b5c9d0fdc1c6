"""A candidate: train it, and score it beside the champion on the same frozen holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain_provider.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainModelOperator(StepOperator):
    """Train a candidate model and log it to MLflow.

    Returns ``{model_uri, mlflow_run_id, profile_uri, holdout_uri, holdout_sha256, features, rows, metrics}``.
    The MLflow run is opened before the job starts and found again on a retry, so that user code logs live and
    to one run. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`DataGateOperator` or :class:`ResolveDataOperator` returned, or the URI of a
        ``dataset.json``.
    :param target: the column to predict.
    :param entrypoint: ``package.module:function`` that takes a ``TrainContext`` and returns a model.
    :param command: instead: a command that logs its model to the run named by ``MLFLOW_RUN_ID``.
    :param hyperparameters: given to the entrypoint as ``ctx.params`` (``params`` is Airflow's own word); single
        ones are overridden by ``params`` in the run's conf or form.
    :param features: ``{include, exclude}``; none: every other column.
    :param holdout: ``{by: time|random, fraction}``: the rows kept for evaluation.
    :param time_column: the column that holds each row's time.
    :param prediction_method: ``predict`` or ``predict_proba``: what the logged model answers with.
    :param profile: options of the drift profile, such as ``chunk_s``.
    :param experiment: the MLflow experiment; none: the pipeline's name.
    """

    step = "train"
    template_fields = (
        *StepOperator.template_fields,
        "dataset",
        "target",
        "entrypoint",
        "command",
        "hyperparameters",
        "features",
        "holdout",
        "time_column",
        "prediction_method",
        "profile",
        "experiment",
    )

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any] | str,
        target: str,
        entrypoint: str | None = None,
        command: Sequence[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        features: Mapping[str, Sequence[str]] | None = None,
        holdout: Mapping[str, Any] | None = None,
        time_column: str | None = None,
        prediction_method: str = "predict",
        profile: Mapping[str, Any] | None = None,
        experiment: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.target = target
        self.entrypoint = entrypoint
        self.command = command
        self.hyperparameters = hyperparameters
        self.features = features
        self.holdout = holdout
        self.time_column = time_column
        self.prediction_method = prediction_method
        self.profile = profile
        self.experiment = experiment


class EvaluateModelOperator(StepOperator):
    """Score the candidate, and the champion beside it, on the frozen holdout.

    Returns ``{evaluation_uri, holdout_sha256, metrics, champion_version, champion_metrics, prediction_profile_uri}``.
    The champion is the one of the first request: who it is does not change when the task is cleared.

    :param training: what :class:`TrainModelOperator` returned.
    :param target: the column to predict.
    :param metrics: names such as ``roc_auc``, ``log_loss``, ``rmse``.
    :param slices: columns by whose values the metrics are also computed.
    :param confidence: level of the interval around the improvement over the champion, such as 0.95.
    """

    step = "evaluate"
    template_fields = (
        *StepOperator.template_fields,
        "training",
        "target",
        "metrics",
        "slices",
        "confidence",
    )

    def __init__(
        self,
        *,
        training: Mapping[str, Any],
        target: str,
        metrics: Sequence[str],
        slices: Sequence[str] = (),
        confidence: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training = training
        self.target = target
        self.metrics = metrics
        self.slices = slices
        self.confidence = confidence
