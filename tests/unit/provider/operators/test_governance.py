"""The run-time check: policies of the plan and of the platform's folder, and tasks that were got round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain import wire
from mlretrain.conduct import judged
from mlretrain.errors import ConfigError, ContractError
from mlretrain.governance import Policy, Require, RequiredApproval, read_policy
from mlretrain.ledger import LedgerEvent
from mlretrain_provider.governance import platform_policies
from mlretrain_provider.operators.approval import ApprovePromotionOperator
from mlretrain_provider.operators.deployment import DeployModelOperator
from mlretrain_provider.operators.registry import PromoteModelOperator, PromotionGateOperator
from tests.fakes.airflow_harness import RUN_AFTER, DagRunHarness, Outcome

PIPELINE = "churn"
SERVING = {"target": "local", "conn_id": "mlretrain_model_server_default"}
POLICY = """\
version: 1
policy: {name}
applies_to: {applies_to}
require: {require}
"""
APPROVAL = "{approval: {required: always, assignees: [alice]}}"
Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Puts a policy into the platform's folder."""
    policies = tmp_path / "policies"
    policies.mkdir()
    monkeypatch.setenv("AIRFLOW__MLRETRAIN__POLICIES", str(policies))

    def put(name: str = "asked", require: str = APPROVAL, applies_to: str = "{pipelines: [churn]}") -> Path:
        path = policies / f"{name}.yaml"
        path.write_text(POLICY.format(name=name, require=require, applies_to=applies_to))
        return path

    return put


class Run:
    """A DAG by hand that does nothing but promote version 1, or ship it, and a ledger written beforehand."""

    def __init__(self, world: Any, **dag: Any) -> None:
        self.world = world
        self.version = world.registry.register(PIPELINE, "models:/m-1", "mlflow-1", {}).version
        self.dag = DAG("churn.retrain", default_args=world.common, **dag)

    def note(self, kind: Any, **fields: Any) -> None:
        given = {"version": self.version, **fields}
        event = LedgerEvent(
            pipeline=PIPELINE, run_id="run-1", kind=kind, at=RUN_AFTER, window_end=RUN_AFTER, **given
        )
        self.world.ledger.append(event)

    def note_verdict(self) -> None:
        evidence = {"gates": [{"metric": "roc_auc", "min": 0.7}], "champion_version": None, "worse": []}
        self.note("gated", outcome="promote", evidence=evidence)

    def note_answer(self, by: str) -> None:
        self.note_verdict()
        (gated,) = self.world.ledger.of_run("run-1", "gated")
        self.note("approved", outcome="approved", by=by, evidence={"judged": judged(gated)})

    def promote(self, **arguments: Any) -> Outcome:
        with self.dag:
            PromoteModelOperator(task_id="promote", version=self.version, **arguments)
        return DagRunHarness(self.dag).run("promote")

    def shipping(self, weight: int = 10) -> DagRunHarness:
        with self.dag:
            DeployModelOperator(
                task_id="shift", version=self.version, weight=weight, strategy="canary", serving=SERVING
            )
        return DagRunHarness(self.dag)


def refused(outcome: Outcome) -> str:
    assert outcome.state == "failed"
    assert isinstance(outcome.error, ContractError)
    return str(outcome.error)


def test_without_policies_a_dag_by_hand_promotes_what_it_likes(world: Any) -> None:
    assert Run(world).promote().state == "success"


def test_a_dag_by_hand_is_held_against_the_platforms_folder(world: Any, folder: Folder) -> None:
    folder()
    run = Run(world)
    assert "asked demands approval, `required: always`, there is no approval" in refused(run.promote())
    assert world.alias("champion") is None


def test_what_the_ledger_shows_is_enough(world: Any, folder: Folder) -> None:
    folder()
    run = Run(world)
    run.note_answer("alice")
    assert run.promote().state == "success"
    assert world.alias("champion") == run.version


def test_an_approval_of_somebody_else_is_none(world: Any, folder: Folder) -> None:
    folder()
    run = Run(world)
    run.note_answer("mallory")
    assert "nobody but alice, there is mallory" in refused(run.promote())


def test_the_policies_of_the_plan_hold_too(world: Any, folder: Folder) -> None:
    folder()
    planned = Policy(name="planned", require=Require(smoke_test="clean"))
    run = Run(world)
    run.note_answer("alice")
    said = refused(run.promote(policies=[wire.to_wire(planned)]))
    assert "planned demands `smoke_test: clean`" in said


def test_a_policy_of_the_plan_with_a_name_of_the_folder_replaces_none(world: Any, folder: Folder) -> None:
    folder(name="twice", require="{smoke_test: job}")
    planned = Policy(
        name="twice", require=Require(approval=RequiredApproval(required="always", assignees=("bob",)))
    )
    said = refused(Run(world).promote(policies=[wire.to_wire(planned)]))
    assert "twice demands `smoke_test: job`" in said
    assert "twice demands approval" in said


