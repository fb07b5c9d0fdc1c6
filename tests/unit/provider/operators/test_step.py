"""Steps as jobs: asked once, started once, reported once, however often the task runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from mlretrain import errors
from mlretrain.ports import JobStatus
from mlretrain.runtime.contract import StepReport, request_key
from mlretrain_provider.jobs import JOB_FILE
from mlretrain_provider.operators import step
from mlretrain_provider.operators.step import StepOperator
from tests.fakes.airflow_harness import DagRunHarness
from tests.fakes.backend import RUNNING, FakeBackend


class MeasureOperator(StepOperator):
    step = "measure"
    uses_mlflow = True
    template_fields = (*StepOperator.template_fields, "what")
    facts = 0

    def __init__(self, *, what: str = "it", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.what = what

    def config(self, run: Any, context: Any) -> dict[str, Any]:
        return {"what": self.what}

    def frozen(self, run: Any, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        type(self).facts += 1
        return {"fact": type(self).facts}


@pytest.fixture
def dag(world: Any) -> DAG:
    MeasureOperator.facts = 0
    world.backend.work["measure"] = lambda request: {"what": request.config["what"], **request.frozen}
    dag: DAG = world.dag()
    with dag:
        MeasureOperator(task_id="measure", what="{{ run_id }}", env={"COLOUR": "blue"}, code_root="code")
    return dag


def failure(error: errors.MlretrainError, key: str) -> StepReport:
    return StepReport(key=key, status="failed", exit_code=error.exit_code, error=error.to_wire())


def restarted(run: DagRunHarness) -> DagRunHarness:
    """The same run in a worker that remembers nothing."""
    operator: Any = run.dag.get_task("measure")
    operator._jobs, operator._watches = {}, {}
    return run


KEY = request_key("measure", "churn", "run-1", {"what": "run-1"})


def test_a_step_runs_as_a_job_and_its_result_is_the_xcom(world: Any, dag: DAG) -> None:
    outcome = DagRunHarness(dag).run("measure")
    assert (outcome.state, outcome.result) == ("success", {"what": "run-1", "fact": 1})
    (job,) = world.backend.jobs
    assert re.fullmatch(r"churn-measure-[0-9a-f]{12}-1", job.name)
    assert job.labels["task_id"] == "measure"
    assert job.env["MLFLOW_TRACKING_URI"] == "http://mlflow"
    assert job.env["COLOUR"] == "blue"
    assert job.env["MLRETRAIN_ATTEMPT"] == "1"
    assert job.env["MLRETRAIN_CODE_PATHS"].split(":")[0].endswith("/code")


def test_a_step_that_succeeded_is_not_run_again(world: Any, dag: DAG) -> None:
    run = DagRunHarness(dag)
    first, again = run.run("measure"), run.run("measure", try_number=2)
    assert again.result == first.result
    assert len(world.backend.jobs) == 1
    assert MeasureOperator.facts == 1


def test_a_retry_asks_the_same_question(world: Any, dag: DAG) -> None:
    world.backend.endings = [failure(errors.TransientError("the store did not answer"), KEY)]
    run = DagRunHarness(dag)
    assert run.run("measure", retries_left=True).state == "up_for_retry"
    outcome = run.run("measure", try_number=2)
    assert outcome.result == {"what": "run-1", "fact": 1}
    assert [job.env["MLRETRAIN_ATTEMPT"] for job in world.backend.jobs] == ["1", "2"]
    assert len({job.request_uri for job in world.backend.jobs}) == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (errors.InvalidInput("no rows"), "failed"),
        (errors.ContractError("another protocol"), "failed"),
        (errors.ConfigError("no such column"), "failed"),
        (errors.UserCodeError("KeyError: 'x'"), "up_for_retry"),
        (errors.TransientError("S3 is away"), "up_for_retry"),
    ],
)
def test_only_what_a_retry_can_mend_is_retried(
    world: Any, dag: DAG, error: errors.MlretrainError, state: str
) -> None:
    world.backend.endings = [failure(error, KEY)]
    outcome = DagRunHarness(dag).run("measure", retries_left=True)
    assert outcome.state == state
    assert str(outcome.error) == f"churn.retrain/measure: {error.message}"


def test_a_job_that_was_killed_is_retried_and_says_why(world: Any, dag: DAG) -> None:
    world.backend.endings = [JobStatus(state="failed", exit_code=137, reason="ended by SIGKILL")]
    outcome = DagRunHarness(dag).run("measure", retries_left=True)
    assert outcome.state == "up_for_retry"
    assert "ended by SIGKILL" in str(outcome.error)


def test_the_old_report_is_not_taken_for_the_new_jobs(world: Any, dag: DAG) -> None:
    world.backend.endings = [
        failure(errors.InvalidInput("no rows"), KEY),
        JobStatus(state="failed", exit_code=137, reason="ended by SIGKILL"),
    ]
    run = DagRunHarness(dag)
    run.run("measure")
    assert "ended by SIGKILL" in str(run.run("measure", try_number=2, retries_left=True).error)


def test_a_success_without_a_report_is_no_success(world: Any, dag: DAG) -> None:
    world.backend.endings = [JobStatus(state="succeeded", exit_code=0)]
    outcome = DagRunHarness(dag).run("measure", retries_left=True)
    assert outcome.state == "failed"
    assert "left no report" in str(outcome.error)


def test_the_report_counts_even_if_the_job_is_lost(world: Any, dag: DAG) -> None:
    world.backend.endings = [RUNNING]
    world.backend.remote = True
    run = DagRunHarness(dag)
    deferred = run.run("measure")
    world.backend.end()
    world.backend.statuses.clear()
    assert restarted(run).resume(deferred, "measure", {"ended": ["x"]}).result == {"what": "run-1", "fact": 1}


def test_a_lost_job_without_a_report_is_an_error_that_a_retry_mends(world: Any, dag: DAG) -> None:
    world.backend.endings = [JobStatus(state="lost")]
    run = DagRunHarness(dag)
    outcome = run.run("measure", retries_left=True)
    assert (outcome.state, "the job is lost" in str(outcome.error)) == ("up_for_retry", True)
    assert restarted(run).run("measure", try_number=2).state == "success"
    assert [job.name[-2:] for job in world.backend.jobs] == ["-1", "-2"]


def test_a_remote_job_is_waited_for_without_a_worker(world: Any, dag: DAG) -> None:
    world.backend.remote = True
    world.backend.endings = [RUNNING]
    run = DagRunHarness(dag)
    deferred = run.run("measure")
    assert deferred.state == "deferred"
    assert deferred.message.next_method == "execute_complete"
    assert "hunter" not in str(deferred.message)
    woken = restarted(run).resume(deferred, "measure", {"ended": []})
    assert woken.state == "deferred"  # nothing has ended yet: the event was no evidence
    world.backend.end()
    assert restarted(run).resume(woken, "measure", {"ended": ["x"]}).result == {"what": "run-1", "fact": 1}
    assert len(world.backend.jobs) == 1


def test_a_remote_job_that_has_ended_at_the_first_look_is_not_deferred_for(world: Any, dag: DAG) -> None:
    world.backend.remote = True
    assert DagRunHarness(dag).run("measure").state == "success"


def test_without_a_triggerer_the_worker_waits(world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    world.backend.remote = True
    world.backend.endings = [RUNNING]
    operator: Any = dag.get_task("measure")
    operator.deferrable = False
    monkeypatch.setattr(f"{step.__name__}.time.sleep", lambda seconds: world.backend.end())
    assert DagRunHarness(dag).run("measure").state == "success"


def test_a_job_that_was_cancelled_because_its_task_was_cleared_is_started_anew(world: Any, dag: DAG) -> None:
    world.backend.remote = True
    world.backend.endings = [RUNNING, RUNNING]
    run = DagRunHarness(dag)
    run.run("measure")
    world.backend.cancel(world.backend.jobs[0].name)
    deferred = restarted(run).run("measure", try_number=2)
    assert deferred.state == "deferred"
    world.backend.end()
    assert restarted(run).resume(deferred, "measure", {"ended": []}).state == "success"
    assert [job.name[-2:] for job in world.backend.jobs] == ["-1", "-2"]


def test_a_job_that_somebody_else_cancelled_is_a_failure(world: Any, dag: DAG) -> None:
    world.backend.remote = True
    world.backend.endings = [RUNNING]
    run = DagRunHarness(dag)
    deferred = run.run("measure", retries_left=True)
    world.backend.cancel(world.backend.jobs[0].name)
    outcome = restarted(run).resume(deferred, "measure", {"ended": []})
    assert (outcome.state, "cancelled" in str(outcome.error)) == ("failed", True)


def test_a_job_is_left_where_it_was_when_the_stack_is_changed(
    world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backend.remote = True
    world.backend.endings = [RUNNING]
    run = DagRunHarness(dag)
    run.run("measure")
    first, elsewhere = world.backend, FakeBackend(work=world.backend.work)
    monkeypatch.setattr("mlretrain_provider.jobs.open_backend", lambda name, options: first)
    monkeypatch.setattr(step, "open_backend", lambda name, options: elsewhere)
    operator: Any = restarted(run).dag.get_task("measure")
    operator.backend = "elsewhere"
    assert run.run("measure", try_number=2).state == "success"
    assert first.cancelled == [first.jobs[0].name]
    assert [job.name[-2:] for job in elsewhere.jobs] == ["-2"]


def test_a_rebuilt_airflow_finds_the_job_by_its_record_in_the_store(world: Any, dag: DAG) -> None:
    world.backend.remote = True
    world.backend.endings = [JobStatus(state="failed", exit_code=137), RUNNING]
    run = DagRunHarness(dag)
    run.run("measure", retries_left=True)
    assert restarted(run).run("measure", try_number=2).state == "deferred"
    rebuilt = DagRunHarness(restarted(run).dag)
    assert rebuilt.run("measure").state == "deferred"
    assert [job.name[-2:] for job in world.backend.jobs] == ["-1", "-2"]
    (record,) = [path for path in world.store.list("churn/") if path.endswith(JOB_FILE)]
    assert b'"number": 2' in world.store.read(record)


def test_a_worker_that_dies_after_starting_the_job_does_not_start_a_second(
    world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backend.endings = [RUNNING]
    run = DagRunHarness(dag)
    with monkeypatch.context() as dying:
        dying.setattr(
            "mlretrain_provider.jobs.StepJob._tell_store", lambda *args: (_ for _ in ()).throw(OSError())
        )
        run.run("measure", retries_left=True)
    world.backend.end()
    assert restarted(run).run("measure", try_number=2).state == "success"
    assert len(world.backend.jobs) == 1


def test_every_line_of_the_job_is_in_the_log_once(
    world: Any, dag: DAG, capsys: pytest.CaptureFixture[str]
) -> None:
    world.backend.log = "reading 10 rows\nfitting\r\nä last line without an end"
    DagRunHarness(dag).run("measure")
    log = capsys.readouterr().out
    assert [log.count(line) for line in ("reading 10 rows", "fitting", "ä last line without an end")] == [
        1
    ] * 3


def test_a_timeout_cancels_the_job_and_is_the_platforms_own_limit_too(
    world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.backend.endings = [RUNNING]
    dag.get_task("measure").execution_timeout = timedelta(seconds=1)
    monkeypatch.undo()
    monkeypatch.setattr(step, "open_backend", lambda name, options: world.backend)
    monkeypatch.setattr(MeasureOperator, "uses_mlflow", False)
    assert DagRunHarness(dag).run("measure").state == "failed"
    (job,) = world.backend.jobs
    assert (job.timeout_s, world.backend.cancelled) == (1.0, [job.name])


@pytest.mark.parametrize(
    "error",
    [
        errors.TransientError("the cluster does not answer"),
        BrokenPipeError(32, "the worker that took this task's log is dead"),
    ],
)
def test_a_backend_or_a_worker_that_is_away_does_not_cost_the_job(
    world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(handle: str) -> JobStatus:
        raise error

    monkeypatch.setattr(world.backend, "status", away)
    assert DagRunHarness(dag).run("measure", retries_left=True).state == "up_for_retry"
    assert world.backend.cancelled == []


def test_killing_the_task_cancels_the_job(world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    operator: Any = dag.get_task("measure")
    operator.on_kill()
    assert world.backend.cancelled == []
    world.backend.endings = [RUNNING]
    monkeypatch.setattr(f"{step.__name__}.time.sleep", lambda seconds: operator.on_kill())
    outcome = DagRunHarness(dag).run("measure", retries_left=True)
    assert "the job is cancelled" in str(outcome.error)
    assert world.backend.cancelled == [world.backend.jobs[0].name]


def test_secrets_stay_out_of_request_and_xcom(world: Any, dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlretrain_provider.hooks.mlflow import MLflowHook

    monkeypatch.setattr(MLflowHook, "env", lambda self: {"MLFLOW_TRACKING_PASSWORD": "hunter2-hunter2"})
    run = DagRunHarness(dag)
    run.run("measure")
    assert world.backend.jobs[0].secrets == {"MLFLOW_TRACKING_PASSWORD": "hunter2-hunter2"}
    assert "hunter2" not in str(world.backend.jobs[0].env)
    kept = [world.store.read(path) for path in world.store.list("churn/")]
    assert not any(b"hunter2" in data for data in kept)
    assert "hunter2" not in str(run.supervisor.xcoms)
