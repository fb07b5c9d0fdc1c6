"""What SageMaker says of a job, in the lifecycle's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlretrain.ports import JobStatus

Description = Mapping[str, Any]

# "AlgorithmError: , exit code: 1"; a framework's own words may come before, with an exit code of theirs.
_EXIT_CODE = re.compile(r"exit[ _]?code:?\s*(\d{1,3})\b", re.IGNORECASE)
_KILLED = 128 + 9
_AT_WORK = {"Training", "Uploading", "Updating"}
_NOT_YET = {
    "Downloading",
    "DownloadingTrainingImage",
    "Interrupted",
    "LaunchingMLInstances",
    "Pending",
    "PreparingTrainingStack",
    "Restarting",
    "Starting",
}


def training_status(job: Description) -> JobStatus:
    """The status in an answer of DescribeTrainingJob."""
    secondary = str(job.get("SecondaryStatus", ""))
    match job.get("TrainingJobStatus"):
        case "InProgress" if secondary in _NOT_YET:
            return JobStatus(state="pending", reason=_clause(secondary, _last_message(job)))
        case "InProgress":
            return JobStatus(state="running", reason=None if secondary in _AT_WORK else secondary or None)
        case "Completed":
            return JobStatus(state="succeeded", exit_code=0)
        case "Failed":
            return _failed(job)
        case "Stopping":
            return JobStatus(state="running", reason="Stopping")
        case "Stopped":
            return _stopped_training(job, secondary)
        case other:
            return JobStatus(state="lost", reason=f"SageMaker calls the job {other}")


def processing_status(job: Description) -> JobStatus:
    """The status in an answer of DescribeProcessingJob."""
    match job.get("ProcessingJobStatus"):
        case "InProgress" if job.get("ProcessingStartTime") is None:
            return JobStatus(state="pending", reason="Starting: instances and image are being prepared")
        case "InProgress":
            return JobStatus(state="running")
        case "Completed":
            return JobStatus(state="succeeded", exit_code=0)
        case "Failed":
            return _failed(job)
        case "Stopping":
            return JobStatus(state="running", reason="Stopping")
        case "Stopped":
            limit_s = job.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
            if limit_s is not None and _ran_for(job) >= limit_s:
                return JobStatus(state="failed", reason=f"timed out after {limit_s} s")
            return JobStatus(state="cancelled", reason=job.get("ExitMessage") or "it was stopped")
        case other:
            return JobStatus(state="lost", reason=f"SageMaker calls the job {other}")


def _stopped_training(job: Description, secondary: str) -> JobStatus:
    limits = job.get("StoppingCondition", {})
    match secondary:
        case "MaxRuntimeExceeded":
            return JobStatus(state="failed", reason=f"timed out after {limits.get('MaxRuntimeInSeconds')} s")
        case "MaxWaitTimeExceeded":
            waited_s = limits.get("MaxWaitTimeInSeconds")
            return JobStatus(
                state="failed",
                reason=f"timed out after {waited_s} s, waiting for spot instances included",
            )
        case _:
            return JobStatus(state="cancelled", reason="it was stopped")


def _failed(job: Description) -> JobStatus:
    reason = str(job.get("FailureReason") or "SageMaker gives no reason").strip()
    said = str(job.get("ExitMessage") or "").strip()
    codes = _EXIT_CODE.findall(reason) or _EXIT_CODE.findall(said)
    exit_code = int(codes[-1]) if codes else None
    if exit_code == _KILLED:
        said = said or "SIGKILL: out of memory?"
    return JobStatus(
        state="failed",
        exit_code=exit_code,
        reason=f"{reason} ({said})" if said and said not in reason else reason,
    )


def _last_message(job: Description) -> str | None:
    transitions = job.get("SecondaryStatusTransitions") or ()
    return transitions[-1].get("StatusMessage") if transitions else None


def _clause(name: str, message: str | None) -> str:
    return f"{name}: {message}" if message and message != name else name


def _ran_for(job: Description) -> float:
    start, end = job.get("ProcessingStartTime"), job.get("ProcessingEndTime")
    return float((end - start).total_seconds()) if start and end else 0.0
