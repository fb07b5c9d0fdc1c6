"""Golden cases: a pipeline and what becomes of it. ``--update-golden`` rewrites them; read the diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlretrain import wire
from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan

HERE = Path(__file__).parent
GOOD = sorted(path.parent.name for path in HERE.glob("*/plan.json"))
DAGS = sorted(path.parent.name for path in HERE.glob("*/dag.json"))
BAD = sorted(path.parent.name for path in HERE.glob("*/error.txt"))


def check(golden: Path, found: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    assert found == golden.read_text()


@pytest.mark.parametrize("case", GOOD)
def test_plan(case: str, request: pytest.FixtureRequest) -> None:
    plan = build_plan(load_source(HERE / case / "pipeline.yaml", {}, HERE / case))
    found = json.dumps(wire.to_wire(plan), indent=1, sort_keys=True, ensure_ascii=False)
    check(HERE / case / "plan.json", found + "\n", request)


@pytest.mark.airflow
@pytest.mark.parametrize("case", DAGS)
def test_dag(case: str, request: pytest.FixtureRequest) -> None:
    to_airflow = pytest.importorskip("mlretrain_factory.to_airflow")
    dags = {dag.dag_id: shape(dag) for dag in to_airflow.load(HERE / case / "pipeline.yaml", HERE / case)}
    found = json.dumps(dags, indent=1, sort_keys=True, ensure_ascii=False, default=str)
    check(HERE / case / "dag.json", found + "\n", request)


@pytest.mark.parametrize("case", BAD)
def test_error(case: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(SpecErrors) as caught:
        load_source(HERE / case / "pipeline.yaml", {}, HERE / case)
    check(HERE / case / "error.txt", f"{caught.value}\n".replace(f"{HERE}/", ""), request)


def shape(dag: Any) -> dict[str, Any]:
    """What people see of a DAG, and what Airflow acts on."""
    return {
        "schedule": dag.timetable.__class__.__name__,
        "params": dag.params.dump(),
        "tags": sorted(dag.tags),
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "tasks": {
            task.task_id: {
                "operator": type(task).__name__,
                "upstream": sorted(task.upstream_task_ids),
                "trigger_rule": str(task.trigger_rule),
                "teardown": task.is_teardown,
                "retries": task.retries,
                "timeout": task.execution_timeout,
                "owner": task.owner,
            }
            for task in dag.tasks
        },
    }
