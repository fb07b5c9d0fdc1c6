"""Data in: resolve it to an immutable snapshot, validate it, let it pass."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain_provider.durations import duration
from mlretrain_provider.links import LINKS_XCOM, DataDocsLink
from mlretrain_provider.operators.pipeline import DECIDE, MEASURE, PipelineOperator, Upstream
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.skipping import skip_rest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlretrain.data.dataset import Dataset


TOLD_FAILURES = 5


class ResolveDataOperator(PipelineOperator):
    """Resolve data to an immutable, fingerprinted list of files.

    Returns ``{dataset_uri, fingerprint, files, rows, bytes, start, end}``.
    Idempotent: a cleared task returns the snapshot that the run first saw.

    :param uri: a file, a glob or a folder, ``file://…`` or ``s3://…``; Parquet or CSV.
    :param time_column: the column that holds each row's time; needed for a window.
    :param window: length of the window that ends at the run's window end, in seconds or as ``"90d"``;
        none: all data up to the window end, or all data if there is no time column.
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
        format: str | None = None,  # noqa: A002 - the word in the YAML
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.uri = uri
        self.time_column = time_column
        self.window = window
        self.format = format

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        path = snapshot_path(self, run, self.uri, self.time_column, self.window, self.format)
        dataset = self.once(path, lambda: wire.to_wire(self._resolve(run)))
        summary = {
            "dataset_uri": self.artifact_uri(path),
            "fingerprint": dataset["fingerprint"],
            "files": len(dataset["files"]),
            "rows": dataset["rows"],
            "bytes": sum(file["size"] for file in dataset["files"]),
            "start": dataset["start"],
            "end": dataset["end"],
        }
        self.log.info("%(rows)s rows in %(files)s files, %(bytes)s bytes, from %(start)s to %(end)s", summary)
        return summary

    def _resolve(self, run: RunIdentity) -> Dataset:
        return resolve_window(
            uri=self.uri,
            time_column=self.time_column,
            window=self.window,
            format=self.format,
            end=run.window_end,
            env=self.storage_env or None,
        )


def snapshot_path(operator: PipelineOperator, run: RunIdentity, *asked: Any) -> str:
    """Where a run keeps the snapshot of what was asked for; two DAGs of one pipeline may share a run id."""
    return f"{operator.folder(run, operator.task_id)}-{wire.digest(asked, 12)}/dataset.json"


def resolve_window(
    *,
    uri: str,
    time_column: str | None,
    window: float | str | None,
    format: str | None,  # noqa: A002 - the word in the YAML
    end: datetime,
    env: Mapping[str, str] | None,
) -> Dataset:
    """The data of the ``window`` that ends at ``end``; all data up to ``end`` without a window.

    Raises :class:`~mlretrain.errors.InvalidInput` if there is none.
    """
    from mlretrain.data.resolve import resolve

    if window is not None and time_column is None:
        raise ConfigError(
            "a window needs a time column", where=uri, remedy="Set time_column, or leave window out."
        )
    return resolve(
        uri,
        time_column=time_column,
        start=end - duration(window, "window") if window is not None else None,
        end=end if time_column is not None else None,
        format=format,
        env=env,
    )


def dataset_uri(dataset: Mapping[str, Any] | str) -> str:
    """The URI of the ``dataset.json`` that an upstream task's result, or a string, means."""
    return dataset if isinstance(dataset, str) else str(dataset["dataset_uri"])


class ValidateDataOperator(StepOperator):
    """Check data against Great Expectations; keep the result, a page about it and the Data Docs.

    Returns ``{passed, failures, rows, result_uri, docs_uri, dataset_uri, quarantined_rows}``; it judges
    nothing, :class:`DataGateOperator` does. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`ResolveDataOperator` returned, or the URI of a ``dataset.json``.
    :param expectations: each ``{type, severity?, **arguments}``.
    :param suite: a Great Expectations suite: its JSON, or a file's path relative to the DAG file's folder.
    :param on_failure: ``fail``, ``warn``, ``skip`` or ``quarantine``.
    """

    step = "validate"
    template_fields = (*StepOperator.template_fields, "dataset", "expectations", "suite", "on_failure")
    operator_extra_links = (DataDocsLink(),)

    def __init__(
        self,
        *,
        dataset: Upstream,
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

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        return {
            "dataset_uri": dataset_uri(self.dataset),
            "expectations": list(self.expectations),
            "suite": self._read_suite(self.suite) if isinstance(self.suite, str) else self.suite,
            "on_failure": self.on_failure,
        }

    def _read_suite(self, name: str) -> Any:
        path = Path(self.dag.fileloc).parent / name
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(
                "the expectation suite cannot be read",
                where=str(path),
                found=str(error),
                allowed="a JSON file of Great Expectations 1.x",
            ) from None


class DataGateOperator(PipelineOperator):
    """Let validated data pass, or stop the run.

    Returns ``{verdict, reason, dataset_uri}`` with the verdict ``pass`` or ``skip``. Without a failure, and
    with ``warn`` and ``quarantine``, the run goes on; ``skip`` skips the rest; ``fail`` fails the task for
    good. Idempotent: it changes nothing.

    :param validation: what :class:`ValidateDataOperator` returned.
    :param on_failure: ``fail``, ``warn``, ``skip`` or ``quarantine``.
    """

    inherits_from_skipmixin = True
    template_fields = (*PipelineOperator.template_fields, "validation", "on_failure")
    operator_extra_links = (DataDocsLink(),)
    ui_color = DECIDE

    def __init__(self, *, validation: Upstream, on_failure: str = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validation = validation
        self.on_failure = on_failure

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        context["ti"].xcom_push(key=LINKS_XCOM, value={"docs_uri": self.validation.get("docs_uri")})
        reason = _findings(self.validation)
        result = {"verdict": "pass", "reason": reason, "dataset_uri": self.validation["dataset_uri"]}
        if self.validation["passed"]:
            self.log.info("%s The run goes on.", reason)
            return result
        if self.on_failure == "skip":
            self.log.warning("%s The rest of the run is skipped.", reason)
            return skip_rest(context, {**result, "verdict": "skip"})
        if self.on_failure in ("warn", "quarantine"):
            self.log.warning("%s The run goes on.", reason)
            return result
        raise InvalidInput(
            reason.rstrip("."),
            where=f"{run.dag_id}/{self.task_id}",
            remedy=f"See the Data Docs: {self.validation.get('docs_uri')}",
        )


def _findings(validation: Mapping[str, Any]) -> str:
    """What validation found, in a sentence."""
    failures = validation.get("failures") or []
    rows = validation.get("rows")
    if not failures:
        return f"All expectations hold on {rows} rows."
    kept = validation.get("quarantined_rows")
    told = "; ".join(str(each["message"]).rstrip(".") for each in failures[:TOLD_FAILURES])
    more = f"; and {len(failures) - TOLD_FAILURES} more" if len(failures) > TOLD_FAILURES else ""
    apart = f"; {kept} rows are in quarantine" if kept else ""
    return f"{len(failures)} expectations do not hold on {rows} rows: {told}{more}{apart}."