@pytest.mark.parametrize(
    ("applies_to", "dag", "applies"),
    [
        ("{}", {}, True),
        ("{pipelines: [other]}", {}, False),
        ("{tags: [payments]}", {"tags": ["payments"]}, True),
        ("{tags: [payments]}", {"tags": ["flights"]}, False),
        ("{tiers: [1]}", {"tags": ["tier:1"]}, True),
        ("{tiers: [1]}", {"tags": ["tier:2"]}, False),
        ("{tiers: [1]}", {"tags": ["tier:one"]}, False),
        ("{owners: [airflow]}", {}, True),
    ],
)
def test_the_dag_tells_which_policies_apply(
    world: Any, folder: Folder, applies_to: str, dag: dict[str, Any], applies: bool
) -> None:
    folder(applies_to=applies_to)
    assert Run(world, **dag).promote().state == ("failed" if applies else "success")


def test_before_any_traffic_all_but_the_rollout_is_there(world: Any, folder: Folder) -> None:
    rollout = "strategies: [canary], first_stage_at_most: 10, stages: [10], guards: [error_rate]"
    folder(require=f"{{mode: enforce, {rollout}}}")
    champion = world.promote()
    served = world.target.current(PIPELINE)
    run = Run(world)
    harness = run.shipping()
    assert "no verdict of the gates" in refused(harness.run("shift"))
    assert world.target.current(PIPELINE) == served
    run.note("gated", outcome="promote", previous=champion, evidence={"champion_version": champion})
    assert harness.run("shift").state == "success"
    assert world.target.current(PIPELINE).served == {champion: 90, run.version: 10}


def test_a_first_stage_that_is_too_large_is_refused(world: Any, folder: Folder) -> None:
    folder(require="{first_stage_at_most: 10}")
    champion = world.promote()
    run = Run(world)
    run.note("gated", outcome="promote", previous=champion)
    assert "at most 10 %" in refused(run.shipping(weight=25).run("shift"))


def test_a_promotion_that_the_ledger_knows_is_finished_whatever_is_demanded_since(
    world: Any, folder: Folder
) -> None:
    run = Run(world)
    with run.dag:
        PromoteModelOperator(task_id="promote", version=run.version)
    harness = DagRunHarness(run.dag)
    assert harness.run("promote").state == "success"
    folder()
    assert harness.run("promote", try_number=2).state == "success"


def test_gates_that_are_less_than_demanded_are_refused_before_they_judge(world: Any, folder: Folder) -> None:
    folder(require="{gates: [{metric: roc_auc, min: 0.8}]}")
    with world.dag() as dag:
        PromotionGateOperator(
            task_id="gate",
            evaluation={"evaluation_uri": "nowhere"},
            gates=[{"metric": "roc_auc", "min": 0.7}],
        )
    assert "a gate at least like {metric: roc_auc, min: 0.8}" in refused(DagRunHarness(dag).run("gate"))


def test_an_approval_that_is_less_than_demanded_asks_nobody(world: Any, folder: Folder) -> None:
    folder()
    with world.dag() as dag:
        ApprovePromotionOperator(task_id="approve", gate=None, assignees=["mallory"])
    said = refused(DagRunHarness(dag).run("approve"))
    assert "approval by nobody but alice, there is mallory" in said


def test_a_task_that_was_marked_as_success_has_shown_nothing(world: Any) -> None:
    run = Run(world)
    run.note_verdict()
    with run.dag:
        approve = ApprovePromotionOperator(task_id="approve", gate=None)
        approve >> PromoteModelOperator(task_id="promote", version=run.version)
    said = refused(DagRunHarness(run.dag).run("promote"))
    assert "task approve demands approval, `required: always`, there is no approval" in said


def test_an_approval_that_is_not_due_is_not_missed(world: Any) -> None:
    run = Run(world)
    run.note_verdict()
    with run.dag:
        approve = ApprovePromotionOperator(task_id="approve", gate=None, required="when_worse")
        approve >> PromoteModelOperator(task_id="promote", version=run.version)
    assert DagRunHarness(run.dag).run("promote").state == "success"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1\npolicy: [", "parsing"),
        ("- 1", "list"),
        ("version: 1\npolicy: p\nrequire: {gates: [{min_suport: 1}]}", "min_suport"),
        ("version: 2\npolicy: p", "version 2"),
        ("version: 1\npolicy: p\nrequires: {}", "requires"),
    ],
)
def test_a_policy_that_cannot_be_read_lets_nothing_through(
    world: Any, folder: Folder, text: str, words: str
) -> None:
    path = folder()
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        platform_policies()
    assert caught.value.where == str(path)
    outcome = Run(world).promote()
    assert outcome.state == "failed"
    assert world.alias("champion") is None


def test_a_folder_that_is_not_there_lets_nothing_through(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLRETRAIN__POLICIES", "/nowhere/policies")
    assert "/nowhere/policies" in str(Run(world).promote().error)


def test_no_folder_no_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLRETRAIN__POLICIES", " ")
    assert platform_policies() == ()


def test_the_folder_and_the_plan_say_the_same_of_a_policy(folder: Folder) -> None:
    folder()
    (found,) = platform_policies()
    said = {"approval": {"required": "always", "assignees": ["alice"]}}
    data = {"version": 1, "policy": "asked", "applies_to": {"pipelines": ["churn"]}, "require": said}
    assert found == read_policy(data, where="here") == wire.from_wire(Policy, wire.to_wire(found))
