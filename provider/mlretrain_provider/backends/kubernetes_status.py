"""What has become of a job, from its Job, pods and events as the API server gives them (JSON)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from mlretrain.ports import JobState, JobStatus
from mlretrain_provider.backends import kubernetes_pod
from mlretrain_provider.backends.kubernetes_job import QUEUE_LABEL
from mlretrain_provider.backends.kubernetes_pod import clause, condition, newest, newest_of_each_rank, seconds

Object = Mapping[str, Any]

STATE_ANNOTATION, REASON_ANNOTATION = "mlretrain/state", "mlretrain/reason"
EXIT_CODE_ANNOTATION = "mlretrain/exit-code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A job's state, and what it has come to if it still has to be stopped for that.

    :param verdict: to be recorded on the Job while the Job is stopped; the platform itself would go on.
    """

    status: JobStatus
    verdict: JobStatus | None = None


def outlook(
    job: Object, pods: Sequence[Object], events: Sequence[Object], *, now: float, startup_timeout_s: float
) -> Outlook:
    """How the job is.

    A job that is being stopped is ``running`` until its last process has ended, so that whoever waits for
    its end may start another in its place.

    :param events: warnings about the Job and its pods.
    :param now: seconds since the epoch.
    """
    current = newest_of_each_rank(pods)
    if condition(job, "Complete"):
        return Outlook(status=JobStatus(state="succeeded", exit_code=0))
    end = recorded(job) or _end_by_platform(job, pods) or _end_by_itself(job, current)
    if end is not None:
        alive = any(kubernetes_pod.is_alive(pod, now) for pod in pods)
        return Outlook(status=_stopping(end) if alive else end)
    if job["spec"].get("suspend"):
        queue = job["metadata"]["labels"].get(QUEUE_LABEL)
        reason = f"Queued: the queue {queue!r} has not let it start"
        return Outlook(status=JobStatus(state="pending", reason=reason))
    end = _end_beside_others(job, current)
    if end is not None:
        return Outlook(status=_stopping(end), verdict=end)
    return (
        _on_lost_node(job, current, now)
        or _starting(job, current, events, now, startup_timeout_s)
        or Outlook(status=JobStatus(state="running"))
    )


def is_finished(job: Object) -> bool:
    """Whether the Job has ended, or has been told to: stopping it would change nothing."""
    ended = any(condition(job, name) for name in ("Complete", "Failed", "FailureTarget"))
    return bool(ended or recorded(job) or job["metadata"].get("deletionTimestamp"))


def recorded(job: Object) -> JobStatus | None:
    """The verdict with which the Job was stopped, if it was."""
    notes = job["metadata"].get("annotations") or {}
    if STATE_ANNOTATION not in notes:
        return None
    code = notes.get(EXIT_CODE_ANNOTATION)
    return JobStatus(
        state=cast("JobState", notes[STATE_ANNOTATION]),
        exit_code=None if code is None else int(code),
        reason=notes.get(REASON_ANNOTATION),
    )


def record(verdict: JobStatus) -> dict[str, str]:
    """The annotations that record ``verdict``."""
    found = {
        STATE_ANNOTATION: verdict.state,
        REASON_ANNOTATION: verdict.reason,
        EXIT_CODE_ANNOTATION: None if verdict.exit_code is None else str(verdict.exit_code),
    }
    return {name: text for name, text in found.items() if text is not None}


def leading_pod(pods: Sequence[Object]) -> Object | None:
    """The pod whose log is the job's: rank 0's."""
    return next(iter(newest_of_each_rank(pods)), None)


def wants_events(job: Object, pods: Sequence[Object]) -> bool:
    """Whether events may tell what the job is waiting for."""
    return not is_finished(job) and (not pods or any(map(kubernetes_pod.is_waiting, pods)))


def _end_by_platform(job: Object, pods: Sequence[Object]) -> JobStatus | None:
    """The end that the platform has decided on: by the Job's limits, or because somebody deletes it."""
    failed = condition(job, "Failed") or condition(job, "FailureTarget")
    if failed is None:
        deleted = job["metadata"].get("deletionTimestamp")
        return JobStatus(state="lost", reason="the Job was deleted") if deleted else None
    if failed.get("reason") == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return JobStatus(state="failed", reason=f"timed out after {limit} s")
    text = f"{failed.get('reason')}: {failed.get('message')}"
    unknown = JobStatus(state="failed", reason=f"{text}; its pod was deleted or its node is lost")
    return _first_failure(job, pods) or unknown


