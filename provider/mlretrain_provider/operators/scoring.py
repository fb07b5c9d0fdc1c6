"""Scoring in batches: the versions that serve answer every row of a dataset, as one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.batch.orders import batch_folder
from mlretrain.errors import InvalidInput
from mlretrain.ports import CHAMPION, Traffic
from mlretrain_provider.operators.data import dataset_uri
from mlretrain_provider.operators.pipeline import ACT, Upstream
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.skipping import skip_rest
from mlretrain_provider.targets.batch import TALLIES

if TYPE_CHECKING:
    from airflow.sdk import Context

BATCH = "batch"


class ScoreDataOperator(StepOperator):
    """Score a dataset: Parquet in partitions that appear whole, then ``_SUCCESS``.

    The champion scores every row; with ``serving: {target: batch}`` the order in force decides, with the
    shares of a canary and the mirrored versions of a shadow. Returns ``{output_uri, success_uri, rows,
    partitions, scored, kept, generation, versions, schema, dataset_fingerprint}``; where nobody serves
    yet ``{skipped: reason}``, and what comes later is skipped.
    Idempotent as every :class:`StepOperator`: who scores is decided once for each run, and a job that is
    repeated scores the partitions that are missing.

    :param dataset: what :class:`ResolveDataOperator` returned, or the URI of a ``dataset.json``.
    :param output_uri: the folder of the scores.
    :param key: the columns that say which version scores a row; none: all columns.
    :param columns: the columns to keep beside the prediction; none: all.
    :param partition_by: a column, times in it by their date; none: a partition for each file.
    :param serving: where models are served, ``{target, …}``.
    """

    step = "score"
    uses_mlflow = True
    inherits_from_skipmixin = True
    template_fields = (
        *StepOperator.template_fields,
        "dataset",
        "output_uri",
        "key",
        "columns",
        "partition_by",
        "serving",
    )
    ui_color = ACT

    def __init__(
        self,
        *,
        dataset: Upstream,
        output_uri: str,
        key: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        partition_by: str | None = None,
        serving: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.output_uri = output_uri
        self.key = key
        self.columns = columns
        self.partition_by = partition_by
        self.serving = serving

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        if self._order(run) is None:
            reason = "no version serves: there is no champion, or it was taken out of service"
            self.log.warning("%s.", reason)
            return skip_rest(context, {"skipped": reason})
        return super().perform(run, context)

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        folder = batch_folder(self.pipeline, self.pipeline)
        return {
            "dataset_uri": dataset_uri(self.dataset),
            "model": self.pipeline,
            "output_uri": self.output_uri,
            "key": list(self.key),
            "columns": list(self.columns) if self.columns is not None else None,
            "partition_by": self.partition_by,
            "tallies_uri": self.artifact_uri(f"{folder}/{TALLIES}"),
        }

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        return self._order(run) or {}

    def _order(self, run: RunIdentity) -> dict[str, Any] | None:
        """Who scores in this run, with the versions' files; ``None`` if nobody serves."""
        # Two DAGs of one pipeline may share a run id.
        path = f"{self.folder(run, self.task_id)}-{wire.digest([run.dag_id], 12)}/order.json"
        known = self.recall(path)
        if known is not None:
            return known
        at = datetime.now(UTC)
        traffic = self._traffic()
        if not traffic.served:
            return None
        facts = {version: self._facts(version) for version in {**traffic.served, **traffic.mirrored}}
        return self.once(path, lambda: {"traffic": traffic, "versions": facts, "at": at})

    def _traffic(self) -> Traffic:
        if self.serving and self.serving.get("target") == BATCH:
            ordered = self.serving_target(self.serving).current(self.pipeline)
            if ordered != Traffic():
                return ordered
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        return Traffic(weights={champion.version: 100}) if champion else Traffic()

    def _facts(self, version: str) -> dict[str, Any]:
        found = self.registry.version(self.pipeline, version)
        if found is None:
            raise InvalidInput(
                f"version {version} of {self.pipeline} is ordered, but not registered",
                remedy="Order other versions, or roll back.",
            )
        return {"model_uri": found.model_uri, "tags": wire.to_wire(found.tags)}
