"""A search: what is asked, how many jobs at once, and that no death of anything loses or repeats a trial."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain import errors
from mlretrain.data.dataset import DataFile, Dataset
from mlretrain.ports import JobStatus
from mlretrain.runtime.contract import StepReport, StepRequest, parse_request
from mlretrain.runtime.store import FileStore, read_uri
from mlretrain.wire import to_wire
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.training import TrainModelOperator
from mlretrain_provider.operators.tuning import TuneModelOperator
from mlretrain_provider.study import import_optuna
from tests.fakes.airflow_harness import DagRunHarness, Outcome
from tests.fakes.backend import RUNNING

SPACE: dict[str, Any] = {"depth": {"int": [1, 9]}, "rate": {"float": [0.01, 1.0], "log": True}}


def value_of(request: StepRequest) -> float:
    return float(1 - abs(request.config["params"]["depth"] - 6) / 10)


@pytest.fixture
def dag(world: Any) -> DAG:
    dataset = Dataset(
        uri="file:///data",
        format="csv",
        files=(DataFile(uri="file:///data/a.csv", size=1, etag="sha256:0"),),
        end=datetime(2026, 3, 9, tzinfo=UTC),
        rows=3,
        fingerprint="f" * 64,
    )
    uri = world.put("dataset.json", to_wire(dataset))
    world.backend.work["trial"] = lambda request: {"value": value_of(request)}
    world.backend.work["train"] = lambda request: {"mlflow_run_id": request.frozen["mlflow_run_id"]}
    dag: DAG = world.dag()
    with dag:
        recipe: dict[str, Any] = {
            "dataset": {"dataset_uri": uri},
            "target": "y",
            "entrypoint": "code:train",
            "hyperparameters": {"depth": 3, "bins": 64},
        }
        tune = TuneModelOperator(
            task_id="tune", **recipe, space=SPACE, sampler="tpe", trials=12, metric="roc_auc", seed=5
        )
        train = TrainModelOperator(task_id="train", **recipe, tuning=tune.output)
        train >> RecordRunOperator(task_id="record")
    return dag


@pytest.fixture
def tune(dag: DAG) -> Any:
    return dag.get_task("tune")


def run_tune(run: DagRunHarness, **given: Any) -> Outcome:
    """One try in a worker that remembers nothing."""
    return forget(run).run("tune", **given)


def forget(run: DagRunHarness) -> DagRunHarness:
    operator: Any = run.dag.get_task("tune")
    operator._jobs, operator._watches = {}, {}
    return run


def asked(world: Any) -> list[StepRequest]:
    """The requests of the trials' jobs, as they were started."""
    uris = [job.request_uri for job in world.backend.jobs if job.labels["step"] == "trial"]
    return [parse_request(read_uri(uri), uri) for uri in uris]


def jobs_of(world: Any) -> Counter[int]:
    """How many jobs each trial had."""
    return Counter(each.config["number"] for each in asked(world))


def failure(error: errors.MlretrainError, request: StepRequest, number: int = 1) -> StepReport:
    return StepReport(
        key=request.key, status="failed", exit_code=error.exit_code, error=error.to_wire(), attempt=number
    )


def fail_when(world: Any, bad: Any, error: errors.MlretrainError) -> None:
    """Let the jobs of trials whose parameters are ``bad`` end with ``error``."""
    work = world.backend._work

    def end(spec: Any, ending: Any) -> JobStatus:
        request = parse_request(read_uri(spec.request_uri), spec.request_uri)
        if request.step == "trial" and bad(request.config["params"]):
            ending = failure(error, request, int(spec.env["MLRETRAIN_ATTEMPT"]))
        found: JobStatus = work(spec, ending)
        return found

    world.backend._work = end


