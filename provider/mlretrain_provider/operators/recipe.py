"""What a training and a search for hyperparameters are both told: on what, by whose code, to which run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow.sdk import BaseOperatorLink

from mlretrain.errors import ConfigError
from mlretrain_provider.links import MLflowRunLink
from mlretrain_provider.operators.data import dataset_uri
from mlretrain_provider.operators.pipeline import Upstream
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity


class RecipeOperator(StepOperator):
    """A step that trains.

    :param dataset: what :class:`DataGateOperator` or :class:`ResolveDataOperator` returned, or the URI of a
        ``dataset.json``.
    :param target: the column to predict.
    :param entrypoint: ``package.module:function`` that takes a ``TrainContext`` and returns a model.
    :param command: instead: a command that logs its model to the run named by ``MLFLOW_RUN_ID``.
    :param hyperparameters: given to the entrypoint as ``ctx.params`` (an operator's ``params`` are Airflow's
        own); single ones are overridden by ``params`` in the run's conf or form.
    :param features: ``{include, exclude}``; none: every other column.
    :param holdout: ``{by: time|random, fraction}``: the rows kept for evaluation; none: the last fifth by
        time, or any fifth without a time column.
    :param time_column: the column that holds each row's time.
    :param prediction_method: ``predict`` or ``predict_proba``: what the logged model answers with.
    :param experiment: the MLflow experiment; none: the pipeline's name.
    """

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
        "experiment",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (MLflowRunLink(),)

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
        self.experiment = experiment

    def count_in(self, run: RunIdentity) -> None:
        """Let the run count for the policy's cooldown and budget, whoever started it, unless it is dry."""
        evidence = {"cause": run.cause, "dry_run": run.dry_run}
        self.append(run, "retrain_requested", reason=run.reason, evidence=evidence)

    def recipe(self, run: RunIdentity, chosen: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The kernel's :class:`~mlretrain.runtime.recipe.Recipe` as JSON.

        :param chosen: hyperparameters that go before the operator's own; those of the run's conf go first.
        """
        features = self.features or {}
        holdout = {"by": "time" if self.time_column else "random", "fraction": 0.2}
        return {
            "dataset_uri": dataset_uri(self.dataset),
            "entrypoint": self.entrypoint,
            "command": list(self.command) if self.command is not None else None,
            "params": {**(self.hyperparameters or {}), **(chosen or {}), **overrides(run)},
            "target": self.target,
            "features_include": features.get("include"),
            "features_exclude": features.get("exclude") or (),
            "holdout": {**holdout, **(self.holdout or {})},
            "time_column": self.time_column,
            "prediction_method": self.prediction_method,
        }

    def open_run(
        self, run: RunIdentity, key: str, name: str, dataset_uri: str, tags: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The MLflow run of ``key``, open and knowing its data, as facts of a request."""
        from mlretrain.data.dataset import read_dataset

        dataset = read_dataset(dataset_uri, self.storage_env or None)
        known = run_tags(run, pipeline=self.pipeline, fingerprint=dataset.fingerprint)
        mlflow_run_id = self.tracker.open_run(
            self.experiment or self.pipeline, key, name, {**known, **(tags or {})}
        )
        self.tracker.log_dataset(
            mlflow_run_id,
            name=self.pipeline,
            digest=dataset.fingerprint[:36],
            uri=dataset.uri,
            context="training",
        )
        self.log.info("MLflow run %s", mlflow_run_id)
        return {"mlflow_run_id": mlflow_run_id, "dataset_fingerprint": dataset.fingerprint}


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


def overrides(run: RunIdentity) -> dict[str, Any]:
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
