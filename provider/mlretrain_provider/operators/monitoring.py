"""Watching: profile a window, compare it with the champion's reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mlretrain import wire
from mlretrain.drift.policy import DriftPolicy, DriftReport, compare
from mlretrain.drift.profile import DriftProfile, with_prediction
from mlretrain.drift.report import render_html
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.policy.retrain import WindowRecord
from mlretrain.ports import CHAMPION, ModelVersion
from mlretrain.runtime.contract import StepRequest
from mlretrain_provider.links import DriftReportLink, MLflowRunLink
from mlretrain_provider.operators.data import dataset_uri, resolve_window, snapshot_path
from mlretrain_provider.operators.pipeline import DECIDE, PipelineOperator, Upstream
from mlretrain_provider.operators.recipe import run_tags
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlretrain.data.dataset import Dataset


class ProfileDataOperator(StepOperator):
    """Profile a window of data in one scan.

    Returns ``{profile_uri, rows, dataset_uri, start, end}``; a window without any data skips the task and
    what depends on it. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`ResolveDataOperator` returned; or give ``uri``.
    :param uri: a file, a glob or a folder, resolved here.
    :param time_column: the column that holds each row's time.
    :param window: length of the window that ends at the run's window end, in seconds or as ``"7d"``.
    :param format: ``parquet`` or ``csv``; none: by the files' names.
    :param columns: ``{include, exclude}``; none: the columns of the reference, else every column.
    :param reference: the profiles in whose bins the window is counted: ``champion``, which is compared with
        next,
        or URIs; none: bins of its own.
    """

    step = "profile"
    template_fields = (
        *StepOperator.template_fields,
        "dataset",
        "uri",
        "time_column",
        "window",
        "format",
        "columns",
        "reference",
    )

    def __init__(
        self,
        *,
        dataset: Upstream = None,
        uri: str | None = None,
        time_column: str | None = None,
        window: float | str | None = None,
        format: str | None = None,  # noqa: A002
        columns: Mapping[str, Sequence[str]] | None = None,
        reference: str | Sequence[str] | None = CHAMPION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.uri = uri
        self.time_column = time_column
        self.window = window
        self.format = format
        self.columns = columns
        self.reference = reference

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        if self.dataset is not None:
            self._dataset_uri = dataset_uri(self.dataset)
        elif self.uri is not None:
            self._dataset_uri = self._resolve(run, self.uri)
        else:
            raise ConfigError("nothing to profile", where=self.task_id, remedy="Give dataset or uri.")
        return super().perform(run, context)

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        columns = self.columns or {}
        return {
            "dataset_uri": self._dataset_uri,
            "include": columns.get("include"),
            "exclude": columns.get("exclude") or (),
            "reference_uris": self._reference_uris(),
        }

    def _reference_uris(self) -> list[str]:
        if self.reference != CHAMPION:
            given = self.reference or ()
            return [given] if isinstance(given, str) else list(given)
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        return profile_uris(champion) if champion else []

    def finish(self, request: StepRequest, result: Mapping[str, Any]) -> dict[str, Any]:
        dataset = self.read_json(self._dataset_uri)
        window = {"start": dataset["start"], "end": dataset["end"]}
        return {**result, "dataset_uri": self._dataset_uri, **window}

    def _resolve(self, run: RunIdentity, uri: str) -> str:
        path = snapshot_path(self, run, uri, self.time_column, self.window, self.format)
        try:
            self.once(path, lambda: wire.to_wire(self._window(uri, run)))
        except InvalidInput as error:
            raise AirflowSkipException(f"Nothing to measure up to {run.window_end}: {error}") from None
        return self.artifact_uri(path)

    def _window(self, uri: str, run: RunIdentity) -> Dataset:
        return resolve_window(
            uri=uri,
            time_column=self.time_column,
            window=self.window,
            format=self.format,
            end=run.window_end,
            env=self.storage_env or None,
        )


class DetectDriftOperator(PipelineOperator):
    """Compare a window with the champion's own training data, as its stored profile remembers it.

    Returns ``{verdict, share, rows, summary, champion, report_uri, drifted, mlflow_run_id}``, the verdict
    being ``drift``, ``stable`` or ``insufficient``. Without a champion the task is skipped. Idempotent: a
    window is recorded once per champion.

    :param profile: what :class:`ProfileDataOperator` returned.
    :param policy: ``{defaults, columns, share, min_rows, prediction_threshold}``; none: the defaults.
    """

    template_fields = (*PipelineOperator.template_fields, "profile", "policy")
    operator_extra_links = (DriftReportLink(), MLflowRunLink())
    ui_color = DECIDE

    def __init__(self, *, profile: Upstream, policy: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.profile = profile
        self.policy = policy

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if champion is None:
            raise AirflowSkipException(
                "There is no champion yet, so nothing that the window could differ from."
            )
        current = self._profile(self.profile["profile_uri"])
        reference = self._reference(champion)
        report = compare(reference, current, wire.from_wire(DriftPolicy, dict(self.policy or {})))
        folder = f"{self.folder(run, self.task_id)}/v{champion.version}"
        title = (
            f"{self.pipeline}: the window to {run.window_end:%d %b %Y %H:%M} UTC "
            f"beside version {champion.version}"
        )
        self.store.write(f"{folder}/report.json", wire.pretty(report))
        self.store.write(f"{folder}/report.html", render_html(report, reference, current, title).encode())
        result = {
            "verdict": report.verdict,
            "share": report.share,
            "rows": report.rows,
            "summary": report.summary,
            "champion": champion.version,
            "report_uri": self.artifact_uri(f"{folder}/report.html"),
            "drifted": [each.name for each in report.columns if each.drifted],
        }
        self._remember(run, result, current)
        self.log.info("%s: %s", report.verdict, report.summary)
        return {**result, "mlflow_run_id": self._chart(run, report, champion.version)}

    def _remember(self, run: RunIdentity, result: Mapping[str, Any], current: DriftProfile) -> None:
        signal = {"drift": True, "stable": False}.get(result["verdict"])
        self.windows.record(
            WindowRecord(
                pipeline=self.pipeline,
                window_start=_start(self.profile) or current.start or run.window_end,
                window_end=run.window_end,
                rows=result["rows"],
                champion=result["champion"],
                signals={"drift": signal},
                summary=result["summary"],
                report_uri=result["report_uri"],
            )
        )

    def _chart(self, run: RunIdentity, report: DriftReport, champion: str) -> str:
        """Log the effects to an MLflow run, so that MLflow draws them over the windows; the run's id."""
        instant = f"{run.window_end:%Y-%m-%dT%H:%M}"
        mlflow_run_id = self.tracker.open_run(
            self.pipeline,
            f"monitor-{instant}-v{champion}",
            f"monitor {instant}",
            {**run_tags(run, pipeline=self.pipeline), "mlretrain.champion": champion},
        )
        judged = [*report.columns, *([report.prediction] if report.prediction else [])]
        effects = {f"drift.{_metric(each.name)}": each.effect for each in judged}
        metrics = {"drift_share": report.share, "rows": float(report.rows), **effects}
        self.tracker.log(mlflow_run_id, metrics=metrics)
        self.tracker.close_run(mlflow_run_id, "FINISHED")
        return mlflow_run_id

    def _reference(self, champion: ModelVersion) -> DriftProfile:
        uri, *predictions = profile_uris(champion)
        reference = self._profile(uri)
        return with_prediction(reference, self._profile(predictions[0])) if predictions else reference

    def _profile(self, uri: str) -> DriftProfile:
        return wire.from_wire(DriftProfile, self.read_json(uri))


def profile_uris(version: ModelVersion) -> list[str]:
    """The profiles of a version's training data and, if there is one, of its predictions."""
    if "mlretrain.profile_uri" not in version.tags:
        raise ConfigError(
            "the champion has no profile of its training data",
            where=f"{version.name} version {version.version}",
            remedy="Retrain it through the pipeline, or tag the version with mlretrain.profile_uri.",
        )
    names = ("mlretrain.profile_uri", "mlretrain.prediction_profile_uri")
    return [version.tags[name] for name in names if name in version.tags]


def _start(profile: Mapping[str, Any]) -> datetime | None:
    return wire.parse_time(profile["start"]) if profile.get("start") else None


def _metric(column: str) -> str:
    """The column's name with the characters that MLflow allows in a metric's name."""
    return re.sub(r"[^\w .:/-]", "_", column)