def test_every_trial_is_a_job_and_the_best_one_is_the_result(world: Any, dag: DAG) -> None:
    outcome = run_tune(DagRunHarness(dag))
    assert outcome.state == "success"
    requests = asked(world)
    values = [value_of(each) for each in requests]
    best = requests[values.index(max(values))]
    assert outcome.result["best_params"] == {name: best.config["params"][name] for name in SPACE}
    assert outcome.result["best_value"] == max(values)
    assert outcome.result["best_trial"] == best.config["number"]
    assert (outcome.result["trials"], outcome.result["failed"]) == (12, 0)
    assert (outcome.result["metric"], outcome.result["direction"]) == ("roc_auc", "maximize")
    assert jobs_of(world) == Counter(range(12))
    assert all(each.config["params"]["bins"] == 64 for each in requests)
    assert all(each.config["holdout"] == {"by": "random", "fraction": 0.2} for each in requests)
    assert all(job.name.startswith("churn-trial-") for job in world.backend.jobs)
    assert world.kinds() == ["retrain_requested"]


def test_trials_log_to_runs_below_the_searchs(world: Any, dag: DAG) -> None:
    result = run_tune(DagRunHarness(dag)).result
    parent = world.tracker.runs[result["mlflow_run_id"]]
    children = [
        each
        for each in world.tracker.runs.values()
        if each.tags.get("mlflow.parentRunId") == result["mlflow_run_id"]
    ]
    assert len(children) == 12
    assert {each.name for each in children} == {f"trial {n}" for n in range(12)}
    assert {each.status for each in (parent, *children)} == {"FINISHED"}
    assert {each.frozen["mlflow_run_id"] for each in asked(world)} < set(world.tracker.runs)
    assert parent.params == result["best_params"]
    assert parent.metrics == {"validation_roc_auc": result["best_value"]}
    assert parent.tags["mlretrain.best_trial"] == str(result["best_trial"])
    assert len(parent.datasets) == 1


