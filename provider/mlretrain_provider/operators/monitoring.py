"""Watching: compare a window with the champion's reference, and remember what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowSkipException

from mlretrain import wire
from mlretrain.drift.domain import DomainShift
from mlretrain.drift.evidently import EvidentlyResult
from mlretrain.drift.noise import of_two_windows
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, with_prediction
from mlretrain.drift.report import render_html
from mlretrain.drift.verdict import DriftReport, unknown_report
from mlretrain.errors import ContractError, NotFound
from mlretrain.policy.window import WindowRecord
from mlretrain.ports import CHAMPION, ModelVersion
from mlretrain.runtime.store import read_uri
from mlretrain.steps.profile import read_profile
from mlretrain_provider.links import DriftReportLink, MLflowRunLink
from mlretrain_provider.operators.pipeline import DECIDE, PipelineOperator, Upstream
from mlretrain_provider.operators.profiling import profile_uris
from mlretrain_provider.operators.recipe import run_tags
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

T = TypeVar("T")

EVIDENTLY_PAGE = "evidently.html"
_NOTHING = DriftProfile(rows=0, columns=())


class DetectDriftOperator(PipelineOperator):
    """Compare a window with the champion's own training data, as its stored profile remembers it.

    Returns ``{verdict, signals, share, rows, summary, champion, report_uri, drifted, mlflow_run_id}``, and
    ``evidently_page_uri`` if Evidently was asked; the verdict being ``drift``, ``stable`` or, with its reason
    in the summary, ``unknown``. Without a champion the task is skipped. The window is recorded, reported on a
    page and charted in MLflow whatever the verdict. Idempotent: a window is recorded once per champion.

    :param profile: what :class:`ProfileDataOperator` returned.
    :param policy: ``{defaults, columns, share, min_rows, prediction_threshold, domain_threshold, missing,
        new_categories}``; none: the defaults.
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
        report, reference, current = self._judged(champion)
        page = render_html(report, reference, current, self._title(run, champion))
        folder = f"{self.folder(run, self.task_id)}/v{champion.version}"
        self.store.write(f"{folder}/report.json", wire.pretty(report))
        self.store.write(f"{folder}/report.html", page.encode())
        result = {
            "verdict": report.verdict,
            "signals": dict(report.signals),
            "share": report.share,
            "rows": report.rows,
            "summary": report.summary,
            "champion": champion.version,
            "report_uri": self.artifact_uri(f"{folder}/report.html"),
            "drifted": [each.name for each in report.columns if each.drifted],
            **self._evidently_page(folder),
        }
        self._remember(run, result, current)
        self.log.info("%s: %s", report.verdict, report.summary)
        return {**result, "mlflow_run_id": self._chart(run, report, page, champion.version)}

    def _evidently_page(self, folder: str) -> dict[str, str]:
        """Evidently's own page, put beside ours, if there is one."""
        uri = self.profile.get("evidently_page_uri")
        if uri is None:
            return {}
        path = f"{folder}/{EVIDENTLY_PAGE}"
        self.store.write(path, read_uri(uri, self.storage_env or None))
        return {"evidently_page_uri": self.artifact_uri(path)}

    def _title(self, run: RunIdentity, champion: ModelVersion) -> str:
        window = f"{run.window_end:%d %b %Y %H:%M} UTC"
        return f"{self.pipeline}: the window to {window} beside version {champion.version}"

    def _judged(self, champion: ModelVersion) -> tuple[DriftReport, DriftProfile, DriftProfile]:
        """The report, and the two profiles that it compares."""
        against = self.profile.get("against") or f"the training data of v{champion.version}"
        if self.profile.get("unknown"):
            return unknown_report(self.profile["unknown"], reference=against), _NOTHING, _NOTHING
        uris = profile_uris(champion)
        try:
            reference = self._reference(uris)
            current = self._profile(self.profile["profile_uri"])
            domain = self._found(DomainShift, "domain_uri")
            evidently = self._found(EvidentlyResult, "evidently_uri")
        except (ContractError, NotFound) as error:
            return unknown_report(str(error), reference=against), _NOTHING, _NOTHING
        report = compare(
            reference,
            current,
            wire.from_wire(DriftPolicy, dict(self.policy or {})),
            importance=self._importance(champion),
            domain=domain,
            evidently=evidently,
            against=against,
        )
        return report, reference, current

    def _reference(self, uris: list[str]) -> DriftProfile:
        champion = self._profile(uris[0])
        if self.profile.get("reference_profile_uri"):
            return of_two_windows(self._profile(self.profile["reference_profile_uri"]), champion)
        return with_prediction(champion, self._profile(uris[1])) if len(uris) > 1 else champion

    def _found(self, kind: type[T], name: str) -> T | None:
        """What was measured on rows and is kept at the URI of that name, if it was."""
        uri = self.profile.get(name)
        if uri is None:
            return None
        try:
            return wire.from_wire(kind, self.read_json(uri))
        except ValueError as error:
            raise ContractError("not what the window's profile kept", where=uri, found=str(error)) from error

    def _importance(self, champion: ModelVersion) -> Mapping[str, float] | None:
        """The champion's feature importance; drift is judged without it where there is none."""
        uri = champion.tags.get("mlretrain.importance_uri")
        if uri is None:
            return None
        try:
            values: Mapping[str, float] = self.read_json(uri)["values"]
        except (NotFound, ValueError, KeyError, TypeError) as error:
            self.log.warning("Every column counts the same, for want of %s: %s", uri, error)
            return None
        return values

    def _remember(self, run: RunIdentity, result: Mapping[str, Any], current: DriftProfile) -> None:
        self.windows.record(
            WindowRecord(
                pipeline=self.pipeline,
                window_start=_start(self.profile) or current.start or run.window_end,
                window_end=run.window_end,
                rows=result["rows"],
                champion=result["champion"],
                signals=result["signals"],
                summary=result["summary"],
                report_uri=result["report_uri"],
                profile_uri=self.profile.get("profile_uri"),
            )
        )

    def _chart(self, run: RunIdentity, report: DriftReport, page: str, champion: str) -> str:
        """Show the window in MLflow: its effects over time, its page and its sentence; the run's id."""
        mlflow_run_id = open_window_run(self, run, champion)
        judged = [*report.columns, *([report.prediction] if report.prediction else [])]
        effects = {f"drift.{_metric(each.name)}": each.effect for each in judged if each.note is None}
        domain = report.domain.auc if report.domain else None
        metrics = {
            "rows": float(report.rows),
            **({"drift_share": report.share} if report.verdict != "unknown" else {}),
            **({"drift_domain_auc": domain} if domain is not None else {}),
            **effects,
        }
        self.tracker.log(mlflow_run_id, metrics=metrics)
        self.tracker.log_file(mlflow_run_id, "drift.html", page.encode())
        self.tracker.describe(mlflow_run_id, f"{report.verdict} · {report.summary}")
        self.tracker.close_run(mlflow_run_id, "FINISHED")
        return mlflow_run_id

    def _profile(self, uri: str) -> DriftProfile:
        return read_profile(uri, self.storage_env or None)


def open_window_run(operator: PipelineOperator, run: RunIdentity, champion: str) -> str:
    """The MLflow run in which everything about a window is shown; its id."""
    instant = f"{run.window_end:%Y-%m-%dT%H:%M}"
    return operator.tracker.open_run(
        operator.pipeline,
        f"monitor-{instant}-v{champion}",
        f"monitor {instant}",
        {**run_tags(run, pipeline=operator.pipeline), "mlretrain.champion": champion},
    )


def _start(profile: Mapping[str, Any]) -> datetime | None:
    return wire.parse_time(profile["start"]) if profile.get("start") else None


def _metric(column: str) -> str:
    """The column's name with the characters that MLflow allows in a metric's name."""
    return re.sub(r"[^\w .:/-]", "_", column)
