"""SageMaker jobs: started once, followed, stopped, found again; the cloud is moto's, its jobs really run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlretrain.errors import ConfigError, ContractError, TransientError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime.contract import StepRequest, parse_report
from mlretrain.runtime.store import open_store
from mlretrain.wire import pretty
from mlretrain_provider.backends import open_backend
from mlretrain_provider.backends.sagemaker import SagemakerBackend
from tests.fixtures_sagemaker import FakeSagemaker, connection, fake_sagemaker
from tests.free_port import free_port

pytest.importorskip("airflow.providers.amazon")
pytestmark = pytest.mark.airflow

WAIT_S = 20.0


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeSagemaker]:
    with fake_sagemaker(grace_s=0.5) as fake:
        yield fake


@pytest.fixture
def sagemaker(cloud: FakeSagemaker) -> Iterator[FakeSagemaker]:
    """The cloud as a test finds it: capacity, no refusals, containers that run what the request says."""
    yield cloud
    cloud.entrypoint = None
    cloud.capacity.set()
    cloud.calls.clear()


def backend(fake: FakeSagemaker, **options: Any) -> SagemakerBackend:
    opened = open_backend("sagemaker", {**fake.options, "sleep": _no_sleep, **options})
    assert isinstance(opened, SagemakerBackend)
    return opened


def _no_sleep(_seconds: float) -> None:
    """A test does not wait."""


def shell(fake: FakeSagemaker, script: str) -> None:
    """Let containers run ``script``."""
    fake.entrypoint = ("/bin/sh", "-c", script)


def job(fake: FakeSagemaker, name: str, **fields: Any) -> JobSpec:
    spec = JobSpec(name=name, request_uri=f"{fake.artifacts_uri}/{name}/request.json")
    return replace(spec, **{"labels": {"step": "train"}, **fields})


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def end_of(jobs: SagemakerBackend, handle: str) -> JobStatus:
    until(lambda: jobs.status(handle).ended)
    return jobs.status(handle)


def whole_log(jobs: SagemakerBackend, handle: str, cursor: str = "") -> str:
    text = ""
    while True:
        more, after = jobs.logs(handle, cursor)
        if after == cursor:
            assert more == ""
            return text
        text, cursor = text + more, after


def test_the_container_runs_the_step_and_its_report_is_in_the_store(sagemaker: FakeSagemaker) -> None:
    folder = f"{sagemaker.artifacts_uri}/churn/runs/r/validate-abc"
    store = open_store(folder, sagemaker.env)
    request = StepRequest(
        step="validate",
        pipeline="churn",
        run_id="r",
        window_end="2013-04-01T00:00:00+00:00",  # type: ignore[arg-type]
        key="abc",
        config={},
        output_uri=folder,
    )
    store.write("request.json", pretty(request))
    jobs = backend(sagemaker)
    spec = JobSpec(
        name="churn-validate-1",
        request_uri=f"{folder}/request.json",
        env={"MLRETRAIN_ATTEMPT": "7"},
        labels={"step": "validate"},
    )
    handle = jobs.submit(spec)
    assert handle == "processing/churn-validate-1"
    status = end_of(jobs, handle)
    report = parse_report(store.read("report.json"), "report.json")
    assert (status.state, status.exit_code) == ("failed", 12)
    assert (report.exit_code, report.attempt) == (12, 7)
    assert "missing fields" in whole_log(jobs, handle)


def test_a_job_is_started_once_whoever_asks(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "echo $COLOUR")
    handle = backend(sagemaker).submit(job(sagemaker, "once", env={"COLOUR": "blue"}))
    again = backend(sagemaker).submit(job(sagemaker, "once", env={"COLOUR": "red"}))
    assert handle == again == "training/once"
    jobs = backend(sagemaker)
    assert end_of(jobs, handle) == JobStatus(state="succeeded", exit_code=0)
    assert jobs.submit(job(sagemaker, "once")) == handle
    assert whole_log(jobs, handle) == "blue\n"


def test_a_failure_names_sagemakers_reason_and_the_end_of_the_log(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "for i in 1 2 3; do echo line $i; done; exit 11")
    jobs = backend(sagemaker, log_lines=2)
    status = end_of(jobs, jobs.submit(job(sagemaker, "fails")))
    assert status == JobStatus(
        state="failed",
        exit_code=11,
        reason="AlgorithmError: , exit code: 11; its log ends:\nline 2\nline 3",
    )
    assert (
        backend(sagemaker, log_lines=0).status("training/fails").reason == "AlgorithmError: , exit code: 11"
    )


def test_a_job_waits_for_capacity_and_says_so(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "echo here; sleep 60")
    sagemaker.capacity.clear()
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, "waits"))
    assert jobs.status(handle) == JobStatus(
        state="pending", reason="Starting: Preparing the instances for training"
    )
    assert jobs.logs(handle, "") == ("", "")
    sagemaker.capacity.set()
    until(lambda: jobs.status(handle) == JobStatus(state="running"))
    jobs.cancel(handle)


def test_a_stopped_job_gets_sigterm_and_is_cancelled(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "trap 'echo checkpoint kept; exit 20' TERM; echo ready; while true; do sleep 0.05; done")
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, "stops"))
    until(lambda: "ready" in jobs.logs(handle, "")[0])
    jobs.cancel(handle)
    assert end_of(jobs, handle) == JobStatus(state="cancelled", reason="it was stopped")
    assert whole_log(jobs, handle) == "ready\ncheckpoint kept\n"


def test_only_a_job_in_progress_is_stopped(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "true")
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, "over"))
    end_of(jobs, handle)
    jobs.cancel(handle)
    jobs.cancel("processing/nobody-knows")
    assert not [call for call in sagemaker.calls if call.startswith("stop")]
    assert jobs.status(handle).state == "succeeded"


def test_a_job_that_ends_while_it_is_being_stopped_is_left_alone(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "sleep 60")
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, "race"))
    refusal = "The request was rejected because the training job is in status Completed."
    sagemaker.refuse("ValidationException", refusal, operation="stop")
    jobs.cancel(handle)
    assert sagemaker.calls[-1] == "stop training/race"
    jobs.cancel(handle)
    assert end_of(jobs, handle).state == "cancelled"


def test_the_platform_itself_ends_a_job_that_takes_too_long(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "sleep 60")
    jobs = backend(sagemaker, log_lines=0)
    spec = job(sagemaker, "slow", timeout_s=0.7)
    handles = [jobs.submit(spec), jobs.submit(replace(spec, labels={"step": "validate"}))]
    assert handles == ["training/slow", "processing/slow"]
    for handle in handles:
        assert end_of(jobs, handle) == JobStatus(state="failed", reason="timed out after 1 s")


def test_an_interrupted_spot_job_is_pending_and_goes_on_elsewhere(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "echo started; sleep 60")
    jobs = backend(sagemaker, spot={"max_wait_s": 3600})
    spec = job(sagemaker, "spot", checkpoint_uri=f"{sagemaker.artifacts_uri}/spot/checkpoints")
    handle = jobs.submit(spec)
    text, cursor = "", ""
    until(lambda: bool(jobs.logs(handle, "")[0]))
    text, cursor = jobs.logs(handle, cursor)
    sagemaker.capacity.clear()
    shell(sagemaker, "echo went on")
    sagemaker.interrupt(handle)
    until(lambda: jobs.status(handle).state == "pending")
    assert jobs.status(handle).reason == "Interrupted: Insufficient capacity: the spot instances went"
    sagemaker.capacity.set()
    assert end_of(jobs, handle).state == "succeeded"
    assert text + whole_log(jobs, handle, cursor) == "started\nwent on\n"


def test_lines_of_other_nodes_are_marked(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "echo rank $MLRETRAIN_RANK")
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, "many", nodes=3))
    end_of(jobs, handle)
    assert sorted(whole_log(jobs, handle).splitlines()) == ["[algo-2] rank 1", "[algo-3] rank 2", "rank 0"]


def test_one_node_that_fails_ends_the_job(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "[ $MLRETRAIN_RANK = 1 ] && exit 9; sleep 60")
    jobs = backend(sagemaker)
    assert end_of(jobs, jobs.submit(job(sagemaker, "partly", nodes=2))).exit_code == 9


def test_a_job_that_nobody_knows_is_lost(sagemaker: FakeSagemaker) -> None:
    jobs = backend(sagemaker)
    for kind in ("training", "processing"):
        assert jobs.status(f"{kind}/gone") == JobStatus(
            state="lost", reason=f"SageMaker knows no {kind} job gone"
        )
        assert jobs.logs(f"{kind}/gone", "") == ("", "")


def test_a_foreign_handle_is_told(sagemaker: FakeSagemaker) -> None:
    with pytest.raises(ContractError, match=r"not a SageMaker job's handle \(found '/tmp/job'"):
        backend(sagemaker).status("/tmp/job")


@pytest.mark.parametrize(
    "name", ["Ümläut 予測 📈", "x" * 200, "a" * 63, "Upper-Case", "9-starts-with-a-digit"]
)
def test_every_name_is_taken(sagemaker: FakeSagemaker, name: str) -> None:
    shell(sagemaker, "true")
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, name))
    assert end_of(jobs, handle).state == "succeeded"
    assert len(handle.partition("/")[2]) <= 63
    assert jobs.submit(job(sagemaker, name)) == handle


def test_throttling_is_waited_out(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "true")
    pauses: list[float] = []
    jobs = backend(sagemaker, sleep=pauses.append, jitter=lambda: 0.0)
    sagemaker.refuse("ThrottlingException", "Rate exceeded", times=3)
    assert end_of(jobs, jobs.submit(job(sagemaker, "throttled"))).state == "succeeded"
    assert pauses == [0.5, 1.0, 2.0]


def test_endless_throttling_is_transient(sagemaker: FakeSagemaker) -> None:
    pauses: list[float] = []
    jobs = backend(sagemaker, sleep=pauses.append, jitter=lambda: 1.0)
    sagemaker.refuse("ThrottlingException", "Rate exceeded", times=6)
    with pytest.raises(TransientError, match="AWS throttles, also the 6th time"):
        jobs.status("training/any")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("code", "message", "error", "told"),
    [
        (
            "AccessDeniedException",
            "User: u is not authorized to perform: iam:PassRole on resource: r",
            ConfigError,
            "iam:PassRole on sagemaker.role_arn",
        ),
        (
            "AccessDeniedException",
            "User: u is not authorized to perform: sagemaker:CreateTrainingJob",
            ConfigError,
            "the Airflow connection 'mlretrain_sagemaker' do that",
        ),
        (
            "ValidationException",
            "Could not assume role arn:aws:iam::123456789012:role/mlretrain.",
            ConfigError,
            "trust policy lets sagemaker.amazonaws.com assume it",
        ),
        (
            "ResourceLimitExceeded",
            "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances",
            TransientError,
            "quota.*'ml.g5.xlarge for training job usage'",
        ),
        ("UnrecognizedClientException", "", ConfigError, "credentials of the Airflow connection"),
        ("ValidationException", "1 validation error detected", ConfigError, "AWS refuses the request"),
    ],
)
def test_refusals_are_told_apart(
    sagemaker: FakeSagemaker, code: str, message: str, error: type[Exception], told: str
) -> None:
    sagemaker.refuse(code, message)
    with pytest.raises(error, match=told):
        backend(sagemaker).submit(job(sagemaker, "refused"))


def test_a_cloud_that_does_not_answer_is_transient(
    sagemaker: FakeSagemaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = connection(f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AIRFLOW_CONN_MLRETRAIN_SAGEMAKER", away)
    with pytest.raises(TransientError, match="AWS does not answer"):
        backend(sagemaker).status("training/any")


def test_a_connection_without_region_is_told(
    sagemaker: FakeSagemaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLRETRAIN_SAGEMAKER", '{"conn_type": "aws"}')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ConfigError, match=r"specify a region.*region_name of the Airflow connection"):
        backend(sagemaker).status("training/any")


def test_nothing_is_asked_when_a_backend_is_made() -> None:
    open_backend("sagemaker", {"conn_id": "nobody_made_it", "role_arn": "arn:aws:iam::123456789012:role/r"})


@pytest.mark.parametrize("missing", ["botocore.exceptions", "airflow.providers.amazon.aws.hooks.sagemaker"])
def test_a_missing_extra_is_named(
    sagemaker: FakeSagemaker, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'airflow-provider-mlretrain\[amazon\]'"):
        backend(sagemaker).status("training/any")


def test_a_job_that_is_killed_from_outside_says_what_may_have_done_it(sagemaker: FakeSagemaker) -> None:
    shell(sagemaker, "echo up; sleep 60")
    jobs = backend(sagemaker)
    handle = jobs.submit(job(sagemaker, "killed"))
    until(lambda: bool(jobs.logs(handle, "")[0]))
    sagemaker.kill(handle)
    status = end_of(jobs, handle)
    assert status.exit_code == 137
    assert status.reason == "AlgorithmError: , exit code: 137 (SIGKILL: out of memory?); its log ends:\nup"
