"""What has become of a job, from its Job, pods and events as the API server gives them (JSON)."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from mlretrain.ports import JobState, JobStatus
from mlretrain_provider.backends.kubernetes_job import MAIN, QUEUE_LABEL, RANK_ANNOTATION

Object = Mapping[str, Any]

STATE_ANNOTATION, REASON_ANNOTATION = "mlretrain/state", "mlretrain/reason"
EXIT_CODE_ANNOTATION = "mlretrain/exit-code"
NODE_LOST_S = 60.0
"""Seconds past its own deadline for ending after which a pod is taken to be on a node that is gone."""
# Waiting for these to go away by themselves would be waiting for somebody to change the cluster.
_HOPELESS = frozenset(
    {
        "CreateContainerConfigError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)
_NO_REASON = (None, "", "Error", "Completed")


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
    current = _newest_of_each_rank(pods)
    if _condition(job, "Complete"):
        return Outlook(status=JobStatus(state="succeeded", exit_code=0))
    end = recorded(job) or _end_by_platform(job, pods) or _end_by_itself(job, current)
    alive = [pod for pod in pods if _is_alive(pod, now)]
    if end is not None:
        status = _stopping(end) if alive else end
        return Outlook(status=status)
    if job["spec"].get("suspend"):
        queue = job["metadata"]["labels"].get(QUEUE_LABEL)
        reason = f"Queued: the queue {queue!r} has not let it start"
        return Outlook(status=JobStatus(state="pending", reason=reason))
    end = _end_beside_others(job, current)
    if end is not None:
        return Outlook(status=_stopping(end), verdict=end)
    lost = next((pod for pod in current if _runs(pod) and _is_overdue(pod, now)), None)
    if lost is not None:
        reason = f"NodeLost: {lost['spec'].get('nodeName')} has not confirmed that the pod ended"
        return _failed(_of_rank(job, lost, reason))
    return _starting(job, current, events, now, startup_timeout_s) or Outlook(
        status=JobStatus(state="running")
    )


def is_finished(job: Object) -> bool:
    """Whether the Job has ended, or has been told to: stopping it would change nothing."""
    ended = _condition(job, "Complete") or _condition(job, "Failed") or _condition(job, "FailureTarget")
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
    current = _newest_of_each_rank(pods)
    return current[0] if current else None


def has_ended(pod: Object) -> bool:
    """Whether the step's container will write no more."""
    return pod["status"].get("phase") in ("Succeeded", "Failed") or _main_end(pod) is not None


def wants_events(job: Object, pods: Sequence[Object]) -> bool:
    """Whether events may tell what the job is waiting for."""
    return not is_finished(job) and (
        not pods or any(pod["status"].get("phase") in (None, "Pending") for pod in pods)
    )


def _end_by_platform(job: Object, pods: Sequence[Object]) -> JobStatus | None:
    """The end that the platform has decided on: by the Job's limits, or because somebody deletes it."""
    condition = _condition(job, "Failed") or _condition(job, "FailureTarget")
    if condition is None:
        deleted = job["metadata"].get("deletionTimestamp")
        return JobStatus(state="lost", reason="the Job was deleted") if deleted else None
    if condition.get("reason") == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return JobStatus(state="failed", reason=f"timed out after {limit} s")
    failures = [found for pod in pods if (found := _failure(job, pod))]
    if failures:
        return min(failures, key=lambda each: each[0])[1]
    text = f"{condition.get('reason')}: {condition.get('message')}"
    return JobStatus(state="failed", reason=f"{text}; its pod was deleted or its node is lost")


def _end_by_itself(job: Object, pods: Sequence[Object]) -> JobStatus | None:
    """The end that the pods have come to, which the Job does not tell yet."""
    # A pod that is being deleted may be replaced; that is for the Job to say.
    failures = [
        found
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and pod["status"].get("phase") == "Failed"
        and (found := _failure(job, pod))
    ]
    if failures:
        return min(failures, key=lambda each: each[0])[1]
    done = [pod for pod in pods if pod["status"].get("phase") == "Succeeded"]
    if len(done) == job["spec"].get("completions", 1):
        return JobStatus(state="succeeded", exit_code=0)
    return None


