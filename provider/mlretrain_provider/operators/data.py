"""Data in: resolve it to an immutable snapshot, validate it, let it pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain_provider.operators.pipeline import ACT, DECIDE, MEASURE, PipelineOperator
from mlretrain_provider.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class ResolveDataOperator(PipelineOperator):
    """Resolve data to an immutable, fingerprinted list of files.

    Returns ``{dataset_uri, fingerprint, files, rows, bytes, start, end}``.
    Idempotent: a cleared task returns the snapshot that the run first saw.

    :param uri: a file, a glob or a folder, ``file://…`` or ``s3://…``; Parquet or CSV.
    :param time_column: the column that holds each row's time; needed for a window.
    :param window: length of the window that ends at the run's window end: seconds, or ``"90d"``; none: all data.
    :param format: ``parquet`` or ``csv``; none: by the files' names.
    """

    template_fields = (*PipelineOperator.template_fields, "uri", "time_column", "window", "format")
    ui_color = MEASURE

    def __init__(
        self,
        *,
        uri: str,
        time_column: str | None = None,
        window: float | str | None = None,
        format: str | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.uri = uri
        self.time_column = time_column
        self.window = window
        self.format = format


class ValidateDataOperator(StepOperator):
    """Check data against Great Expectations and keep the result and the Data Docs.

    Returns ``{passed, failures, rows, result_uri, docs_uri, dataset_uri, quarantined_rows}``; it judges nothing,
    :class:`DataGateOperator` does. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`ResolveDataOperator` returned, or the URI of a ``dataset.json``.
    :param expectations: each ``{type, severity?, **arguments}``.
    :param suite: a Great Expectations suite: its JSON, or the path of a file relative to the DAG file's folder.
    :param on_failure: ``fail``, ``warn``, ``skip`` or ``quarantine``.
    """

    step = "validate"
    template_fields = (*StepOperator.template_fields, "dataset", "expectations", "suite", "on_failure")

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any] | str,
        expectations: Sequence[Mapping[str, Any]] = (),
        suite: Mapping[str, Any] | str | None = None,
        on_failure: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.expectations = expectations
        self.suite = suite
        self.on_failure = on_failure


class DataGateOperator(PipelineOperator):
    """Let validated data pass, or stop the run.

    Returns ``{verdict, reason, dataset_uri, …}``; without a failure, and with ``warn`` and ``quarantine``, the run
    goes on; ``skip`` skips the rest; ``fail`` fails the task for good. Idempotent: it changes nothing.

    :param validation: what :class:`ValidateDataOperator` returned.
    :param on_failure: ``fail``, ``warn``, ``skip`` or ``quarantine``.
    """

    inherits_from_skipmixin = True
    template_fields = (*PipelineOperator.template_fields, "validation", "on_failure")
    ui_color = DECIDE

    def __init__(self, *, validation: Mapping[str, Any], on_failure: str = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validation = validation
        self.on_failure = on_failure
