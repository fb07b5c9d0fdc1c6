"""Plans: what the kernel will make of them, and how two are compared and explained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mlretrain import wire
from mlretrain.drift.policy import DriftPolicy
from mlretrain.gates.canary import Guard
from mlretrain.gates.promotion import Gate
from mlretrain.governance import Policy, violations
from mlretrain.policy.escalation import Escalation, Paging
from mlretrain.policy.retrain import RetrainPolicy
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.diff import diff
from mlretrain_factory.plan.explain import explain
from mlretrain_factory.plan.model import OUTPUT, Plan, TaskPlan
from mlretrain_factory.policies import terms_of

GOLDEN = Path(__file__).parents[2] / "golden"


def plan_of(path: Path) -> Plan:
    return build_plan(load_source(path, {}, path.parent))


@pytest.fixture(scope="module")
def everything() -> dict[str, TaskPlan]:
    plan = plan_of(GOLDEN / "everything" / "pipeline.yaml")
    return {f"{dag.kind}/{task.task_id}": task for dag in plan.dags for task in dag.tasks}


def test_a_scoring_on_promotion_waits_for_the_champion(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "score", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "pipeline.yaml"
    path.write_text(path.read_text().replace('cron: "@daily"', "on_promotion: true"))
    score = plan_of(path).dag("score")

    assert score is not None
    assert score.schedule is not None
    assert (score.schedule.cron, score.schedule.assets) == (None, ("x-mlretrain://score/champion",))


def argument(tasks: dict[str, TaskPlan], task: str, name: str) -> Any:
    return wire.to_wire(tasks[task].args[name])


def test_the_kernel_reads_every_policy(everything: dict[str, TaskPlan]) -> None:
    drift = wire.from_wire(DriftPolicy, argument(everything, "monitor/detect_drift", "policy"))
    retrain = wire.from_wire(RetrainPolicy, argument(everything, "monitor/decide_retrain", "policy"))
    gates = [wire.from_wire(Gate, each) for each in argument(everything, "retrain/promotion_gate", "gates")]
    guards = argument(everything, "retrain/rollout.stage_1.decide", "guards")
    assert (drift.share, drift.min_rows, drift.prediction_threshold) == (0.5, 500, 0.2)
    assert drift.columns["a"] == wire.from_wire(type(drift.defaults), {"method": "ks", "threshold": 0.2})
    assert drift.columns["b"] == wire.from_wire(type(drift.defaults), {"method": "psi"})
    assert drift.columns["c"] == "ignore"
    assert (drift.missing, drift.new_categories) == (0.1, 0.02)
    assert (retrain.violated, retrain.of, retrain.cooldown_s) == (2, 4, 14 * 86_400)
    assert (retrain.warm_up, retrain.when.any[:2]) == (2, ("drift", "performance"))
    assert [each.text for each in retrain.blackout] == [
        "holidays (2026-12-20 to 2027-01-05)",
        "12-20 to 01-05 each year",
        "sat, sun",
    ]
    assert retrain.escalation == Escalation(warn=2, page=Paging(failed_retrains=3, unknown=2))
    assert [gate.method for gate in gates if gate.confidence] == ["bootstrap", "delong"]
    assert [gate.min_support for gate in gates if gate.slices or gate.groups] == [50, 200]
    assert [gate.max_ratio for gate in gates if gate.max_ratio] == [1.5]
    assert gates[-1] == Gate(function="shop.gates:check")
    assert [str(wire.from_wire(Guard, each)) for each in guards] == [
        "≤ 0.01",
        "≤ 200",
        "≤ champion + 0.005",
        "≤ 1.3 times champion",
        "≤ 0.1",
    ]


def test_the_kernel_reads_the_platforms_policies() -> None:
    source = load_source(GOLDEN / "governed" / "pipeline.yaml", {}, GOLDEN / "governed")
    tasks = {task.task_id: task for task in build_plan(source).dags[0].tasks}
    for name in ("promotion_gate", "rollout.stage_1.shift", "promote"):
        carried = wire.to_wire(tasks[name].args["policies"])
        assert tuple(wire.from_wire(Policy, each) for each in carried) == source.policies
    assert [policy.name for policy in source.policies] == ["ops", "tier-1"]
    assert all(violations(policy, terms_of(source.spec)) == [] for policy in source.policies)


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/plan.json")))
def test_every_reference_is_to_a_task_before(case: str) -> None:
    for dag in plan_of(GOLDEN / case / "pipeline.yaml").dags:
        seen: set[str] = set()
        for task in dag.tasks:
            referred = {
                value[OUTPUT] for value in task.args.values() if isinstance(value, dict) and OUTPUT in value
            }
            assert {*task.upstream, *referred} <= seen, task.task_id
            seen.add(task.task_id)


def test_a_plan_travels() -> None:
    plan = plan_of(GOLDEN / "everything" / "pipeline.yaml")
    assert wire.from_wire(Plan, wire.to_wire(plan)).digest == plan.digest


def test_diff_names_the_single_argument(tmp_path: Path) -> None:
    old = GOLDEN / "canary" / "pipeline.yaml"
    new = tmp_path / "pipeline.yaml"
    text = old.read_text().replace("min: 0.7", "min: 0.8").replace("{traffic: 10, bake: 10m}, ", "")
    new.write_text(text)
    (tmp_path / "stacks").symlink_to(old.parent / "stacks")
    lines = diff(plan_of(old), plan_of(new))
    assert "~ canary.retrain/promotion_gate.args.gates[0].min: 0.7 → 0.8" in lines
    assert any(line.startswith("- canary.retrain/rollout.stage_2.shift") for line in lines)
    assert diff(plan_of(old), plan_of(old)) == []


def test_explain_says_when_what_and_why() -> None:
    text = explain(plan_of(GOLDEN / "everything" / "pipeline.yaml"))
    assert "everything.retrain: 0 6 * * 1 (America/New_York)" in text
    assert "everything.monitor: when updated: x-lake://predictions" in text
    assert "in 2 of the last 4 windows; at the earliest with the 3rd window that a champion" in text
    assert (
        "Retrains again at the earliest 14d after the last one, with 5000 new rows, at most 6 in 30d" in text
    )
    assert "decide_retrain after if none failed: detect_drift, measure_performance" in text
    assert "roll_back after if one failed: rollout.stage_1.shift" in text


def test_diff_and_explain_know_where_jobs_run(tmp_path: Path) -> None:
    old = GOLDEN / "kubernetes" / "pipeline.yaml"
    (tmp_path / "stacks").symlink_to(old.parent / "stacks")
    new = tmp_path / "pipeline.yaml"
    new.write_text(old.read_text().replace("team: fraud\n", "").replace("nodes: 2", "nodes: 3"))
    lines = diff(plan_of(old), plan_of(new))
    assert '~ on-kubernetes.retrain.defaults.backend_options.namespace: "fraud" → "ml"' in lines
    assert "~ on-kubernetes.retrain/train.args.nodes: 2 → 3" in lines
    memory = "~ on-kubernetes.retrain/train.args.job_resources.memory: 34359738368 → 17179869184"
    assert memory in lines
    text = explain(plan_of(old))
    assert "  jobs on kubernetes: annotations=" in text
    assert 'namespace="fraud"' in text
    assert "jobs on" not in text.partition("on-kubernetes.rollback")[2]


def test_explain_tells_of_a_search() -> None:
    text = explain(plan_of(GOLDEN / "tune" / "pipeline.yaml"))
    assert "Searches `booster`, `learning_rate`, `leaves`, `max_depth`, `subsample` in 30 trials" in text
    assert "3 at a time, for the lowest `log_loss`" in text
    assert "tune after data_gate: TuneModelOperator(" in text
    assert "train after tune: TrainModelOperator(" in text


def tasks_of(case: str) -> dict[str, TaskPlan]:
    return {task.task_id: task for task in plan_of(GOLDEN / case / "pipeline.yaml").dags[0].tasks}


def test_blue_green_makes_ready_before_it_shifts_and_keeps_the_old_one() -> None:
    tasks = tasks_of("blue_green")
    prepare, shift = tasks["rollout.prepare"], tasks["rollout.stage_1.shift"]
    assert (prepare.args["mode"], shift.args["weight"], shift.args["keep"]) == ("standby", 100, True)
    assert shift.upstream == ("rollout.prepare",)
    assert "rollout.prepare" in tasks["roll_back"].upstream


def test_a_shadow_mirrors_and_promotion_gives_it_everything() -> None:
    tasks = tasks_of("shadow")
    shift = tasks["rollout.stage_1.shift"]
    assert (shift.args["mode"], shift.args["weight"]) == ("mirror", 20)
    assert tasks["rollout.stage_1.observe"].args["predictions"] == {"uri": "s3://rows/answers/*.parquet"}
    assert tasks["promote"].upstream == ("rollout.stage_1.decide",)
    assert "smoke_test" not in tasks


def test_nothing_moves_before_the_candidate_is_tested_judged_and_approved() -> None:
    tasks = tasks_of("governed")
    chain = ["register", "smoke_test", "promotion_gate", "approve", "rollout.stage_1.shift"]
    assert [tasks[name].upstream[0] for name in chain[1:]] == chain[:-1]
    assert tasks["promotion_gate"].args["smoke_test"] == {OUTPUT: "smoke_test"}


def test_explain_tells_of_approval_strategy_and_policies() -> None:
    text = explain(plan_of(GOLDEN / "governed" / "pipeline.yaml"))
    assert "  served by local: conn_id=" in text
    assert "Then alice must approve within 8h and give a reason; no answer rejects." in text
    assert "Policy `tier-1` (Models that people notice within the hour) demands a gate at least like" in text
    assert "approval `always` by alice or bob; the strategy `canary` or `shadow`; at most 10 %" in text
    assert "policies=[ops, tier-1]" in text
    text = explain(plan_of(GOLDEN / "blue_green" / "pipeline.yaml"))
    assert "the champion stays ready for 30m and takes it back on `error_rate` above 0.01 or" in text
    text = explain(plan_of(GOLDEN / "shadow" / "pipeline.yaml"))
    assert "Gets copies of 20 % of the requests for 1d, which the champion answers" in text


def test_diff_shows_what_changed_in_a_policy(tmp_path: Path) -> None:
    old = GOLDEN / "governed"
    shutil.copytree(old, tmp_path, dirs_exist_ok=True)
    policy = tmp_path / "policies" / "tier-1.yaml"
    policy.write_text(policy.read_text().replace("first_stage_at_most: 10", "first_stage_at_most: 5"))
    lines = diff(plan_of(old / "pipeline.yaml"), plan_of(tmp_path / "pipeline.yaml"))
    assert "~ governed.retrain/promote.args.policies[1].require.first_stage_at_most: 10 → 5" in lines
