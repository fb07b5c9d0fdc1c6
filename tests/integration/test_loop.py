"""The whole loop on real flights: real Airflow processes, real MLflow, the real model server.

The tests are one story and share its stage; each fixture is a chapter that later ones build on, so that any
test also runs alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlretrain.history import at
from mlretrain.ledger import Ledger
from mlretrain.runtime.store import file_uri, open_store
from mlretrain_factory.cli import main
from tests.integration.machine_room import BY_HAND, FIRST_END, FLIGHTS, GUARDED, Airline, airline, until

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

RETRAIN, MONITOR, ROLLBACK = (f"{FLIGHTS}.{kind}" for kind in ("retrain", "monitor", "rollback"))
GOOD = {
    RETRAIN, MONITOR, ROLLBACK, f"{GUARDED}.retrain", f"{GUARDED}.rollback", BY_HAND,
}  # fmt: skip
FIRST_DRIFT, SECOND_DRIFT, AFTER = (f"2013-{day}T04:00:00+00:00" for day in ("06-10", "06-24", "07-01"))
DRIFT_RUN = "drift__20130624T040000Z"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airline]:
    """Everything up, the first model and the DAG by hand under way."""
    with airline(tmp_path_factory.mktemp("airline")) as started:
        started.services.wait_for_dags(*GOOD)
        started.retrain(FLIGHTS, "first", reason="the first model, on January to March")
        started.services.trigger(BY_HAND, "by-hand", {"window_end": FIRST_END})
        yield started


@pytest.fixture(scope="module")
def first(room: Airline) -> dict[str, Any]:
    """How the first retraining ended."""
    return room.outcome(RETRAIN, "first")


@pytest.fixture(scope="module")
def drifted(room: Airline, first: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The decision on the second window that drifted, and how the retraining ended that came of it."""
    assert first["outcome"] == "promoted"
    room.serve_until(FIRST_DRIFT)
    before = room.monitor("window-1", FIRST_DRIFT)
    assert before["verdict"] == "keep"
    assert "drift in 1 of the last 1 windows, required 2 of 3" in before["reason"]
    room.serve_until(SECOND_DRIFT)
    with room.live(FLIGHTS):
        decision = room.monitor("window-2", SECOND_DRIFT)
        until(lambda: room.services.run(RETRAIN, DRIFT_RUN))
        return decision, room.outcome(RETRAIN, DRIFT_RUN)


@pytest.fixture(scope="module")
def survivor(room: Airline) -> dict[str, Any]:
    """How a retraining ended whose scheduler, workers and all, was killed while it trained."""
    room.retrain(GUARDED, "survivor")
    runs = room.services.home / "artifacts" / GUARDED / "runs" / "survivor"
    until(lambda: list(runs.glob("train-*/request.json")))
    assert room.services.task_states(f"{GUARDED}.retrain", "survivor")["train"] == "running"
    room.services.restart("scheduler", kill=True)
    return room.outcome(f"{GUARDED}.retrain", "survivor")


def test_a_broken_file_tells_where_and_hides_no_other(room: Airline) -> None:
    good = (room.services.dags / f"{GUARDED}.pipeline.yaml").read_text()
    broken = room.services.dags / "broken.pipeline.yaml"
    broken.write_text(good.replace("pipeline: guarded", "pipeline: broken").replace("target:", "targt:"))
    line = 1 + broken.read_text().splitlines().index("  targt: late")

    (error,) = until(lambda: room.services.api("importErrors")["import_errors"])
    assert error["filename"].endswith("broken.pipeline.yaml.py")
    assert f"{broken}:{line}:3: " in error["stack_trace"]
    assert "target" in error["stack_trace"].partition(f":{line}:3: ")[2]
    dags = room.services.api("dags?limit=100")["dags"]
    assert {dag["dag_id"] for dag in dags if not dag["is_stale"] and not dag["has_import_errors"]} == GOOD


def test_the_first_model_is_trained_gated_and_served(room: Airline, first: dict[str, Any]) -> None:
    assert (first["state"], first["outcome"], first["version"]) == ("success", "promoted", "1")
    state = room.state(FLIGHTS)
    assert state.aliases == {"champion": "1"}
    assert state.weights == {"1": 100}
    tags = state.versions["1"]
    assert tags["mlretrain.run_id"] == "first"
    assert tags["mlretrain.outcome"] == "promoted"
    for kept in ("profile_uri", "prediction_profile_uri", "evaluation_uri"):
        path = Path(tags[f"mlretrain.{kept}"].removeprefix("file://"))
        assert path.is_relative_to(room.services.home)
        assert json.loads(path.read_bytes())

    (run,) = room.mlflow_runs(FLIGHTS, "first")
    assert run["info"]["status"] == "FINISHED"
    (data,) = run["inputs"]["dataset_inputs"]
    assert data["dataset"]["digest"] == tags["mlretrain.dataset_fingerprint"][:36]
    assert {"key": "mlflow.data.context", "value": "training"} in data["tags"]
    assert room.services.xcom(RETRAIN, "first", "resolve_data")["end"].startswith("2013-04-01T04:00")


