"""From measured windows to a retraining: decide, and start it exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowSkipException

from mlretrain import wire
from mlretrain.policy.retrain import RetrainDecision, RetrainPolicy, decide
from mlretrain.ports import CHAMPION
from mlretrain.windows import retrains
from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator, Upstream
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.skipping import skip_rest

if TYPE_CHECKING:
    from airflow.sdk import Context


class RetrainPolicyOperator(PipelineOperator):
    """Decide whether to retrain, from the recorded windows and the ledger alone.

    Returns ``{verdict, reason, run_id, window_end, cause, champion}``, the verdict being ``retrain`` or
    ``keep``, which skips the rest of the run. Idempotent: the decision about a window is the same whenever
    it is taken, and a request is written to the ledger once.

    :param drift: what :class:`DetectDriftOperator` returned; it orders the tasks and is shown beside the
        decision.
    :param policy: ``{signals, violated, of, latest, cooldown_s, min_new_rows, budget_max, budget_per_s}``.
    """

    inherits_from_skipmixin = True
    template_fields = (*PipelineOperator.template_fields, "drift", "policy")
    ui_color = DECIDE

    def __init__(
        self,
        *,
        drift: Upstream = None,
        policy: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.drift = drift
        self.policy = policy

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        decision = decide(
            wire.from_wire(RetrainPolicy, dict(self.policy or {})),
            self.windows.all(),
            retrains(self.ledger),
            window_end=run.window_end,
            champion=champion.version if champion else "",
        )
        reason = self._request(run, decision) if decision.verdict == "retrain" else decision.reason
        self.log.info("%s", reason)
        result = {
            "verdict": decision.verdict,
            "reason": reason,
            "run_id": decision.run_id,
            "window_end": run.window_end.isoformat(),
            "cause": "drift",
            "champion": champion.version if champion else None,
        }
        return result if decision.verdict == "retrain" else skip_rest(context, result)

    def _request(self, run: RunIdentity, decision: RetrainDecision) -> str:
        """Write the request to the ledger, unless it is there; why, as it stands there."""
        event = self.append(
            replace(run, run_id=decision.run_id),
            "retrain_requested",
            reason=decision.reason,
            evidence={"cause": "drift", "checks": wire.to_wire(decision.checks)},
        )
        return event.reason


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
