"""Watching: what is measured, remembered and decided about a window, and the one retraining it may start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain.drift.grid import Grid
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.runtime.contract import parse_request
from mlretrain.runtime.store import read_uri
from mlretrain.windows import WindowLog
from mlretrain.wire import to_wire
from mlretrain_provider.operators.monitoring import DetectDriftOperator
from mlretrain_provider.operators.profiling import ProfileDataOperator
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.retraining import RetrainPolicyOperator, TriggerRetrainOperator
from tests.fakes.airflow_harness import DagRunHarness

WINDOW = {"start": "2026-03-02T06:00:00+00:00", "end": "2026-03-09T06:00:00+00:00"}
POLICY = {"violated": 1, "of": 1, "cooldown_s": 86400.0}


def profile(counts: tuple[int, ...]) -> dict[str, Any]:
    column = ColumnProfile(
        name="x",
        kind="numeric",
        n=sum(counts),
        grid=Grid(center=0.0, scale=1.0),
        cells=tuple(range(len(counts))),
        counts=counts,
        mean=0.0,
        sd=1.0,
    )
    return dict(to_wire(DriftProfile(rows=sum(counts), columns=(column,))))


@pytest.fixture
def champion(world: Any) -> str:
    uri = world.put("reference.json", profile((1000, 1000, 1000)))
    return str(world.promote(**{"mlretrain.profile_uri": uri}))


def monitor_dag(world: Any, counts: tuple[int, ...] = (3000, 0, 0)) -> DAG:
    current = {"profile_uri": world.put("current.json", profile(counts)), "rows": sum(counts), **WINDOW}
    dag: DAG = world.dag("churn.monitor")
    with dag:
        drift = DetectDriftOperator(task_id="detect_drift", profile=current)
        decision = RetrainPolicyOperator(task_id="decide_retrain", drift=drift.output, policy=POLICY)
        trigger = TriggerRetrainOperator(
            task_id="trigger_retrain", decision=decision.output, trigger_dag_id="churn.retrain"
        )
        drift >> decision >> trigger >> RecordRunOperator(task_id="record", kind="monitor")
    return dag


def windows(world: Any) -> Any:
    return WindowLog(world.store, "churn").all()


def test_drift_is_measured_reported_remembered_and_charted(world: Any, champion: str) -> None:
    run = DagRunHarness(monitor_dag(world))
    result = run.run("detect_drift").result
    assert (result["verdict"], result["drifted"], result["champion"]) == ("drift", ["x"], champion)
    html = world.store.read(result["report_uri"].removeprefix(world.artifacts_uri + "/"))
    assert b"churn" in html
    (window,) = windows(world)
    assert (window.signals["drift"], window.rows, window.champion) == (True, 3000, champion)
    assert window.signals == result["signals"]
    assert window.profile_uri is not None
    assert (window.window_end - window.window_start).days == 7
    (charted,) = world.tracker.runs.values()
    assert charted.name == "monitor 2026-03-09T06:00"
    assert charted.metrics["drift_share"] == 1.0
    assert charted.metrics["drift.x"] > 0.5
    assert charted.status == "FINISHED"
    assert charted.files["drift.html"] == html
    assert result["summary"] in charted.description
    assert run.run("record").result["event"] == "drift"


def test_measuring_again_leaves_one_window_and_one_chart(world: Any, champion: str) -> None:
    run = DagRunHarness(monitor_dag(world))
    assert run.run("detect_drift").result == run.run("detect_drift", try_number=2).result
    assert len(windows(world)) == len(world.tracker.runs) == 1


def test_too_few_rows_say_why_nothing_is_known(world: Any, champion: str) -> None:
    run = DagRunHarness(monitor_dag(world, (30, 0, 0)))
    result = run.run("detect_drift").result
    assert (result["verdict"], result["summary"]) == (
        "unknown",
        "unknown: 30 rows, at least 1000 are needed",
    )
    assert windows(world)[0].signals["drift"] is None
    assert run.run("decide_retrain").result["verdict"] == "keep"


def test_a_window_that_could_not_be_profiled_is_recorded_and_told(world: Any, champion: str) -> None:
    dag: DAG = world.dag("churn.monitor")
    with dag:
        unread = {"profile_uri": None, "rows": 0, "unknown": "the file is gone", **WINDOW}
        DetectDriftOperator(task_id="detect_drift", profile=unread)
    result = DagRunHarness(dag).run("detect_drift").result
    assert (result["verdict"], result["summary"]) == ("unknown", "unknown: the file is gone")
    (window,) = windows(world)
    assert set(window.signals.values()) == {None}
    assert (window.rows, window.profile_uri, window.summary) == (0, None, result["summary"])
    (charted,) = world.tracker.runs.values()
    assert "the file is gone" in charted.description


@pytest.mark.parametrize("content", [{"version": 1}, {"version": 2, "rows": "many"}, None])
def test_a_broken_profile_of_the_champion_leaves_the_window_unknown(world: Any, content: Any) -> None:
    uri = f"{world.artifacts_uri}/gone.json" if content is None else world.put("reference.json", content)
    world.promote(**{"mlretrain.profile_uri": uri})
    result = DagRunHarness(monitor_dag(world)).run("detect_drift").result
    assert result["verdict"] == "unknown"
    assert uri in result["summary"]


def test_importance_weighs_what_drifted(world: Any) -> None:
    uri = world.put("reference.json", profile((1000, 1000, 1000)))
    importance = world.put("importance.json", {"method": "native", "values": {"x": 0.0, "y": 1.0}})
    world.promote(**{"mlretrain.profile_uri": uri, "mlretrain.importance_uri": importance})
    result = DagRunHarness(monitor_dag(world)).run("detect_drift").result
    assert (result["verdict"], result["share"]) == ("drift", 1.0)  # nothing else is measured


def test_another_window_may_be_the_reference(world: Any, champion: str) -> None:
    dag: DAG = world.dag("churn.monitor")
    with dag:
        both = {
            "profile_uri": world.put("current.json", profile((3000, 0, 0))),
            "reference_profile_uri": world.put("before.json", profile((2990, 10, 0))),
            "against": "the window before",
            "rows": 3000,
            **WINDOW,
        }
        DetectDriftOperator(task_id="detect_drift", profile=both)
    result = DagRunHarness(dag).run("detect_drift").result
    assert result["verdict"] == "stable"
    report = json.loads(
        world.store.read(result["report_uri"].removeprefix(world.artifacts_uri + "/")[:-4] + "json")
    )
    assert report["reference"] == "the window before"


def test_without_a_champion_there_is_nothing_to_compare_with(world: Any) -> None:
    run = DagRunHarness(monitor_dag(world))
    assert run.run("detect_drift").state == "skipped"
    assert run.run("record").result["event"] == "skipped"


def test_a_champion_without_a_profile_is_an_error_with_a_remedy(world: Any) -> None:
    world.promote()
    outcome = DagRunHarness(monitor_dag(world)).run("detect_drift", retries_left=True)
    assert outcome.state == "failed"
    assert "churn version 1: the champion has no profile" in str(outcome.error)


def test_drift_starts_one_retraining_however_often_it_is_asked(world: Any, champion: str) -> None:
    run = DagRunHarness(monitor_dag(world))
    run.run("detect_drift")
    decision = run.run("decide_retrain").result
    assert (decision["verdict"], decision["run_id"]) == ("retrain", "drift__20260309T060000Z")
    assert run.run("trigger_retrain").state == "success"
    assert run.run("decide_retrain", try_number=2).result == decision
    assert run.run("trigger_retrain", try_number=2).state == "skipped"
    ((started, message),) = run.supervisor.dag_runs.items()
    assert started == ("churn.retrain", "drift__20260309T060000Z")
    assert message.conf == {
        "reason": decision["reason"],
        "window_end": "2026-03-09T06:00:00+00:00",
        "cause": "drift",
    }
    assert message.note == decision["reason"]
    assert message.logical_date is None
    assert len(world.ledger.events("retrain_requested")) == 1


def test_airflows_database_may_be_lost_between_decision_and_window(world: Any, champion: str) -> None:
    first = DagRunHarness(monitor_dag(world))
    first.run("detect_drift")
    decision = first.run("decide_retrain").result
    rebuilt = DagRunHarness(monitor_dag(world), run_id="another")
    rebuilt.run("detect_drift")
    assert rebuilt.run("decide_retrain").result == decision
    assert len(world.ledger.events("retrain_requested")) == 1


def test_a_window_that_asked_says_the_same_under_the_champion_that_came_of_it(
    world: Any, champion: str
) -> None:
    run = DagRunHarness(monitor_dag(world))
    run.run("detect_drift")
    decision = run.run("decide_retrain").result
    uri = world.put("learnt.json", profile((3000, 0, 0)))
    learnt = world.promote("mlflow-run-1", **{"mlretrain.profile_uri": uri})
    again = DagRunHarness(monitor_dag(world), run_id="again")
    assert again.run("detect_drift").result["verdict"] == "stable"
    assert again.run("decide_retrain").result == {**decision, "champion": learnt}


def test_a_stable_window_keeps_the_model_and_triggers_nothing(world: Any, champion: str) -> None:
    run = DagRunHarness(monitor_dag(world, (1000, 1000, 1000)))
    run.run("detect_drift")
    outcome = run.run("decide_retrain")
    assert (outcome.result["verdict"], outcome.skipped) == ("keep", ["trigger_retrain"])
    assert run.run("trigger_retrain").state == "skipped"  # cleared alone
    assert run.supervisor.dag_runs == {}
    assert run.run("record").result["event"] == "stable"


def profile_dag(world: Any, folder: Path, **arguments: Any) -> DAG:
    world.backend.work["profile"] = lambda request: {"profile_uri": "file:///p.json", "rows": 2}
    dag: DAG = world.dag("churn.monitor")
    with dag:
        ProfileDataOperator(task_id="profile", uri=f"file://{folder}", **arguments)
    return dag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("at,x\n2026-03-05T00:00:00,1\n2026-03-08T00:00:00,2\n")
    return tmp_path / "data"


def test_a_window_is_counted_in_the_champions_bins(world: Any, folder: Path, champion: str) -> None:
    dag = profile_dag(world, folder, time_column="at", window="7d", columns={"exclude": ["id"]})
    result = DagRunHarness(dag).run("profile").result
    assert (result["rows"], result["start"], result["end"]) == (2, WINDOW["start"], WINDOW["end"])
    uri = world.backend.jobs[0].request_uri
    config = parse_request(read_uri(uri), uri).config
    assert config["reference_uris"] == [f"{world.artifacts_uri}/reference.json"]
    assert config["exclude"] == ["id"]


@pytest.mark.parametrize(
    ("reference", "days", "words"),
    [("previous_window", 7, "the window before"), ({"same_window_last_s": 172_800.0}, 2, "2 days earlier")],
)
def test_another_window_is_profiled_beside_it(
    world: Any, tmp_path: Path, champion: str, reference: Any, days: int, words: str
) -> None:
    (tmp_path / "data").mkdir()
    rows = "".join(f"2026-0{3 - (day < 1)}-{day or 28:02}T00:00:00,1\n" for day in range(9))
    (tmp_path / "data" / "a.csv").write_text(f"at,x\n{rows}")
    dag = profile_dag(world, tmp_path / "data", time_column="at", window="7d", reference=reference)
    result = DagRunHarness(dag).run("profile").result
    assert result["against"].endswith(words)
    uri = world.backend.jobs[0].request_uri
    against = json.loads(read_uri(parse_request(read_uri(uri), uri).config["against_uri"]))
    assert against["end"] == f"2026-03-0{9 - days}T06:00:00+00:00"


def test_a_window_without_rows_is_unknown(world: Any, folder: Path) -> None:
    dag = profile_dag(world, folder, time_column="at", window="1h")
    result = DagRunHarness(dag).run("profile").result
    assert (result["profile_uri"], result["rows"]) == (None, 0)
    assert "no rows in the window" in result["unknown"]
    assert result["start"] == "2026-03-09T05:00:00+00:00"
    assert world.backend.jobs == []


def test_a_dataset_that_is_resolved_already_is_taken(world: Any, folder: Path) -> None:
    resolved = world.put("dataset.json", {"start": None, "end": None})
    world.backend.work["profile"] = lambda request: request.config
    dag: DAG = world.dag()
    with dag:
        ProfileDataOperator(task_id="profile", dataset={"dataset_uri": resolved}, reference=None)
        ProfileDataOperator(task_id="nothing")
    run = DagRunHarness(dag)
    assert json.dumps(run.run("profile").result["dataset_uri"]) == json.dumps(resolved)
    assert "Give uri, or dataset" in str(run.run("nothing").error)