def test_people_see_the_yaml_and_where_a_run_leads(room: Airline, first: dict[str, Any]) -> None:
    source = room.services.api(f"dagSources/{RETRAIN}")["content"]
    assert source == (room.services.dags / f"{FLIGHTS}.pipeline.yaml").read_text()

    (run,) = room.mlflow_runs(FLIGHTS, "first")
    trained = room.links(RETRAIN, "first", "train")["MLflow run"]
    assert trained.startswith(room.services.mlflow_url)
    assert run["info"]["run_id"] in trained
    registered = room.links(RETRAIN, "first", "register")["Model version"]
    assert f"{FLIGHTS}/versions/1" in registered
    for link in (trained, registered):
        assert "<html" in room.page(link)
    assert "carrier" in room.page(room.links(RETRAIN, "first", "validate_data")["Data Docs"])


def test_a_dag_written_by_hand_runs_beside_the_yaml(room: Airline) -> None:
    assert room.services.wait(BY_HAND, "by-hand") == "success"
    state = room.state(BY_HAND)
    assert state.aliases == {"champion": "1"}
    assert list(state.versions) == ["1"]
    assert state.weights == {"1": 100}
    assert room.events(BY_HAND, "by-hand")["concluded"]["outcome"] == "promoted"


def test_drift_starts_a_retraining_by_itself(
    room: Airline, drifted: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    decision, end = drifted
    assert (decision["verdict"], decision["run_id"]) == ("retrain", DRIFT_RUN)
    assert "drift in 2 of the last 2 windows" in decision["reason"]
    run = room.services.run(RETRAIN, DRIFT_RUN)
    assert run is not None
    assert (run["state"], run["triggered_by"]) == ("success", "operator")
    assert run["conf"]["reason"] == decision["reason"]
    assert run["note"].startswith(decision["reason"])
    assert end["reason"] in run["note"]
    for run_id in ("window-1", "window-2"):
        watched = room.services.run(MONITOR, run_id)
        assert watched is not None
        assert room.services.xcom(MONITOR, run_id, "record")["reason"] in watched["note"]

    state, events = room.state(FLIGHTS), room.events(FLIGHTS, DRIFT_RUN)
    assert list(state.versions) == ["2", "1"]
    assert events["retrain_requested"]["evidence"]["cause"] == "drift"
    assert events["concluded"]["outcome"] == end["outcome"]
    champion = {"promoted": "2", "rejected": "1"}[end["outcome"]]
    assert state.aliases == {"champion": champion}
    assert state.weights == {champion: 100}
    assert state.versions["2"]["mlretrain.outcome"] == end["outcome"]
    if end["outcome"] == "promoted":
        assert room.orders(FLIGHTS, DRIFT_RUN) == [{"1": 50, "2": 50}, {"2": 100}]
        stats = room.services.xcom(RETRAIN, DRIFT_RUN, "rollout.stage_1.observe")["stats"]
        assert stats["requests"] >= 3
        assert stats["errors"] == 0
    report = room.page(room.links(MONITOR, "window-2", "detect_drift")["Drift report"])
    assert "temp" in report


def test_the_same_window_again_changes_nothing(
    room: Airline, drifted: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    before, decision = room.state(FLIGHTS), drifted[0]
    again = room.monitor("window-2-again", SECOND_DRIFT)
    assert again == {**decision, "champion": room.state(FLIGHTS).aliases["champion"]}
    assert room.services.task_states(MONITOR, "window-2-again")["trigger_retrain"] == "skipped"
    assert [run["dag_run_id"] for run in room.services.runs(RETRAIN)] == ["first", DRIFT_RUN]
    assert room.state(FLIGHTS) == before


def test_clearing_any_task_of_a_finished_retraining_changes_nothing(
    room: Airline, drifted: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    before, runs, end = room.state(FLIGHTS), room.mlflow_runs(FLIGHTS, DRIFT_RUN), drifted[1]
    for task, state in end["tasks"].items():
        tries = room.tries(RETRAIN, DRIFT_RUN)[task]
        again = room.clear(RETRAIN, DRIFT_RUN, task)
        assert again == end, f"after {task} was cleared"
        assert state != "success" or room.tries(RETRAIN, DRIFT_RUN)[task] == tries + 1
        assert room.state(FLIGHTS) == before, f"after {task} was cleared"
    assert room.clear(RETRAIN, DRIFT_RUN) == end
    assert room.state(FLIGHTS) == before
    assert room.mlflow_runs(FLIGHTS, DRIFT_RUN) == runs


def test_losing_airflows_database_changes_no_decision(
    room: Airline, drifted: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    room.serve_until(AFTER)
    expected = room.monitor("window-3", AFTER)
    before = room.state(FLIGHTS)
    room.services.forget_airflow()
    room.services.wait_for_dags(*GOOD)
    assert list(room.services.runs(MONITOR)) == []

    assert room.monitor("window-3-after-the-loss", AFTER) == expected
    again = room.monitor("window-2-after-the-loss", SECOND_DRIFT)
    assert again == {**drifted[0], "champion": before.aliases["champion"]}
    # Airflow no longer knows that this run was; the ledger does.
    end = room.outcome(RETRAIN, DRIFT_RUN)
    assert (end["state"], end["outcome"]) == ("success", drifted[1]["outcome"])
    assert room.state(FLIGHTS) == before


def test_history_answers_for_the_whole_year(
    room: Airline,
    drifted: tuple[dict[str, Any], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = room.state(FLIGHTS).ledger.values()
    promoted = [
        (datetime.fromisoformat(each["window_end"]), each["version"])
        for each in events
        if each["kind"] == "promoted"
    ]
    links = list(Ledger(open_store(file_uri(room.services.home / "artifacts")), FLIGHTS).links())
    for day in range(365):
        noon = datetime(2013, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
        versions = [version for end, version in promoted if end <= noon]
        assert at(links, noon, "data").traffic.served == ({versions[-1]: 100} if versions else {})
    monkeypatch.setenv("MLRETRAIN_HOME", str(room.services.home))
    asked = ["history", FLIGHTS, "--dags", str(room.services.dags), "--clock", "data", "--at", "2013-05-05"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "v1 answered all requests\n" in told
    assert "the first model, on January to March" in told


def test_the_champion_before_can_be_brought_back(
    room: Airline,
    drifted: tuple[dict[str, Any], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert drifted[1]["outcome"] == "promoted", "there is no champion before the present one"
    reason = "passengers of the summer timetable complain"
    asked = ["rollback", FLIGHTS, "--reason", reason, "--airflow-url", room.services.airflow_url, "--wait"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert told.endswith("Version 1 serves in place of version 2.\n")
    (back,) = (each["dag_run_id"] for each in room.services.runs(ROLLBACK))
    assert f"/dags/{ROLLBACK}/runs/{back}\n" in told
    end = room.outcome(ROLLBACK, back)
    assert (end["outcome"], end["reason"], end["version"]) == ("rolled_back", reason, "1")
    state = room.state(FLIGHTS)
    assert state.aliases == {"champion": "1"}
    assert state.weights == {"1": 100}
    assert state.versions["2"]["mlretrain.outcome"] == "rolled_back"
    event = room.events(FLIGHTS, back)["rolled_back"]
    assert (event["version"], event["previous"], event["reason"]) == ("1", "2", reason)


def test_a_killed_scheduler_costs_no_second_version(room: Airline, survivor: dict[str, Any]) -> None:
    assert (survivor["state"], survivor["outcome"]) == ("success", "promoted")
    assert room.tries(f"{GUARDED}.retrain", "survivor")["train"] == 2
    state = room.state(GUARDED)
    assert list(state.versions) == ["1"]
    assert state.aliases == {"champion": "1"}
    assert state.weights == {"1": 100}
    assert len(room.mlflow_runs(GUARDED, "survivor")) == 1


def test_a_dry_run_judges_other_parameters_and_promotes_nothing(
    room: Airline, survivor: dict[str, Any]
) -> None:
    before = room.state(GUARDED)
    room.retrain(GUARDED, "dry", dry_run=True, params={"max_depth": 2}, reason="would shallow trees do?")
    end = room.outcome(f"{GUARDED}.retrain", "dry")
    assert (end["state"], end["outcome"]) == ("success", "dry_run")
    state = room.state(GUARDED)
    assert (state.aliases, state.weights) == (before.aliases, before.weights)
    assert room.events(GUARDED, "dry").keys() == {
        "retrain_requested",
        "registered",
        "tested",
        "gated",
        "concluded",
    }
    params = {
        run_id: {each["key"]: each["value"] for each in run["data"]["params"]}
        for run_id in ("survivor", "dry")
        for run in room.mlflow_runs(GUARDED, run_id)
    }
    assert params["survivor"].items() >= {"max_depth": "3", "max_iter": "10"}.items()
    assert params["dry"].items() >= {"max_depth": "2", "max_iter": "10"}.items()


def test_a_breached_guard_takes_the_candidate_back(room: Airline, survivor: dict[str, Any]) -> None:
    before = room.state(GUARDED)
    room.retrain(GUARDED, "too-slow", window_end="2013-06-01T04:00:00+00:00")
    with room.live(GUARDED):
        end = room.outcome(f"{GUARDED}.retrain", "too-slow")
    assert (end["state"], end["outcome"]) == ("failed", "rolled_back")
    assert "latency_p95_ms" in end["reason"]
    state, events = room.state(GUARDED), room.events(GUARDED, "too-slow")
    assert (
        (state.aliases, state.weights) == (before.aliases, before.weights) == ({"champion": "1"}, {"1": 100})
    )
    candidate = events["registered"]["version"]
    assert room.orders(GUARDED, "too-slow") == [{"1": 50, candidate: 50}, {"1": 100}]
    assert (events["rolled_back"]["version"], events["rolled_back"]["previous"]) == ("1", candidate)
    assert state.versions[candidate]["mlretrain.outcome"] == "rolled_back"
