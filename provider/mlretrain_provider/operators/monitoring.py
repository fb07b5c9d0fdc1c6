"""Watching: profile a window, compare it with the champion's reference, decide, start a retrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from mlretrain_provider.operators.pipeline import ACT, DECIDE, MEASURE, PipelineOperator
from mlretrain_provider.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class ProfileDataOperator(StepOperator):
    """Profile a window of data in one scan.

    Returns ``{profile_uri, rows, dataset_uri, start, end}``; a window without any data skips the task and what
    depends on it. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`ResolveDataOperator` returned; or give ``uri``.
    :param uri: a file, a glob or a folder, resolved here.
    :param time_column: the column that holds each row's time.
    :param window: length of the window that ends at the run's window end: seconds, or ``"7d"``; none: all data.
    :param format: ``parquet`` or ``csv``; none: by the files' names.
    :param columns: ``{include, exclude}``; none: every column.
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
    )

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any] | str | None = None,
        uri: str | None = None,
        time_column: str | None = None,
        window: float | str | None = None,
        format: str | None = None,  # noqa: A002
        columns: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.uri = uri
        self.time_column = time_column
        self.window = window
        self.format = format
        self.columns = columns


class DetectDriftOperator(PipelineOperator):
    """Compare a window with the champion's own training data, as its stored profile remembers it.

    Returns ``{verdict, share, rows, summary, champion, report_uri, drifted}``, the verdict being ``drift``, ``stable``
    or ``insufficient``. Without a champion the task is skipped. Idempotent: a window is recorded once per champion.

    :param profile: what :class:`ProfileDataOperator` returned.
    :param policy: ``{defaults, columns, share, min_rows, prediction_threshold}``; none: the defaults.
    """

    template_fields = (*PipelineOperator.template_fields, "profile", "policy")
    ui_color = DECIDE

    def __init__(
        self, *, profile: Mapping[str, Any], policy: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.profile = profile
        self.policy = policy


class RetrainPolicyOperator(PipelineOperator):
    """Decide whether to retrain, from the recorded windows and the ledger alone.

    Returns ``{verdict, reason, run_id, window_end, cause, champion}``, the verdict being ``retrain`` or ``keep``. Idempotent: the
    decision about a window is the same whenever it is taken, and a request is written to the ledger once.

    :param drift: what :class:`DetectDriftOperator` returned; it orders the tasks and is shown beside the decision.
    :param policy: ``{signals, violated, of, latest, cooldown_s, min_new_rows, budget_max, budget_per_s}``.
    """

    template_fields = (*PipelineOperator.template_fields, "drift", "policy")
    ui_color = DECIDE

    def __init__(
        self,
        *,
        drift: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.drift = drift
        self.policy = policy


class TriggerRetrainOperator(TriggerDagRunOperator):
    """Start the retraining that was decided, exactly once.

    Idempotent: the run id is the decision's, so Airflow's own unique key refuses a second run; then, and when
    the decision is ``keep``, the task is skipped. The reason travels as the run's conf and note.

    :param decision: what :class:`RetrainPolicyOperator` returned.
    :param trigger_dag_id: the retraining DAG, ``<pipeline>.retrain``.
    """

    template_fields = ("trigger_dag_id", "decision")
    ui_color = ACT

    def __init__(self, *, decision: Mapping[str, Any], trigger_dag_id: str, **kwargs: Any) -> None:
        kwargs = {"skip_when_already_exists": True, "logical_date": None, **kwargs}
        super().__init__(trigger_dag_id=trigger_dag_id, **kwargs)
        self.decision = decision
