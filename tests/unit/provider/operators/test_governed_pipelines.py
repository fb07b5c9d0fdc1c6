"""A pipeline written in YAML that lint accepts under a policy is promoted under it, whatever its strategy.

The policy is judged twice, of the file and of the run's ledger: both must come to the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlretrain.gates.promotion import Evaluation, Scores, SliceScores
from mlretrain.ledger import LedgerEvent
from mlretrain.ports import VersionStats
from mlretrain.wire import to_wire
from mlretrain_factory.to_airflow import load
from mlretrain_provider.answers import APPROVE
from tests.fakes.airflow_harness import RUN_AFTER, DagRunHarness

PIPELINE = """\
version: 1
pipeline: churn
stack: local
tier: 1
data: {{training: {{uri: "file:///data/rows.parquet"}}, target: y}}
train: {{entrypoint: "churn.train:train"}}
evaluate: {{metrics: [roc_auc], slices: [carrier]}}
promote:
  gates:
    - {{metric: roc_auc, versus: champion, min_improvement: 0}}
    - {{metric: roc_auc, slices: all, max_drop: 0.03, min_support: 50}}
  approval: {{required: always, assignees: [alice], reason: required}}
deploy: {deploy}
"""
POLICY = """\
version: 1
policy: tier-1
applies_to: {{tiers: [1]}}
require:
  mode: enforce
  strategies: [{strategy}]
  approval: {{required: always, assignees: [alice, bob], on_timeout: reject, reason: required}}
  gates: [{{slices: all}}, {{versus: champion}}]
  smoke_test: clean
  {more}
"""
GUARDS = "guards: [{metric: error_rate, max: 0.01}]"
WATCHED = "guards: [{metric: error_rate, max: 0.05}]"
ROLLOUTS = {
    "direct": ("{strategy: direct}", ""),
    "guarded": (f"{{strategy: direct, stages: [{{traffic: 100}}], {GUARDS}, min_requests: 5}}", WATCHED),
    "canary": (
        f"{{strategy: canary, stages: [{{traffic: 10}}, {{traffic: 50}}], {GUARDS}, min_requests: 5}}",
        f"{WATCHED}\n  stages: [10, 50]\n  first_stage_at_most: 10",
    ),
    "blue_green": (
        f"{{strategy: blue_green, stages: [{{traffic: 100}}], {GUARDS}, min_requests: 5}}",
        WATCHED,
    ),
    "shadow": (
        f"{{strategy: shadow, stages: [{{traffic: 20}}], {GUARDS}, min_requests: 5}}",
        f"{WATCHED}\n  first_stage_at_most: 10",
    ),
}


def scores(auc: float) -> Scores:
    metrics = {"roc_auc": auc}
    return Scores(
        holdout_sha256="a" * 64,
        metrics=metrics,
        slices={"carrier": {"AA": SliceScores(n=90, metrics=metrics)}},
    )


class Case:
    """A run of the pipeline under the policy, beside a champion, up to its smoke test."""

    def __init__(self, world: Any, folder: Path, rollout: str) -> None:
        deploy, more = ROLLOUTS[rollout]
        strategy = "direct" if rollout == "guarded" else rollout
        stack = f"version: 1\nartifacts_uri: {world.artifacts_uri}\nserving: {{conn_id: models}}\n"
        for path, text in {
            "stacks/local.yaml": stack,
            "policies/tier-1.yaml": POLICY.format(strategy=strategy, more=more),
            "churn.pipeline.yaml": PIPELINE.format(deploy=deploy),
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        dag = next(
            each for each in load(folder / "churn.pipeline.yaml", folder) if each.dag_id == "churn.retrain"
        )
        self.world = world
        self.run = DagRunHarness(dag)
        self.champion = world.promote()
        self.give("train", model_uri="models:/m-1", mlflow_run_id="mlflow-run-1", key="abc")
        evaluation = Evaluation(
            holdout_sha256="a" * 64,
            rows=90,
            candidate=scores(0.8),
            champion=scores(0.75),
            champion_version=self.champion,
        )
        self.give(
            "evaluate",
            evaluation_uri=world.put("evaluation.json", to_wire(evaluation)),
            champion_version=self.champion,
        )
        self.passes("register")

    def give(self, task_id: str, **result: Any) -> None:
        """What a job's task would have returned."""
        self.run.supervisor.xcoms[task_id, "return_value"] = result

    def passes(self, task_id: str) -> None:
        done = self.run.run(task_id)
        assert done.state == "success", (task_id, done.error)

    def test(self, environment: str = "clean") -> None:
        result = {"passed": True, "reason": "7 checks hold", "environment": environment}
        self.give("smoke_test", **result)
        event = LedgerEvent(
            pipeline="churn",
            run_id="run-1",
            kind="tested",
            version="2",
            outcome="passed",
            at=RUN_AFTER,
            window_end=RUN_AFTER,
            evidence=result,
        )
        self.world.ledger.append(event)

    def approve(self) -> None:
        event = {
            "chosen_options": [APPROVE],
            "params_input": {"reason": "it is better"},
            "responded_at": RUN_AFTER,
            "responded_by_user": {"id": "alice", "name": "Alice"},
            "timedout": False,
        }
        assert self.run.resume(self.run.run("approve"), "approve", event).state == "success"

    @property
    def stages(self) -> list[str]:
        """What gives it traffic, and what judges that; waiting in between is the sensor's own affair."""
        tasks = [task.task_id for task in self.run.dag.tasks]
        return [each for each in tasks if each.endswith((".prepare", ".shift", ".decide"))]

    def roll_out(self) -> None:
        for task_id in self.stages:
            for version in (self.champion, "2"):
                self.world.target.stats[version] = VersionStats(requests=1000)
            self.passes(task_id)


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_what_lint_accepts_is_promoted(world: Any, tmp_path: Path, rollout: str) -> None:
    case = Case(world, tmp_path / "dags", rollout)
    case.test()
    case.passes("promotion_gate")
    case.approve()
    case.roll_out()
    case.passes("promote")
    assert world.alias("champion") == "2"
    assert world.target.current("churn").served == {"2": 100}


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("left_out", ["test", "promotion_gate", "approve", "roll_out"])
def test_what_somebody_marks_as_success_promotes_nothing(
    world: Any, tmp_path: Path, rollout: str, left_out: str
) -> None:
    case = Case(world, tmp_path / "dags", rollout)
    if left_out == "roll_out" and not case.stages:
        pytest.skip("it has no stages")
    acts = {
        "test": case.test,
        "promotion_gate": lambda: case.passes("promotion_gate"),
        "approve": case.approve,
    }
    for name, act in acts.items():
        if name == left_out:
            continue
        if name == "approve" and left_out == "promotion_gate":
            continue  # there is no verdict to approve
        if name == "promotion_gate" and left_out == "test":
            case.give("smoke_test", passed=True, reason="somebody says so")
        act()
    refused = case.run.run("promote")
    assert refused.state == "failed"
    assert "this is not allowed yet" in str(refused.error)
    assert world.alias("champion") == case.champion
    assert world.target.current("churn").served == {case.champion: 100}
