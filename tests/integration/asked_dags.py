"""DAGs by hand whose promotion a person decides; copied into the DAGs folder of a real Airflow."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Context

from mlretrain import wire
from mlretrain.gates.evaluation import Evaluation, Scores, SliceScores
from mlretrain.ports import CHAMPION
from mlretrain_provider.operators.approval import ApprovePromotionOperator
from mlretrain_provider.operators.pipeline import PipelineOperator
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.registry import PromoteModelOperator, PromotionGateOperator
from mlretrain_provider.run import RunIdentity

CARRIERS = {"AA": 0.741, "B6": 0.702, "DL": 0.755, "UA": 0.688}
GATES = [
    {"metric": "roc_auc", "min": 0.7},
    {"metric": "roc_auc", "versus": "champion", "min_improvement": -0.02},
    {"metric": "roc_auc", "slices": "all", "max_drop": 0.05},
    {"metric": "latency_p95_ms", "max": 50},
]


class CandidateOperator(PipelineOperator):
    """A version of the model that is already trained, with the scores that ``conf`` says."""

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        made_by = self.tracker.open_run(self.pipeline, run.run_id, run.run_id, {})
        version = self.registry.register(self.pipeline, f"s3://models/{made_by}", made_by, {})
        self.append(run, "registered", version=version.version, reason=run.reason)
        evaluation = Evaluation(
            holdout_sha256="a" * 64,
            rows=4000,
            candidate=_scores(float(run.conf.get("auc", 0.74))),
            champion=_scores(0.73) if champion else None,
            champion_version=champion.version if champion else None,
        )
        path = f"{self.folder(run, 'evaluate')}/evaluation.json"
        self.store.write(path, wire.pretty(evaluation))
        return {"evaluation_uri": self.artifact_uri(path), "version": version.version}


def _scores(auc: float) -> Scores:
    slices = {
        carrier: SliceScores(n=1000, metrics={"roc_auc": each + auc - 0.73})
        for carrier, each in CARRIERS.items()
    }
    return Scores(
        holdout_sha256="a" * 64,
        metrics={"roc_auc": auc, "latency_p95_ms": 8.5},
        slices={"carrier": slices},
    )


def asked(pipeline: str, **approval: Any) -> DAG:
    """A retraining of ``pipeline``; without any setting nobody is asked."""
    common = {
        "pipeline": pipeline,
        "artifacts_uri": f"file://{os.environ['MLRETRAIN_HOME']}/artifacts",
    }
    with DAG(f"{pipeline}.retrain", default_args=common, tags=["asked"]) as dag:
        candidate = CandidateOperator(task_id="candidate", **common)
        gate = PromotionGateOperator(task_id="promotion_gate", evaluation=candidate.output, gates=GATES)
        promote = PromoteModelOperator(task_id="promote", version=candidate.output)
        record = RecordRunOperator(task_id="record").as_teardown()
        if approval:
            approve = ApprovePromotionOperator(task_id="approve", gate=gate.output, **approval)
            gate >> approve >> promote
        gate >> promote >> record
    return dag


PEOPLE = ["alice", "bob"]
for _dag in (
    asked("asked", assignees=PEOPLE),
    asked("reasoned", assignees=PEOPLE, reason="required"),
    asked("late-reject", assignees=PEOPLE, timeout_s=3, on_timeout="reject"),
    asked("late-approve", assignees=PEOPLE, timeout_s=3, on_timeout="approve"),
    asked("if-worse", assignees=PEOPLE, required="when_worse"),
    asked("never-asked"),
):
    globals()[_dag.dag_id] = _dag