def _end_by_itself(job: Object, pods: Sequence[Object]) -> JobStatus | None:
    """The end that the pods have come to, which the Job does not tell yet."""
    # A pod that is being deleted may be replaced; that is for the Job to say.
    failed = [
        pod for pod in pods if pod["status"].get("phase") == "Failed" and not kubernetes_pod.is_leaving(pod)
    ]
    done = [pod for pod in pods if pod["status"].get("phase") == "Succeeded"]
    return _first_failure(job, failed) or _success(job, done)


def _end_beside_others(job: Object, pods: Sequence[Object]) -> JobStatus | None:
    """The end of a step in whose pods other containers go on, which they do for good."""
    ended = [pod for pod in pods if kubernetes_pod.is_outlived(pod)]
    return _first_failure(job, ended) or _success(job, ended)


def _first_failure(job: Object, pods: Iterable[Object]) -> JobStatus | None:
    failures = [(found, pod) for pod in pods if (found := kubernetes_pod.failure(pod))]
    if not failures:
        return None
    (_, status), pod = min(failures, key=lambda each: each[0][0])
    return replace(status, reason=_of_rank(job, pod, status.reason))


def _success(job: Object, done: Sequence[Object]) -> JobStatus | None:
    return JobStatus(state="succeeded", exit_code=0) if len(done) == _nodes(job) else None


def _on_lost_node(job: Object, pods: Sequence[Object], now: float) -> Outlook | None:
    lost = next((pod for pod in pods if kubernetes_pod.is_lost(pod, now)), None)
    if lost is None:
        return None
    reason = f"NodeLost: {lost['spec'].get('nodeName')} has not confirmed that the pod ended"
    return _failed(_of_rank(job, lost, reason))


def _starting(
    job: Object, pods: Sequence[Object], events: Sequence[Object], now: float, timeout_s: float
) -> Outlook | None:
    """Why the job does not run yet, as the first rank tells that can; ``None`` if all have started."""
    if not pods:
        return _without_pods(job, events, now, timeout_s)
    waiting = [pod for pod in pods if kubernetes_pod.is_waiting(pod)]
    if not waiting:
        return None
    problems = [(pod, *kubernetes_pod.problem(pod, events)) for pod in waiting]
    # What is hopeless first, then what has a name at all.
    pod, reason, is_hopeless = min(problems, key=lambda each: (not each[2], each[1] is None))
    reason = _of_rank(job, pod, reason)
    if is_hopeless:
        return _failed(reason)
    return _pending(reason, now - seconds(pod["metadata"]["creationTimestamp"]), timeout_s)


def _without_pods(job: Object, events: Sequence[Object], now: float, timeout_s: float) -> Outlook:
    refusal = newest(each for each in events if each.get("reason") == "FailedCreate")
    if refusal is None:
        return Outlook(status=JobStatus(state="pending", reason="no pod yet"))
    since = job["status"].get("startTime") or job["metadata"]["creationTimestamp"]
    return _pending(f"FailedCreate: {clause(refusal.get('message'))}", now - seconds(since), timeout_s)


def _pending(reason: str | None, waited_s: float, timeout_s: float) -> Outlook:
    if waited_s > timeout_s:
        return _failed(f"{reason or 'the pod has not started'} (gave up after {timeout_s:g} s)")
    return Outlook(status=JobStatus(state="pending", reason=reason))


def _failed(reason: str | None) -> Outlook:
    status = JobStatus(state="failed", reason=reason)
    return Outlook(status=status, verdict=status)


def _stopping(end: JobStatus) -> JobStatus:
    return JobStatus(state="running", reason=f"stopping: {end.reason or end.state}")


def _of_rank(job: Object, pod: Object, reason: str | None) -> str | None:
    return f"rank {kubernetes_pod.rank(pod)}: {reason}" if reason and _nodes(job) > 1 else reason


def _nodes(job: Object) -> int:
    return int(job["spec"].get("completions", 1))
