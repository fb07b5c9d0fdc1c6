"""What SageMaker says, in the lifecycle's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlretrain.ports import JobStatus
from mlretrain_provider.backends.sagemaker_status import processing_status, training_status

LIMITS = {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
START = datetime(2026, 11, 21, 4, tzinfo=UTC)


def training(status: str, secondary: str, **more: Any) -> dict[str, Any]:
    """An answer of DescribeTrainingJob."""
    return {
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
        "StoppingCondition": LIMITS,
        **more,
    }


def processing(status: str, seconds: float | None = 10, **more: Any) -> dict[str, Any]:
    """An answer of DescribeProcessingJob about a job that has run for ``seconds``."""
    times = {}
    if seconds is not None:
        times = {"ProcessingStartTime": START, "ProcessingEndTime": START + timedelta(seconds=seconds)}
    return {
        "ProcessingJobStatus": status,
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **times,
        **more,
    }


def said(message: str) -> list[dict[str, str]]:
    return [{"Status": "Starting", "StatusMessage": "before"}, {"Status": "now", "StatusMessage": message}]


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (training("InProgress", "Starting"), JobStatus(state="pending", reason="Starting")),
        (
            training("InProgress", "Pending", SecondaryStatusTransitions=said("Insufficient capacity error")),
            JobStatus(state="pending", reason="Pending: Insufficient capacity error"),
        ),
        (training("InProgress", "Downloading"), JobStatus(state="pending", reason="Downloading")),
        (
            training("InProgress", "Interrupted", SecondaryStatusTransitions=said("Spot capacity reclaimed")),
            JobStatus(state="pending", reason="Interrupted: Spot capacity reclaimed"),
        ),
        (training("InProgress", "Restarting"), JobStatus(state="pending", reason="Restarting")),
        (training("InProgress", "Training"), JobStatus(state="running")),
        (training("InProgress", "Uploading"), JobStatus(state="running")),
        (training("InProgress", "Dreaming"), JobStatus(state="running", reason="Dreaming")),
        (training("Stopping", "Stopping"), JobStatus(state="running", reason="Stopping")),
        (training("Stopped", "Stopped"), JobStatus(state="cancelled", reason="it was stopped")),
        (
            training("Stopped", "MaxRuntimeExceeded"),
            JobStatus(state="failed", reason="timed out after 3600 s"),
        ),
        (
            training("Stopped", "MaxWaitTimeExceeded"),
            JobStatus(state="failed", reason="timed out after 7200 s, waiting for spot instances included"),
        ),
        (training("Completed", "Completed"), JobStatus(state="succeeded", exit_code=0)),
        (training("Deleting", "Stopped"), JobStatus(state="lost", reason="SageMaker calls the job Deleting")),
    ],
)
def test_training(job: dict[str, Any], status: JobStatus) -> None:
    assert training_status(job) == status


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (
            processing("InProgress", None),
            JobStatus(state="pending", reason="Starting: instances and image are being prepared"),
        ),
        (processing("InProgress"), JobStatus(state="running")),
        (processing("Stopping"), JobStatus(state="running", reason="Stopping")),
        (processing("Completed"), JobStatus(state="succeeded", exit_code=0)),
        (processing("Stopped"), JobStatus(state="cancelled", reason="it was stopped")),
        (processing("Stopped", None), JobStatus(state="cancelled", reason="it was stopped")),
        (processing("Stopped", 3601), JobStatus(state="failed", reason="timed out after 3600 s")),
        (
            processing("Failed", FailureReason="AlgorithmError: , exit code: 11", ExitMessage="no rows"),
            JobStatus(state="failed", exit_code=11, reason="AlgorithmError: , exit code: 11 (no rows)"),
        ),
        (
            processing(
                "Failed",
                FailureReason="AlgorithmError: See job logs for more information",
                ExitMessage="InvalidInput: no rows (exit code 11)",
            ),
            JobStatus(
                state="failed",
                exit_code=11,
                reason="AlgorithmError: See job logs for more information "
                "(InvalidInput: no rows (exit code 11))",
            ),
        ),
    ],
)
def test_processing(job: dict[str, Any], status: JobStatus) -> None:
    assert processing_status(job) == status


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("AlgorithmError: , exit code: 1", 1),
        ("AlgorithmError: Exit Code: 139", 139),
        ('AlgorithmError: ExecuteUserScriptError:\nExitCode 11\nErrorMessage ""', 11),
        ('AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "", exit code: 20', 20),
        ("AlgorithmError: UserCodeError: exit code 3 of a tool, exit code: 10", 10),
        ("CapacityError: Unable to provision requested ML compute capacity.", None),
        ("InternalServerError: We encountered an internal error. Please try again.", None),
        ("ClientError: Cannot pull algorithm container.", None),
    ],
)
def test_exit_codes_are_read_from_the_reason(reason: str, code: int | None) -> None:
    status = training_status(training("Failed", "Failed", FailureReason=reason))
    assert (status.state, status.exit_code, status.reason) == ("failed", code, reason)


def test_a_kill_is_called_by_its_name() -> None:
    status = training_status(training("Failed", "Failed", FailureReason="AlgorithmError: , exit code: 137"))
    assert status.reason == "AlgorithmError: , exit code: 137 (SIGKILL: out of memory?)"


def test_a_failure_without_a_reason_says_so() -> None:
    status = training_status(training("Failed", "Failed"))
    assert status == JobStatus(state="failed", reason="SageMaker gives no reason")