def test_the_training_takes_what_was_found(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    found = run.run("tune").result
    run.run("train")
    request = parse_request(read_uri(world.backend.jobs[-1].request_uri), "")
    assert request.config["params"] == {"bins": 64, **found["best_params"]}
    training = world.tracker.runs[request.frozen["mlflow_run_id"]]
    assert training.tags["mlretrain.tune_run_id"] == found["mlflow_run_id"]


def test_what_the_form_sets_is_not_searched(world: Any, dag: DAG) -> None:
    result = DagRunHarness(dag, conf={"params": {"rate": 0.5}}).run("tune").result
    assert set(result["best_params"]) == {"depth"}
    assert {each.config["params"]["rate"] for each in asked(world)} == {0.5}


def test_a_form_that_sets_everything_leaves_one_trial(world: Any, dag: DAG) -> None:
    result = DagRunHarness(dag, conf={"params": {"rate": 0.5, "depth": 2}}).run("tune").result
    assert (result["best_params"], result["trials"]) == ({}, 1)


def test_a_search_that_has_ended_starts_no_job_again(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    first = run_tune(run).result
    runs = len(world.tracker.runs)
    assert run_tune(run, try_number=2).result == first
    assert len(world.backend.jobs) == 12
    assert len(world.tracker.runs) == runs


def test_raising_the_number_of_trials_goes_on(world: Any, dag: DAG, tune: Any) -> None:
    tune.trials = 5
    run = DagRunHarness(dag)
    first = run_tune(run).result
    tune.trials = 12
    second = run_tune(run, try_number=2).result
    assert second["study_uri"] == first["study_uri"]
    assert second["trials"] == 12
    assert jobs_of(world) == Counter(range(12))
    longer = [each.config["params"] for each in asked(world)]
    world.backend.jobs.clear()
    run_tune(DagRunHarness(dag, run_id="in-one-go"))
    assert [each.config["params"] for each in asked(world)] == longer


def test_no_more_jobs_at_once_than_allowed_and_no_fewer(world: Any, dag: DAG, tune: Any) -> None:
    world.backend.remote = True
    world.backend.endings = [RUNNING] * 20
    tune.parallelism = 3
    run = DagRunHarness(dag)
    outcome = run_tune(run)
    for ended in range(9):
        assert outcome.state == "deferred"
        running = [job for job in world.backend.jobs if not world.backend.status(job.name).ended]
        assert len(running) == 3
        assert len(world.backend.jobs) == ended + 3
        handles = {each["handle"] for each in outcome.message.trigger_kwargs["jobs"]}
        assert handles == {job.name for job in running}
        world.backend.end(running[ended % 3].name)
        outcome = forget(run).resume(outcome, "tune", {"ended": []})
    while outcome.state == "deferred":
        running = [job for job in world.backend.jobs if not world.backend.status(job.name).ended]
        world.backend.end(running[0].name)
        outcome = forget(run).resume(outcome, "tune", {"ended": []})
    assert outcome.state == "success"
    assert jobs_of(world) == Counter(range(12))


def test_a_worker_that_waits_itself_keeps_as_many_running(
    world: Any, dag: DAG, tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backend.endings = [RUNNING] * 20
    tune.parallelism = 4
    seen = []

    def end_one(seconds: float) -> None:
        running = [job for job in world.backend.jobs if not world.backend.status(job.name).ended]
        seen.append(len(running))
        world.backend.end(running[-1].name)

    monkeypatch.setattr("mlretrain_provider.operators.step.time.sleep", end_one)
    assert run_tune(DagRunHarness(dag)).result["trials"] == 12
    assert seen == [4] * 9 + [3, 2, 1]


class Mortal:
    """Dies once, at the ``deadly``-th act on the world: right before it, or right after."""

    def __init__(self, deadly: int, *, late: bool) -> None:
        self.deadly, self.late = deadly, late
        self.acts = 0
        self.acting = False

    def wrap(self, act: Any) -> Any:
        def do(*args: Any, **kwargs: Any) -> Any:
            if self.acting:  # what a job does by itself
                return act(*args, **kwargs)
            self.acts += 1
            if self.acts == self.deadly and not self.late:
                raise SystemExit
            self.acting = True
            done = act(*args, **kwargs)
            self.acting = False
            if self.acts == self.deadly:
                raise SystemExit
            return done

        return do


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_a_death_at_any_moment_loses_and_repeats_nothing(
    world: Any, dag: DAG, tune: Any, monkeypatch: pytest.MonkeyPatch, parallelism: int, late: bool
) -> None:
    tune.trials, tune.parallelism = 4, parallelism
    expected = DagRunHarness(dag, run_id="undisturbed").run("tune").result
    params = [each.config["params"] for each in asked(world)]
    for deadly in itertools.count(1):
        world.backend.jobs.clear()
        run = DagRunHarness(dag, run_id=f"dies-{deadly}")
        with monkeypatch.context() as patch:
            mortal = Mortal(deadly, late=late)
            for owner, names in (
                (FileStore, ("create", "write")),
                (type(world.backend), ("submit",)),
                (type(world.tracker), ("open_run", "log", "close_run")),
            ):
                for name in names:
                    patch.setattr(owner, name, mortal.wrap(getattr(owner, name)))
            died = run_tune(run, retries_left=True).state != "success"
        result = run_tune(run, try_number=2).result
        assert jobs_of(world) == Counter(range(4))
        assert (result["trials"], result["failed"]) == (4, 0)
        if parallelism == 1:  # at once, what is asked depends on who has answered first
            assert {**result, **_places(expected)} == expected
            assert [each.config["params"] for each in asked(world)] == params
        if not died:
            break
    assert deadly > 25


def _places(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("mlflow_run_id", "study_uri", "trials_uri")}


def test_a_trial_whose_code_fails_is_one_failed_trial(world: Any, dag: DAG) -> None:
    fail_when(world, lambda params: params["depth"] >= 7, errors.UserCodeError("ValueError: too deep"))
    outcome = run_tune(DagRunHarness(dag))
    deep = sum(each.config["params"]["depth"] >= 7 for each in asked(world))
    assert outcome.state == "success"
    assert 0 < deep == outcome.result["failed"]
    assert outcome.result["best_params"]["depth"] < 7
    assert outcome.result["trials"] == 12
    statuses = Counter(each.status for each in world.tracker.runs.values())
    assert statuses == {"FAILED": deep, "FINISHED": 13 - deep}
    study = json.loads(read_uri(outcome.result["study_uri"]))
    errors_told = {each["error"]["message"] for each in study["trials"] if each["state"] == "failed"}
    assert errors_told == {"ValueError: too deep"}


def test_when_most_trials_fail_the_task_does_and_the_next_try_repeats_what_failed(
    world: Any, dag: DAG
) -> None:
    healthy = world.backend._work
    fail_when(
        world, lambda params: params["depth"] != 6, errors.UserCodeError("KeyError: 'x'", where="t.py:3")
    )
    run = DagRunHarness(dag)
    outcome = run_tune(run, retries_left=True)
    assert outcome.state == "up_for_retry"
    assert str(outcome.error).startswith("t.py:3: 7 of 12 trials failed, the first of them, trial ")
    assert "KeyError: 'x'" in str(outcome.error)
    before = jobs_of(world)
    failed = sum(each.status == "FAILED" for each in world.tracker.runs.values()) - 1
    assert failed == 7
    world.backend._work = healthy
    assert run_tune(run, try_number=2).result["failed"] == 0
    again = jobs_of(world)
    assert sum(again.values()) == 12 + 7
    assert all(again[number] <= before[number] + 1 for number in range(12))
    assert {each.status for each in world.tracker.runs.values()} == {"FINISHED"}


@pytest.mark.parametrize("error", [errors.ConfigError("no such column"), errors.InvalidInput("it changed")])
def test_what_would_fail_every_trial_ends_the_search_at_once(
    world: Any, dag: DAG, tune: Any, error: errors.MlretrainError
) -> None:
    world.backend.endings = [RUNNING, RUNNING]
    world.backend.remote = True
    tune.parallelism = 2
    run = DagRunHarness(dag)
    deferred = run_tune(run, retries_left=True)
    first, second = world.backend.jobs
    world.backend.end(first.name, failure(error, asked(world)[0]))
    outcome = forget(run).resume(deferred, "tune", {"ended": []})
    assert outcome.state == "failed"
    assert error.message in str(outcome.error)
    assert world.backend.cancelled == [second.name]
    world.backend.remote = False
    assert run_tune(run, try_number=2).state == "success"
    assert jobs_of(world) == Counter(range(12)) + Counter([0, 1])


@pytest.mark.parametrize(("retries", "jobs", "failed"), [(2, 3, 0), (1, 2, 1)])
def test_a_job_that_its_platform_lost_is_started_again(
    world: Any, dag: DAG, tune: Any, retries: int, jobs: int, failed: int
) -> None:
    tune.retries = retries
    world.backend.endings = [JobStatus(state="lost")] * 2
    result = run_tune(DagRunHarness(dag)).result
    assert jobs_of(world)[0] == jobs
    assert result["failed"] == failed
    assert [job.name[-2:] for job in world.backend.jobs[:2]] == ["-1", "-2"]


def test_a_trial_that_takes_too_long_has_failed(world: Any, dag: DAG, tune: Any) -> None:
    tune.retries, tune.timeout_s = 3, 60.0
    world.backend.endings = [JobStatus(state="failed", reason="timed out after 60 s")]
    assert run_tune(DagRunHarness(dag)).result["failed"] == 1
    assert jobs_of(world)[0] == 1
    assert {job.timeout_s for job in world.backend.jobs} == {60.0}


def test_a_job_that_somebody_cancels_ends_the_try_and_the_next_one_goes_on(world: Any, dag: DAG) -> None:
    world.backend.endings = [RUNNING]
    world.backend.remote = True
    run = DagRunHarness(dag)
    deferred = run_tune(run)
    world.backend.cancel(world.backend.jobs[0].name)
    outcome = forget(run).resume(deferred, "tune", {"ended": []})
    assert (outcome.state, "cancelled" in str(outcome.error)) == ("failed", True)
    assert run_tune(run, try_number=2).result["failed"] == 0
    assert jobs_of(world) == Counter(range(12)) + Counter([0])


def test_a_search_without_hope_cancels_what_still_runs(world: Any, dag: DAG, tune: Any) -> None:
    world.backend.remote = True
    world.backend.endings = [JobStatus(state="lost")] * 3 + [RUNNING]
    tune.parallelism, tune.trials = 4, 4
    outcome = run_tune(DagRunHarness(dag), retries_left=True)
    assert outcome.state == "up_for_retry"
    assert "3 of 4 trials failed" in str(outcome.error)
    assert "the job is lost" in str(outcome.error)
    assert world.backend.cancelled == [world.backend.jobs[3].name]


def test_killing_the_search_cancels_every_running_trial(
    world: Any, dag: DAG, tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backend.endings = [RUNNING] * 3
    tune.parallelism = 3
    monkeypatch.setattr("mlretrain_provider.operators.step.time.sleep", lambda seconds: tune.on_kill())
    run = DagRunHarness(dag)
    assert run_tune(run, retries_left=True).state == "up_for_retry"
    assert sorted(world.backend.cancelled) == sorted(job.name for job in world.backend.jobs)
    assert run_tune(run, try_number=2).state == "success"
    assert jobs_of(world) == Counter(range(12)) + Counter(range(3))


def test_a_platform_that_is_away_does_not_cost_the_trials(
    world: Any, dag: DAG, tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(handle: str) -> JobStatus:
        raise errors.TransientError("the cluster does not answer")

    tune.parallelism = 2
    run = DagRunHarness(dag)
    with monkeypatch.context() as outage:
        outage.setattr(world.backend, "status", away)
        assert run_tune(run, retries_left=True).state == "up_for_retry"
    assert world.backend.cancelled == []
    assert run_tune(run, try_number=2).state == "success"
    assert jobs_of(world) == Counter(range(12))


def test_a_grid_ends_by_itself(world: Any, dag: DAG, tune: Any) -> None:
    tune.sampler, tune.space = "grid", {"depth": {"int": [1, 3]}, "kind": {"choice": ["a", "b"]}}
    result = run_tune(DagRunHarness(dag)).result
    assert result["trials"] == 6
    assert result["best_params"]["depth"] == 3
    made = {(each.config["params"]["depth"], each.config["params"]["kind"]) for each in asked(world)}
    assert len(made) == 6


def test_the_study_is_in_the_database_too(
    world: Any, dag: DAG, tune: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STUDIES", f"sqlite:///{tmp_path}/studies.db")
    tune.study_conn_id = "studies"
    result = run_tune(DagRunHarness(dag)).result
    optuna = import_optuna()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/studies.db")
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    assert summary.study_name.startswith("churn/run-1/")
    assert (study.best_value, study.best_params) == (result["best_value"], result["best_params"])
    assert [each.state.name for each in study.trials] == ["COMPLETE"] * 12
    storage.remove_session()
    storage.engine.dispose()


def test_a_database_without_a_connection_is_said_before_any_job(world: Any, dag: DAG, tune: Any) -> None:
    tune.study_conn_id = "studies"
    outcome = run_tune(DagRunHarness(dag), retries_left=True)
    assert (outcome.state, world.backend.jobs) == ("failed", [])
    assert "airflow connections add studies" in str(outcome.error)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sampler", "bayes", r"unknown sampler \(found 'bayes'; allowed: tpe, random, cmaes, grid\)"),
        ("direction", "up", "unknown direction"),
        ("metric", "profit", "unknown metric"),
        ("trials", 0, r"tune\.trials: a search without trials \(found 0"),
        ("parallelism", "0", r"tune\.parallelism"),
        ("space", {"depth": {"int": [9, 1]}}, r"space\.depth: not a range"),
    ],
)
def test_what_is_no_search_is_said_before_any_job(
    world: Any, dag: DAG, tune: Any, name: str, value: Any, message: str
) -> None:
    setattr(tune, name, value)
    outcome = run_tune(DagRunHarness(dag), retries_left=True)
    assert outcome.state == "failed"
    assert re.search(message, str(outcome.error))
    assert world.backend.jobs == []


def test_a_run_that_fails_closes_what_its_search_has_left_open(world: Any, dag: DAG, tune: Any) -> None:
    world.backend.endings = [RUNNING]
    world.backend.remote = True
    run = DagRunHarness(dag)
    run_tune(run)
    run.supervisor.states.update(tune="failed", train="upstream_failed")
    assert run.run("record").result["reason"] == "tune failed"
    assert [each.status for each in world.tracker.runs.values()] == ["FAILED", "FAILED"]
