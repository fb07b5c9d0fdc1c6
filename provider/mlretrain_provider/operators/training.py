"""A candidate: train it, and score it beside the champion on the same frozen holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError
from mlretrain.ports import CHAMPION
from mlretrain.runtime.contract import StepRequest
from mlretrain_provider.links import MLflowRunLink
from mlretrain_provider.operators.data import dataset_uri
from mlretrain_provider.operators.pipeline import Upstream
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainModelOperator(StepOperator):
    """Train a candidate model and log it to MLflow.

    Returns ``{model_uri, mlflow_run_id, profile_uri, holdout_uri, holdout_sha256, features, rows, metrics,
    key, dataset_fingerprint}``.
    The MLflow run is opened before the job starts and found again on a retry, so that user code logs live and
    to one run. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`DataGateOperator` or :class:`ResolveDataOperator` returned, or the URI of a
        ``dataset.json``.
    :param target: the column to predict.
    :param entrypoint: ``package.module:function`` that takes a ``TrainContext`` and returns a model.
    :param command: instead: a command that logs its model to the run named by ``MLFLOW_RUN_ID``.
    :param hyperparameters: given to the entrypoint as ``ctx.params`` (an operator's ``params`` are Airflow's
        own); single ones are overridden by ``params`` in the run's conf or form.
    :param features: ``{include, exclude}``; none: every other column.
    :param holdout: ``{by: time|random, fraction}``: the rows kept for evaluation; none: the last fifth by
        time, or
        any fifth without a time column.
    :param time_column: the column that holds each row's time.
    :param prediction_method: ``predict`` or ``predict_proba``: what the logged model answers with.
    :param profile: options of the drift profile, such as ``chunk_s``.
    :param experiment: the MLflow experiment; none: the pipeline's name.
    """

    step = "train"
    uses_mlflow = True
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
    operator_extra_links = (MLflowRunLink(),)

    def __init__(
        self,
        *,
        dataset: Upstream,
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

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        # Whoever started it, a training counts for the policy's cooldown and budget, unless it is a dry run.
        evidence = {"cause": run.cause, "dry_run": run.dry_run}
        self.append(run, "retrain_requested", reason=run.reason, evidence=evidence)
        return super().perform(run, context)

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        features = self.features or {}
        holdout = {"by": "time" if self.time_column else "random", "fraction": 0.2}
        return {
            "dataset_uri": dataset_uri(self.dataset),
            "entrypoint": self.entrypoint,
            "command": list(self.command) if self.command is not None else None,
            "params": {**(self.hyperparameters or {}), **_overrides(run)},
            "target": self.target,
            "features_include": features.get("include"),
            "features_exclude": features.get("exclude") or (),
            "holdout": {**holdout, **(self.holdout or {})},
            "time_column": self.time_column,
            "prediction_method": self.prediction_method,
            **(self.profile or {}),
        }

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """The MLflow run, open and knowing its data and parameters, before the job starts."""
        from mlretrain.data.dataset import read_dataset

        dataset = read_dataset(config["dataset_uri"], self.storage_env or None)
        tags = run_tags(run, pipeline=self.pipeline, fingerprint=dataset.fingerprint)
        mlflow_run_id = self.tracker.open_run(
            self.experiment or self.pipeline, key, f"{self.pipeline} {run.window_end:%Y-%m-%d}", tags
        )
        self.tracker.log_dataset(
            mlflow_run_id,
            name=self.pipeline,
            digest=dataset.fingerprint[:36],
            uri=dataset.uri,
            context="training",
        )
        self.tracker.log(mlflow_run_id, params=config["params"])
        self.log.info("MLflow run %s", mlflow_run_id)
        return {"mlflow_run_id": mlflow_run_id, "dataset_fingerprint": dataset.fingerprint}

    def finish(self, request: StepRequest, result: Mapping[str, Any]) -> dict[str, Any]:
        fingerprint = request.frozen["dataset_fingerprint"]
        return {**result, "key": request.key, "dataset_fingerprint": fingerprint}


def run_tags(run: RunIdentity, *, pipeline: str, fingerprint: str | None = None) -> dict[str, str]:
    """Where something came from, as tags of an MLflow run or model version."""
    tags = {
        "mlretrain.pipeline": pipeline,
        "mlretrain.run_id": run.run_id,
        "mlretrain.window_end": run.window_end.isoformat(),
        "mlretrain.dataset_fingerprint": fingerprint,
        "mlretrain.reason": run.reason,
    }
    return {name: value for name, value in tags.items() if value}


def _overrides(run: RunIdentity) -> dict[str, Any]:
    """The hyperparameters that the run was started with, by hand or by another DAG."""
    given = run.conf.get("params") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            "not a set of hyperparameters",
            where="dag_run.conf.params",
            found=repr(given),
            allowed='an object such as {"max_depth": 8}',
        )
    return dict(given)


class EvaluateModelOperator(StepOperator):
    """Score the candidate, and the champion beside it, on the frozen holdout.

    Returns ``{evaluation_uri, holdout_sha256, metrics, champion_version, champion_metrics,
    prediction_profile_uri}``.
    The champion is the one of the first request: who it is does not change when the task is cleared.

    :param training: what :class:`TrainModelOperator` returned.
    :param target: the column to predict.
    :param metrics: names such as ``roc_auc``, ``log_loss``, ``rmse``.
    :param slices: columns by whose values the metrics are also computed.
    :param confidence: level of the interval around the improvement over the champion, such as 0.95.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training = training
        self.target = target
        self.metrics = metrics
        self.slices = slices
        self.confidence = confidence

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
        }

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if champion is None:
            self.log.info("There is no champion yet: the candidate is scored alone.")
        facts = {"version": champion.version, "model_uri": champion.model_uri} if champion else None
        return {"champion": facts, "mlflow_run_id": self.training["mlflow_run_id"]}