def _end_beside_others(job: Object, pods: Sequence[Object]) -> JobStatus | None:
    """The end of a step in whose pods other containers go on, which they do for good."""
    ended = [pod for pod in pods if pod["status"].get("phase") == "Running" and _main_end(pod)]
    failures = [found for pod in ended if (found := _failure(job, pod))]
    if failures:
        return min(failures, key=lambda each: each[0])[1]
    if len(ended) == job["spec"].get("completions", 1):
        return JobStatus(state="succeeded", exit_code=0)
    return None


def _starting(
    job: Object, pods: Sequence[Object], events: Sequence[Object], now: float, timeout_s: float
) -> Outlook | None:
    """Why the job does not run yet, as the first rank tells that can; ``None`` if all have started."""
    waiting = [pod for pod in pods if pod["status"].get("phase") in (None, "Pending")]
    if not pods:
        return _without_pods(job, events, now, timeout_s)
    if not waiting:
        return None
    problems = [_problem(job, pod, events) for pod in waiting]
    hopeless = next((reason for reason, is_hopeless in problems if is_hopeless), None)
    if hopeless:
        return _failed(hopeless)
    named = next(((pod, reason) for pod, (reason, _) in zip(waiting, problems, strict=True) if reason), None)
    pod, reason = named or (waiting[0], None)
    waited_s = now - _seconds(pod["metadata"]["creationTimestamp"])
    if waited_s > timeout_s:
        return _failed(f"{reason or 'the pod has not started'} (gave up after {timeout_s:g} s)")
    return Outlook(status=JobStatus(state="pending", reason=reason))


def _without_pods(job: Object, events: Sequence[Object], now: float, timeout_s: float) -> Outlook:
    refusal = _newest(each for each in events if each.get("reason") == "FailedCreate")
    if refusal is None:
        return Outlook(status=JobStatus(state="pending", reason="no pod yet"))
    reason = f"FailedCreate: {_clause(refusal.get('message'))}"
    since = job["status"].get("startTime") or job["metadata"]["creationTimestamp"]
    if now - _seconds(since) > timeout_s:
        return _failed(f"{reason} (gave up after {timeout_s:g} s)")
    return Outlook(status=JobStatus(state="pending", reason=reason))


def _problem(job: Object, pod: Object, events: Sequence[Object]) -> tuple[str | None, bool]:
    """What keeps the pod from starting, and whether that is hopeless."""
    about = [each for each in events if each.get("involvedObject", {}).get("uid") == pod["metadata"]["uid"]]
    waits = [each.get("state", {}).get("waiting") or {} for each in _container_statuses(pod)]
    for waiting in waits:
        reason = waiting.get("reason")
        if reason in _HOPELESS or (reason and waiting.get("message")):
            pull = _newest(each for each in about if "Failed to pull" in (each.get("message") or ""))
            message = pull.get("message") if pull and reason == "ImagePullBackOff" else waiting.get("message")
            return _of_rank(job, pod, f"{reason}: {_clause(message)}"), reason in _HOPELESS
    scheduled = _condition(pod, "PodScheduled", "False")
    if scheduled is not None:
        return _of_rank(job, pod, f"{scheduled.get('reason')}: {_clause(scheduled.get('message'))}"), False
    warning = _newest(about)
    if warning is not None:
        return _of_rank(job, pod, f"{warning.get('reason')}: {_clause(warning.get('message'))}"), False
    return next((each["reason"] for each in waits if each.get("reason")), None), False


