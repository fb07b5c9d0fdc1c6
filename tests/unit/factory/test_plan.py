"""Plans: what the kernel will make of them, and how two are compared and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlretrain import wire
from mlretrain.drift.policy import DriftPolicy
from mlretrain.gates.canary import Guard
from mlretrain.gates.promotion import Gate
from mlretrain.policy.escalation import Escalation, Paging
from mlretrain.policy.retrain import RetrainPolicy
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.diff import diff
from mlretrain_factory.plan.explain import explain
from mlretrain_factory.plan.model import OUTPUT, Plan, TaskPlan

GOLDEN = Path(__file__).parents[2] / "golden"


def plan_of(path: Path) -> Plan:
    return build_plan(load_source(path, {}, path.parent))


@pytest.fixture(scope="module")
def everything() -> dict[str, TaskPlan]:
    plan = plan_of(GOLDEN / "everything" / "pipeline.yaml")
    return {f"{dag.kind}/{task.task_id}": task for dag in plan.dags for task in dag.tasks}


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
    assert [gate.confidence for gate in gates] == [None, 0.95, None]
    assert [wire.from_wire(Guard, each).max for each in guards] == [0.01, 200]


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
