"""From measured windows to a retraining: decide, and start it exactly once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from mlretrain import wire
from mlretrain.decisions import DecisionLog, DecisionRecord
from mlretrain.policy.retrain import Level, RetrainDecision, RetrainPolicy, WindowRecord, decide
from mlretrain.ports import CHAMPION
from mlretrain.sight import retrains_in_sight, windows_in_sight
from mlretrain_provider.links import DecisionLink
from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator, Upstream
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.skipping import skip_rest

if TYPE_CHECKING:
    from airflow.sdk import Context

_LOUDNESS: Mapping[Level, int] = {
    "none": logging.INFO,
    "retrain": logging.INFO,
    "warn": logging.WARNING,
    "page": logging.ERROR,
}


class RetrainPolicyOperator(PipelineOperator):
    """Decide whether to retrain, from the recorded windows and the ledger alone.

    Returns ``{verdict, level, reason, run_id, window_end, cause, champion, decision_uri}``. The verdict is
    ``retrain`` or ``keep``, which skips the rest of the run; the level ``none``, ``warn``, ``retrain`` or
    ``page``: then the reason says what a person should do. A window of which nothing is recorded, because it
    had no data or could not be profiled, is recorded as one that could not be judged. Idempotent: the
    decision about a window is the same whenever it is taken, and a request is written to the ledger once.

    :param drift: what :class:`~mlretrain_provider.operators.monitoring.DetectDriftOperator` returned; it
        orders the tasks, and its MLflow run tells of the decision.
    :param performance: what :class:`~mlretrain_provider.operators.performance.MeasurePerformanceOperator`
        returned; it orders the tasks.
    :param policy: a :class:`~mlretrain.policy.situation.RetrainPolicy` as JSON: ``{when, violated, of,
        latest, warm_up, cooldown_s, min_new_rows, budget_max, budget_per_s, blackout, escalation}``.
    """

    inherits_from_skipmixin = True
    template_fields = (*PipelineOperator.template_fields, "drift", "performance", "policy")
    operator_extra_links = (DecisionLink(),)
    ui_color = DECIDE

    def __init__(
        self,
        *,
        drift: Upstream = None,
        performance: Upstream = None,
        policy: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"trigger_rule": TriggerRule.NONE_FAILED, **kwargs})
        self.drift = drift
        self.performance = performance
        self.policy = policy

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        found = self.registry.version(self.pipeline, f"@{CHAMPION}")
        champion = found.version if found else ""
        record = self._decide(run, champion)
        decision, log = record.decision, DecisionLog(self.store, self.pipeline)
        if decision.verdict == "retrain":
            reason = self._request(run, champion, decision)
            decision = replace(decision, reason=reason)
        log.record(replace(record, decision=decision))
        self.log.log(_LOUDNESS[decision.level], "%s", decision.reason)
        self._describe(decision)
        result = {
            "verdict": decision.verdict,
            "level": decision.level,
            "reason": decision.reason,
            "run_id": decision.run_id,
            "window_end": run.window_end.isoformat(),
            "cause": "drift",
            "champion": champion or None,
            "decision_uri": self.artifact_uri(log.path(run.window_end)),
        }
        return result if decision.verdict == "retrain" else skip_rest(context, result)

    def _decide(self, run: RunIdentity, champion: str) -> DecisionRecord:
        """The decision on what of the records it can depend on, with that."""
        policy = wire.from_wire(RetrainPolicy, dict(self.policy or {}))
        at: Any = {"window_end": run.window_end, "champion": champion}
        index = self.windows.index()
        if champion and not index.at(run.window_end):
            self.windows.record(_unmeasured(self.pipeline, **at))
            index = self.windows.index()
        retrains = retrains_in_sight(self.ledger, policy, **at)
        windows = windows_in_sight(index, retrains, policy, **at)
        decision = decide(policy, windows, retrains, **at)
        others = tuple(each for each in retrains if each.run_id != decision.run_id)
        return DecisionRecord(pipeline=self.pipeline, **at, decision=decision, retrains=others, policy=policy)

    def _request(self, run: RunIdentity, champion: str, decision: RetrainDecision) -> str:
        """Write the request to the ledger, unless it is there; why, as it stands there."""
        evidence = {"cause": "drift", "champion": champion, "checks": wire.to_wire(decision.checks)}
        event = self.append(
            replace(run, run_id=decision.run_id),
            "retrain_requested",
            reason=decision.reason,
            evidence=evidence,
        )
        return event.reason

    def _describe(self, decision: RetrainDecision) -> None:
        """Tell of the decision where MLflow shows what was measured."""
        drift = self.drift if isinstance(self.drift, Mapping) else {}
        if not drift.get("mlflow_run_id"):
            return
        told = [str(each) for each in (decision.reason, drift.get("summary")) if each]
        self.tracker.describe(str(drift["mlflow_run_id"]), "\n\n".join(told))


def _unmeasured(pipeline: str, window_end: datetime, champion: str) -> WindowRecord:
    return WindowRecord(
        pipeline=pipeline,
        window_start=window_end,
        window_end=window_end,
        rows=0,
        champion=champion,
        signals={},
        summary="nothing was measured",
    )


class TriggerRetrainOperator(TriggerDagRunOperator):
    """Start the retraining that was decided, exactly once.

    Idempotent: the run id is the decision's, so Airflow's own unique key refuses a second run; then, and when
    the decision is ``keep``, the task is skipped. The reason travels as the run's conf and note.

    :param decision: what :class:`RetrainPolicyOperator` returned.
    :param trigger_dag_id: the retraining DAG, ``<pipeline>.retrain``.
    """

    template_fields = ("trigger_dag_id", "decision")
    ui_color = ACT

    def __init__(self, *, decision: Upstream, trigger_dag_id: str, **kwargs: Any) -> None:
        kwargs = {"skip_when_already_exists": True, "logical_date": None, "deferrable": False, **kwargs}
        super().__init__(trigger_dag_id=trigger_dag_id, **kwargs)
        self.decision = decision

    def execute(self, context: Context) -> None:
        decision = self.decision
        if decision["verdict"] != "retrain":
            raise AirflowSkipException(f"No retraining: {decision['reason']}")
        self.trigger_run_id = str(decision["run_id"])
        self.note = str(decision["reason"])
        self.conf = {name: decision[name] for name in ("reason", "window_end", "cause")}
        super().execute(context)