def _failure(job: Object, pod: Object) -> tuple[str, JobStatus] | None:
    """When and how the pod failed, if it did."""
    status = pod["status"]
    end = _main_end(pod) or next(_bad_ends(pod), None)
    if status.get("phase") != "Failed" and (end is None or end.get("exitCode") == 0):
        return None
    code = end.get("exitCode") if end else None
    reason = _pod_reason(pod) or (_container_reason(end, pod) if end else "the pod failed")
    at = (end or {}).get("finishedAt") or ""
    return at, JobStatus(state="failed", exit_code=code, reason=_of_rank(job, pod, reason))


def _pod_reason(pod: Object) -> str | None:
    """Why the platform ended the pod, if it did: evicted, preempted, its node lost or shut down."""
    disruption = _condition(pod, "DisruptionTarget")
    for source in (pod["status"], disruption or {}):
        if source.get("reason"):
            return f"{source['reason']}: {_clause(source.get('message'))}"
    return None


def _container_reason(end: Object, pod: Object) -> str:
    code, reason = int(end.get("exitCode", -1)), end.get("reason")
    if reason == "OOMKilled":
        limit = _memory_limit(pod)
        return f"OOMKilled: the container used more than {f'its {limit}' if limit else 'the node has left'}"
    if reason not in _NO_REASON:
        return f"{reason}: {_clause(end.get('message'))}"
    number = end.get("signal") or (code - 128 if code > 128 else 0)
    if number in set(signal.Signals):
        return f"the container was ended by {signal.Signals(number).name}"
    return f"the container exited with status {code}"


def _memory_limit(pod: Object) -> str | None:
    for container in pod["spec"]["containers"]:
        if container["name"] == MAIN:
            limits = container.get("resources", {}).get("limits") or {}
            return cast("str | None", limits.get("memory"))
    return None


def _main_end(pod: Object) -> Object | None:
    for status in pod["status"].get("containerStatuses") or ():
        if status["name"] == MAIN:
            return cast("Object | None", status.get("state", {}).get("terminated"))
    return None


def _bad_ends(pod: Object) -> Iterator[Object]:
    for status in _container_statuses(pod):
        end = status.get("state", {}).get("terminated")
        if end and end.get("exitCode") != 0:
            yield end


def _is_alive(pod: Object, now: float) -> bool:
    """Whether a container of the pod still runs, as far as anybody can know."""
    return _runs(pod) and not _is_overdue(pod, now)


def _runs(pod: Object) -> bool:
    return any("running" in (each.get("state") or {}) for each in _container_statuses(pod))


def _is_overdue(pod: Object, now: float) -> bool:
    """Whether the pod was to have ended long ago; its deletion time is the one by which it must have."""
    deadline = pod["metadata"].get("deletionTimestamp")
    return bool(deadline) and now - _seconds(deadline) > NODE_LOST_S


def _container_statuses(pod: Object) -> list[Object]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _newest_of_each_rank(pods: Sequence[Object]) -> list[Object]:
    found: dict[int, Object] = {}
    for pod in sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp"))):
        found[_rank(pod)] = pod
    return [found[rank] for rank in sorted(found)]


def _rank(pod: Object) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(RANK_ANNOTATION, 0))


def _of_rank(job: Object, pod: Object, reason: str) -> str:
    return f"rank {_rank(pod)}: {reason}" if job["spec"].get("completions", 1) > 1 else reason


def _condition(thing: Object, name: str, status: str = "True") -> Object | None:
    conditions = thing.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == name and each["status"] == status), None)


def _newest(events: Iterator[Object] | Sequence[Object]) -> Object | None:
    return max(events, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime")), default=None)


def _failed(reason: str) -> Outlook:
    status = JobStatus(state="failed", reason=reason)
    return Outlook(status=status, verdict=status)


def _stopping(end: JobStatus) -> JobStatus:
    return JobStatus(state="running", reason=f"stopping: {end.reason or end.state}")


def _clause(text: str | None) -> str:
    return " ".join((text or "").split()).rstrip(".") or "no further details"


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
