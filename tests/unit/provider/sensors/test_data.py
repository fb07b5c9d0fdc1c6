"""NewDataSensor over real files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.sensors.data import NewDataSensor
from tests.fakes.airflow_harness import DagRunHarness, Outcome
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.airflow


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry()
    monkeypatch.setattr(MLflowHook, "registry", lambda self: fake)
    return fake


def write(folder: Path, month: int, rows: int = 10) -> None:
    lines = [f"2026-{month:02}-{day + 1:02}T00:00:00,{day}" for day in range(rows)]
    (folder / f"{month:02}.csv").write_text("\n".join(["at,value", *lines]) + "\n")


def run(folder: Path, **settings: Any) -> Outcome:
    given = {"uri": f"file://{folder}/*.csv", "time_column": "at", "mode": "reschedule", **settings}
    with DAG("waits") as dag:
        NewDataSensor(task_id="wait", **given)
    return DagRunHarness(dag).run("wait")


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize(
    ("least", "state"),
    [
        ({"min_rows": 20}, "success"),
        ({"min_rows": "{{ 10 + 10 }}"}, "success"),
        ({"min_rows": 20, "min_files": 2}, "success"),
    ],
)
def test_enough_ends_the_wait(tmp_path: Path, mode: str, least: dict[str, Any], state: str) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)

    outcome = run(tmp_path, mode=mode, **least)

    assert (outcome.state, outcome.result) == (state, {"rows": 20, "files": 2, "since": None})


@pytest.mark.parametrize("least", [{"min_rows": 21}, {"min_files": 3}, {"min_rows": 20, "min_files": 3}])
def test_less_does_not(tmp_path: Path, least: dict[str, Any]) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)

    assert run(tmp_path, **least).state == "up_for_reschedule"


def test_nothing_yet_is_waited_for(tmp_path: Path) -> None:
    assert run(tmp_path, min_rows=1).state == "up_for_reschedule"


def test_poking_sees_later_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: write(tmp_path, 1))

    assert run(tmp_path, min_rows=10, mode="poke").state == "success"


def test_only_what_came_later_counts(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)

    outcome = run(tmp_path, min_rows=8, since="2026-02-03")

    assert outcome.result["rows"] == 8
    assert run(tmp_path, min_rows=9, since="2026-02-03").state == "up_for_reschedule"


def test_by_default_what_the_champion_has_not_seen(tmp_path: Path, registry: FakeRegistry) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    end = datetime(2026, 2, 1, tzinfo=UTC).isoformat()
    registry.register("flights", "models:/m-1", "run", {"mlretrain.window_end": end})

    assert run(tmp_path, min_rows=1, pipeline="flights").result["rows"] == 20

    registry.set_alias("flights", "champion", "1")

    outcome = run(tmp_path, min_rows=1, pipeline="flights")
    assert (outcome.result["rows"], outcome.result["since"]) == (10, end)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "min_rows, min_files"),
        ({"min_rows": 1, "since": "2026-01-01", "time_column": None}, "time column"),
        ({"min_rows": 1, "since": "yesterday"}, "not an ISO 8601 time"),
    ],
)
def test_wrong_settings_fail_for_good(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    outcome = run(tmp_path, **settings)

    assert outcome.state == "failed"
    assert words in str(outcome.error)
