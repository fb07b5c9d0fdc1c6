"""How good the champion's answers were: measured on labels that come late, estimated until they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mlretrain import wire
from mlretrain.errors import InvalidInput, NotFound
from mlretrain.performance.measure import unmeasured
from mlretrain.performance.policy import PerformancePolicy, PerformanceReport, Verdict
from mlretrain.performance.report import render_html
from mlretrain.policy.window import WindowRecord
from mlretrain.ports import CHAMPION
from mlretrain_provider.durations import duration
from mlretrain_provider.links import MLflowRunLink, PerformanceReportLink
from mlretrain_provider.operators.data import resolve_window, snapshot_path
from mlretrain_provider.operators.monitoring import open_window_run
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlretrain.runtime.contract import StepRequest

SIGNALS: Mapping[Verdict, bool | None] = {"violated": True, "fine": False, "unknown": None}


TOLD = ("verdict", "basis", "metric", "value", "low", "high", "coverage", "rows", "labelled", "summary")


class MeasurePerformanceOperator(StepOperator):
    """Measure the champion's answers of a past window on the labels that have come since.

    Looks at the predictions of ``[end - delay - window, end - delay)``, ``end`` being the run's window end,
    and at the labels known by ``end``. With too few labels the metric is estimated from the answers' own
    confidence.

    Returns ``{verdict, basis, metric, value, low, high, coverage, rows, labelled, summary,
    champion, report_uri, mlflow_run_id}``, the verdict being ``violated``, ``fine`` or ``unknown``, the basis
    ``labels``, ``estimate`` or ``none``. Data that is absent or cannot be read gives ``unknown`` with its
    reason and fails no task. Without a champion the task is skipped. Idempotent as every
    :class:`StepOperator`; the champion is the one of the first request.

    :param predictions: where the answers are logged: ``{uri, time_column, window, format}``, as
        :class:`~mlretrain_provider.operators.profiling.ProfileDataOperator` takes them.
    :param labels: where the truth arrives: ``{uri, time_column, format}``; with a time column, only what was
        known by the run's window end counts.
    :param join_on: the column, or columns, that name a row in both.
    :param target: the labels' column.
    :param metric: a name such as ``roc_auc``, ``f1``, ``rmse``.
    :param delay_s: how long after a prediction its label is there, in seconds or as ``"2d"``.
    :param min: the smallest value allowed; violated when the whole interval is below.
    :param max_drop: how much worse than in the champion's own evaluation the metric may be.
    :param min_coverage: the labelled share of the predictions that it takes to judge on labels.
    :param estimate: ``auto``, or ``never``: wait for labels.
    :param confidence: level of the interval around the metric.
    """

    step = "performance"
    template_fields = (
        *StepOperator.template_fields,
        "predictions",
        "labels",
        "join_on",
        "target",
        "metric",
        "delay_s",
        "min",
        "max_drop",
        "min_coverage",
        "estimate",
        "confidence",
    )
    operator_extra_links = (PerformanceReportLink(), MLflowRunLink())

    def __init__(
        self,
        *,
        predictions: Mapping[str, Any],
        labels: Mapping[str, Any],
        join_on: str | Sequence[str],
        target: str,
        metric: str,
        delay_s: float | str = 0,
        min: float | None = None,  # noqa: A002 - the word in the YAML
        max_drop: float | None = None,
        min_coverage: float = 0.5,
        estimate: str = "auto",
        confidence: float = 0.95,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions
        self.labels = labels
        self.join_on = join_on
        self.target = target
        self.metric = metric
        self.delay_s = delay_s
        self.min = min
        self.max_drop = max_drop
        self.min_coverage = min_coverage
        self.estimate = estimate
        self.confidence = confidence

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if champion is None:
            raise AirflowSkipException("There is no champion yet, so nobody whose answers could be measured.")
        try:
            self._dataset_uri = self._predictions(run)
        except (InvalidInput, NotFound) as error:
            policy = wire.from_wire(PerformancePolicy, self._policy())
            return self._conclude(run, champion.version, unmeasured(policy, str(error)))
        result = super().perform(run, context)
        report = wire.from_wire(PerformanceReport, self.read_json(result["performance_uri"]))
        return self._conclude(run, result["champion"], report)

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        labels_uri, trouble = self._labels(run)
        return {
            "dataset_uri": self._dataset_uri,
            "labels_uri": labels_uri,
            "labels_trouble": trouble,
            "join_on": [self.join_on] if isinstance(self.join_on, str) else list(self.join_on),
            "target": self.target,
            **self._policy(),
        }

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if champion is None:
            raise AirflowSkipException("There is no champion any more.")
        names = ("evaluation_uri", "calibration_uri")
        evidence = {name: champion.tags.get(f"mlretrain.{name}") for name in names}
        return {"champion": {"version": champion.version, **evidence}}

    def finish(self, request: StepRequest, result: Mapping[str, Any]) -> dict[str, Any]:
        return {**result, "champion": request.frozen["champion"]["version"]}

    def _policy(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "min": self.min,
            "max_drop": self.max_drop,
            "min_coverage": self.min_coverage,
            "estimate": self.estimate,
            "confidence": self.confidence,
        }

    def _predictions(self, run: RunIdentity) -> str:
        """The URI of the window's snapshot. Raises :class:`InvalidInput` if there is nothing in it."""
        return self._resolved(run, self.predictions, run.window_end - duration(self.delay_s, "delay_s"))

    def _labels(self, run: RunIdentity) -> tuple[str | None, str | None]:
        """The URI of the labels' snapshot, or why there is none."""
        try:
            return self._resolved(run, {**self.labels, "window": None}, run.window_end), None
        except (InvalidInput, NotFound) as error:
            return None, f"no labels: {error}"

    def _resolved(self, run: RunIdentity, data: Mapping[str, Any], end: datetime) -> str:
        uri, *asked = (data.get(name) for name in ("uri", "time_column", "window", "format"))
        time_column, window, file_format = asked
        path = snapshot_path(self, run, uri, *asked, end.isoformat())

        def resolve() -> Any:
            dataset = resolve_window(
                uri=str(uri),
                time_column=time_column,
                window=window,
                format=file_format,
                end=end,
                env=self.storage_env or None,
            )
            return wire.to_wire(dataset)

        self.once(path, resolve)
        return self.artifact_uri(path)

    def _conclude(self, run: RunIdentity, champion: str, report: PerformanceReport) -> dict[str, Any]:
        """Keep, remember and chart what was found; the task's result."""
        folder = f"{self.folder(run, self.task_id)}/v{champion}"
        known = f"{run.window_end:%d %b %Y %H:%M} UTC"
        page = render_html(report, f"{self.pipeline}: the answers of version {champion}, as known on {known}")
        self.store.write(f"{folder}/report.json", wire.pretty(report))
        self.store.write(f"{folder}/report.html", page.encode())
        report_uri = self.artifact_uri(f"{folder}/report.html")
        self.windows.record(
            WindowRecord(
                pipeline=self.pipeline,
                window_start=report.start or run.window_end,
                window_end=run.window_end,
                rows=report.rows,
                champion=champion,
                signals={"performance": SIGNALS[report.verdict]},
                summary=report.summary,
                report_uri=report_uri,
                measure="performance",
            )
        )
        self.log.info("%s: %s", report.verdict, report.summary)
        return {
            **{name: getattr(report, name) for name in TOLD},
            "champion": champion,
            "report_uri": report_uri,
            "mlflow_run_id": self._chart(run, champion, report, page),
        }

    def _chart(self, run: RunIdentity, champion: str, report: PerformanceReport, page: str) -> str:
        """Log the numbers to the window's MLflow run, so that MLflow draws them over the windows; its id."""
        mlflow_run_id = open_window_run(self, run, champion)
        measured = {"": report.value, "_low": report.low, "_high": report.high}
        self.tracker.log(
            mlflow_run_id,
            metrics={
                "performance.coverage": report.coverage,
                **{
                    f"performance.{report.metric}{end}": each
                    for end, each in measured.items()
                    if each is not None
                },
            },
            tags={"mlretrain.performance": f"{report.verdict}: {report.summary}"},
        )
        self.tracker.log_file(mlflow_run_id, "performance.html", page.encode())
        self.tracker.close_run(mlflow_run_id, "FINISHED")
        return mlflow_run_id
