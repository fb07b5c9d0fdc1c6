"""One pod as the API server describes it: what it waits for, whether it runs, how it ended."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from mlretrain.ports import JobStatus
from mlretrain_provider.backends.kubernetes_job import MAIN, RANK_ANNOTATION

Object = Mapping[str, Any]

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


def rank(pod: Object) -> int:
    """Which of several nodes the pod is."""
    return int((pod["metadata"].get("annotations") or {}).get(RANK_ANNOTATION, 0))


def newest_of_each_rank(pods: Sequence[Object]) -> list[Object]:
    """The pods that count, by rank: one that was deleted by hand may have been replaced."""
    found: dict[int, Object] = {}
    for pod in sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp"))):
        found[rank(pod)] = pod
    return [found[number] for number in sorted(found)]


def is_waiting(pod: Object) -> bool:
    """Whether the pod has not started yet."""
    return pod["status"].get("phase") in (None, "Pending")


def is_leaving(pod: Object) -> bool:
    """Whether the pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_alive(pod: Object, now: float) -> bool:
    """Whether a container of the pod still runs, as far as anybody can know."""
    return _runs(pod) and not _is_overdue(pod, now)


def is_lost(pod: Object, now: float) -> bool:
    """Whether the pod was to have ended long ago, and its node does not say that it has."""
    return _runs(pod) and _is_overdue(pod, now)


def has_ended(pod: Object) -> bool:
    """Whether the step's container will write no more."""
    return pod["status"].get("phase") in ("Succeeded", "Failed") or main_end(pod) is not None


def is_outlived(pod: Object) -> bool:
    """Whether the step's container has ended and another goes on, init containers (sidecars) apart."""
    others = pod["status"].get("containerStatuses") or ()
    return main_end(pod) is not None and any("running" in (each.get("state") or {}) for each in others)


def main_end(pod: Object) -> Object | None:
    """How the step's container ended, if it has."""
    for status in pod["status"].get("containerStatuses") or ():
        if status["name"] == MAIN:
            return cast("Object | None", status.get("state", {}).get("terminated"))
    return None


def problem(pod: Object, events: Sequence[Object]) -> tuple[str | None, bool]:
    """What keeps the pod from starting, and whether that is hopeless.

    :param events: warnings, also of other objects.
    """
    about = [each for each in events if each.get("involvedObject", {}).get("uid") == pod["metadata"]["uid"]]
    waits = [each.get("state", {}).get("waiting") or {} for each in _container_statuses(pod)]
    for waiting in waits:
        reason = waiting.get("reason")
        if reason in _HOPELESS or (reason and waiting.get("message")):
            pull = newest(each for each in about if "Failed to pull" in (each.get("message") or ""))
            source = pull if pull and reason == "ImagePullBackOff" else waiting
            return f"{reason}: {clause(source.get('message'))}", reason in _HOPELESS
    for source in (condition(pod, "PodScheduled", "False"), newest(about)):
        if source is not None:
            return f"{source.get('reason')}: {clause(source.get('message'))}", False
    return next((each["reason"] for each in waits if each.get("reason")), None), False


def failure(pod: Object) -> tuple[str, JobStatus] | None:
    """When and how the pod failed, if it did."""
    status = pod["status"]
    end = main_end(pod) or _bad_end(pod)
    if status.get("phase") != "Failed" and (end is None or end.get("exitCode") == 0):
        return None
    code = end.get("exitCode") if end else None
    reason = _platforms_reason(pod) or (containers_reason(end, pod) if end else "the pod failed")
    at = (end or {}).get("finishedAt") or ""
    return at, JobStatus(state="failed", exit_code=code, reason=reason)


def condition(thing: Object, name: str, status: str = "True") -> Object | None:
    """The condition of a pod or Job, if it has that status."""
    conditions = thing.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == name and each["status"] == status), None)


def newest(events: Iterable[Object]) -> Object | None:
    """The event that happened last."""
    return max(events, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime")), default=None)


def clause(text: str | None) -> str:
    """A message as part of a sentence."""
    return " ".join((text or "").split()).rstrip(".") or "no further details"


def seconds(timestamp: str) -> float:
    """A timestamp of the API as seconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp()


def _platforms_reason(pod: Object) -> str | None:
    """Why the platform ended the pod, if it did: evicted, preempted, its node lost or shut down."""
    for source in (pod["status"], condition(pod, "DisruptionTarget") or {}):
        if source.get("reason"):
            return f"{source['reason']}: {clause(source.get('message'))}"
    return None


def containers_reason(end: Object, pod: Object) -> str:
    """Why a container ended, as its end tells it."""
    code, reason = int(end.get("exitCode", -1)), end.get("reason")
    if reason == "OOMKilled":
        limit = _memory_limit(pod)
        return f"OOMKilled: the container used more than {f'its {limit}' if limit else 'the node has left'}"
    if reason not in _NO_REASON:
        return f"{reason}: {clause(end.get('message'))}"
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


def _bad_end(pod: Object) -> Object | None:
    ends = (each.get("state", {}).get("terminated") for each in _container_statuses(pod))
    return next((end for end in ends if end and end.get("exitCode") != 0), None)


def _runs(pod: Object) -> bool:
    return any("running" in (each.get("state") or {}) for each in _container_statuses(pod))


def _is_overdue(pod: Object, now: float) -> bool:
    # The deletion time is the one by which the pod must have ended, its grace period included.
    return is_leaving(pod) and now - seconds(pod["metadata"]["deletionTimestamp"]) > NODE_LOST_S


def _container_statuses(pod: Object) -> list[Object]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
