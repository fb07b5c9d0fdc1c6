"""Whether a version's pods are ready, what they wait for, and whether waiting longer can help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlretrain.errors import ConfigError, ContractError, InvalidInput, MlretrainError, TransientError
from mlretrain_provider.backends import kubernetes_pod
from mlretrain_provider.backends.kubernetes_job import MAIN
from mlretrain_provider.backends.kubernetes_pod import clause, condition

Object = Mapping[str, Any]

_REVISION = "deployment.kubernetes.io/revision"
SERVERS = (MAIN, "kserve-container")
"""What the container of the server is called."""
CRASHES = 2
"""Restarts after which a server that ends without saying why is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What keeps a pod from being ready.

    :param fault: what it is for good; ``None`` if it may pass.
    """

    pod: Object
    reason: str
    fault: type[MlretrainError] | None = None


def is_rolled_out(deployment: Object, least: int) -> bool:
    """Whether ``least`` pods are available and every pod is of the newest template."""
    status, wanted = deployment.get("status") or {}, int(deployment["spec"]["replicas"])
    updated = int(status.get("updatedReplicas") or 0)
    return (
        int(status.get("observedGeneration") or 0) >= int(deployment["metadata"]["generation"])
        and updated >= min(least, wanted)
        and int(status.get("replicas") or 0) == updated
        and available(deployment) >= least
    )


def is_exactly(deployment: Object, replicas: int) -> bool:
    """Whether there are that many pods, all of them available."""
    status = deployment.get("status") or {}
    return is_rolled_out(deployment, replicas) and int(status.get("replicas") or 0) == replicas


def available(deployment: Object) -> int:
    """Pods that answer."""
    return int((deployment.get("status") or {}).get("availableReplicas") or 0)


def newest_sets(deployment: Object, sets: Sequence[Object]) -> set[str]:
    """The UIDs of those ReplicaSets that belong to the Deployment's newest template."""
    uid, revision = deployment["metadata"]["uid"], _revision(deployment)
    return {
        each["metadata"]["uid"]
        for each in sets
        if _revision(each) == revision
        and any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or ())
    }


def trouble(deployment: Object, pods: Sequence[Object], events: Sequence[Object]) -> Trouble | None:
    """What keeps the newest pods from being ready, the worst first; ``None`` if nothing is known.

    :param events: warnings about the pods.
    """
    waiting = [pod for pod in pods if not kubernetes_pod.is_leaving(pod) and not is_ready(pod)]
    found = [each for pod in waiting if (each := _of_pod(pod, events))]
    if found:
        return min(found, key=lambda each: each.fault is None)
    refused = condition(deployment, "ReplicaFailure")
    if refused is None:
        return None
    return Trouble(pod={}, reason=f"{refused.get('reason')}: {clause(refused.get('message'))}")


def is_ready(pod: Object) -> bool:
    """Whether the pod answers."""
    return condition(pod, "Ready") is not None


def wants_events(pod: Object) -> bool:
    """Whether events may tell what the pod waits for."""
    return kubernetes_pod.is_waiting(pod)


def restarts(pod: Object) -> tuple[int, str | None]:
    """How often the server's container was started again, and when it last ended."""
    status = _main(pod)
    end = (status.get("lastState") or {}).get("terminated") or {}
    return int(status.get("restartCount") or 0), end.get("finishedAt")


def _of_pod(pod: Object, events: Sequence[Object]) -> Trouble | None:
    status = _main(pod)
    end = _end(status)
    if end is not None:
        return Trouble(
            pod=pod, reason=_said(end, pod), fault=_fault(end, int(status.get("restartCount") or 0))
        )
    if kubernetes_pod.is_waiting(pod):
        reason, hopeless = kubernetes_pod.problem(pod, events)
        return Trouble(pod=pod, reason=reason, fault=InvalidInput if hopeless else None) if reason else None
    return Trouble(pod=pod, reason="the server runs and is not ready")


def _revision(found: Object) -> str | None:
    return (found["metadata"].get("annotations") or {}).get(_REVISION)


def _said(end: Object, pod: Object) -> str:
    reason = kubernetes_pod.containers_reason(end, pod)
    return f"the server ended: {reason}"


def _end(status: Object) -> Object | None:
    states = (status.get("state") or {}, status.get("lastState") or {})
    found: Object | None = next((each["terminated"] for each in states if each.get("terminated")), None)
    return found


def _fault(end: Object, restarted: int) -> type[MlretrainError] | None:
    """The server's exit codes are those of :mod:`mlretrain.errors`; others are tried again."""
    code = int(end.get("exitCode") or 0)
    told = {kind.exit_code: kind for kind in (InvalidInput, ConfigError, ContractError)}
    if code in told:
        return told[code]
    return InvalidInput if code != TransientError.exit_code and restarted >= CRASHES else None


def _main(pod: Object) -> Object:
    statuses = pod["status"].get("containerStatuses") or ()
    return next((each for each in statuses if each["name"] in SERVERS), {})
