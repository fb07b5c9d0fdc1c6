"""A policy of the platform holds for a pipeline, whatever the pipeline and the folders around it say."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan

JUDGED = ("promotion_gate", "promote")
GATES: list[dict[str, Any]] = [
    {"metric": "roc_auc", "min": 0.7},
    {"metric": "roc_auc", "min": 0.8},
    {"metric": "roc_auc", "versus": "champion", "min_improvement": 0.0, "confidence": 0.9},
    {"metric": "roc_auc", "slices": "all", "max_drop": 0.03},
    {"metric": "roc_auc", "slices": "all", "max_drop": 0.1, "min_support": 500},
    {"metric": "latency_p95_ms", "max": 50.0},
]
GUARDS: list[dict[str, Any]] = [
    {"metric": "error_rate", "max": 0.01},
    {"metric": "error_rate", "max": 0.5},
    {"metric": "latency_p95_ms", "versus": "champion", "max_ratio": 1.3},
]
ROLLOUTS: list[dict[str, Any]] = [
    {"strategy": "none"},
    {"strategy": "direct"},
    *(
        {"strategy": strategy, "stages": [{"traffic": share}], "guards": [guard]}
        for strategy, share in (("canary", 5), ("canary", 50), ("blue_green", 100), ("shadow", 20))
        for guard in GUARDS
    ),
]
APPROVALS: list[dict[str, Any]] = [
    {},
    {"required": "always"},
    {"required": "when_worse", "assignees": ["alice"]},
    {"required": "always", "assignees": ["alice", "carol"], "on_timeout": "approve"},
    {"required": "always", "assignees": ["alice"], "reason": "required"},
]
DEMANDS: dict[str, list[Any]] = {
    "mode": ["enforce"],
    "smoke_test": ["job", "clean"],
    "strategies": [["canary"], ["canary", "shadow"]],
    "approval": [{"required": "always", "assignees": ["alice", "bob"], "on_timeout": "reject"}],
    "gates": [[{"slices": "all"}], [{"metric": "roc_auc", "min": 0.75}], [{"versus": "champion"}]],
    "guards": [["error_rate"], [{"metric": "error_rate", "max": 0.1}]],
    "first_stage_at_most": [10],
    "stages": [[50]],
}

policies = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in DEMANDS.items()}
).filter(bool)
pipelines = st.fixed_dictionaries(
    {
        "promote": st.fixed_dictionaries(
            {
                "gates": st.lists(st.sampled_from(GATES), min_size=1, max_size=4),
                "mode": st.sampled_from(["enforce", "dry_run"]),
                "smoke_test": st.sampled_from(["clean", "job", "none"]),
                "approval": st.sampled_from(APPROVALS),
            }
        ),
        "deploy": st.sampled_from(ROLLOUTS),
        "tags": st.sampled_from([[], ["payments"]]),
        "owner": st.sampled_from(["ops", "ml"]),
        "tier": st.sampled_from([1, 2]),
    }
)


def write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def place(root: Path, pipeline: dict[str, Any], policy: dict[str, Any]) -> Path:
    """The pipeline two folders below the policy."""
    write(root / "policies" / "tier-1.yaml", {"version": 1, "policy": "tier-1", "require": policy})
    stack = {"version": 1, "artifacts_uri": "file:///artifacts", "serving": {"conn_id": "models"}}
    write(root / "stacks" / "local.yaml", stack)
    path = root / "team" / "shop" / "pipeline.yaml"
    rest = {
        "version": 1,
        "pipeline": "shop",
        "stack": "local",
        "data": {"training": {"uri": "file:///rows.parquet"}, "target": "y"},
        "train": {"entrypoint": "shop:train"},
        "evaluate": {"metrics": ["roc_auc"], "slices": ["carrier"]},
    }
    write(path, {**rest, **pipeline})
    return path


def faults(path: Path, root: Path, environ: dict[str, str] | None = None) -> set[str]:
    try:
        load_source(path, environ or {}, root)
    except SpecErrors as problem:
        return {f"{fault.path}: {fault.message}" for fault in problem.errors}
    return set()


@settings(max_examples=150, deadline=None)
@given(pipelines, policies)
def test_a_pipeline_that_loads_carries_the_policy_to_where_it_is_judged(
    pipeline: dict[str, Any], policy: dict[str, Any]
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        path = place(root, pipeline, policy)
        if not faults(path, root):
            tasks = [task for dag in build_plan(load_source(path, {}, root)).dags for task in dag.tasks]
            judged = [
                task for task in tasks if task.task_id in JUDGED or task.operator == "DeployModelOperator"
            ]
            assert {task.task_id for task in judged} >= set(JUDGED)
            for task in judged:
                assert [each["name"] for each in task.args["policies"]] == ["tier-1"]


@settings(max_examples=150, deadline=None)
@given(pipelines, policies, policies, st.sampled_from(["team", "team/shop"]))
def test_nothing_nearer_takes_a_demand_away(
    pipeline: dict[str, Any], policy: dict[str, Any], nearer: dict[str, Any], where: str
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        path = place(root, pipeline, policy)
        before = faults(path, root)
        # The same name, so that a nearer file would win if files of policies did as those of stacks do.
        write(
            root / where / "policies" / "tier-1.yaml", {"version": 1, "policy": "tier-1", "require": nearer}
        )
        write(root / where / "defaults.yaml", {"promote": {"approval": {}}, "tier": 9, "owner": "nobody"})
        assert before <= faults(path, root)


@settings(max_examples=50, deadline=None)
@given(pipelines, policies)
def test_a_policy_from_airflows_configuration_holds_like_one_in_the_folder(
    pipeline: dict[str, Any], policy: dict[str, Any]
) -> None:
    with TemporaryDirectory() as folder, TemporaryDirectory() as platform:
        root = Path(folder)
        path = place(root, pipeline, policy)
        found = faults(path, root)
        (root / "policies").rename(Path(platform) / "rules")
        environ = {"AIRFLOW__MLRETRAIN__POLICIES": f"{platform}/rules"}
        assert faults(path, root, environ) == found
