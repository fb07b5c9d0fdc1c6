"""What a cluster says of a job, in the lifecycle's words.

``kubernetes_answers`` holds what a real API server (1.20) answered at the moment that the file's name tells;
``now`` is the clock then. Later servers' answers are made of these.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mlretrain.ports import JobStatus
from mlretrain_provider.backends.kubernetes_job import RANK_ANNOTATION
from mlretrain_provider.backends.kubernetes_pod import NODE_LOST_S
from mlretrain_provider.backends.kubernetes_status import (
    Outlook,
    is_finished,
    leading_pod,
    outlook,
    record,
    recorded,
    wants_events,
)

ANSWERS = Path(__file__).parent / "kubernetes_answers"
GONE = "2026-11-21T05:00:00+00:00"


class Answer:
    """The Job, its pods and their events, free to be changed."""

    def __init__(self, name: str) -> None:
        data = json.loads((ANSWERS / f"{name}.json").read_text())
        self.now: float = data["now"]
        self.job: dict[str, Any] = data["job"]
        self.pods: list[dict[str, Any]] = data["pods"]
        self.events: list[dict[str, Any]] = data["events"]

    @property
    def pod(self) -> dict[str, Any]:
        (pod,) = self.pods
        return pod

    def outlook(self, *, later_s: float = 0.0, startup_timeout_s: float = 600.0) -> Outlook:
        return outlook(
            self.job, self.pods, self.events, now=self.now + later_s, startup_timeout_s=startup_timeout_s
        )

    def of_two_nodes(self) -> Answer:
        """The same twice, as the pods of an Indexed Job."""
        self.job["spec"] |= {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
        self.pods = [copy.deepcopy(self.pod) for _ in range(2)]
        for rank, pod in enumerate(self.pods):
            pod["metadata"]["annotations"][RANK_ANNOTATION] = str(rank)
            pod["metadata"]["uid"] = f"uid-{rank}"
        return self

    def set_state(self, pod: dict[str, Any], phase: str, **state: Any) -> None:
        pod["status"]["phase"] = phase
        pod["status"]["containerStatuses"][0]["state"] = state

    def set_condition(self, kind: str, reason: str, message: str = "m") -> None:
        self.job["status"]["conditions"] = [
            {"type": kind, "status": "True", "reason": reason, "message": message}
        ]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("creating", JobStatus(state="pending", reason="ContainerCreating")),
        ("running", JobStatus(state="running")),
        ("succeeded", JobStatus(state="succeeded", exit_code=0)),
        (
            "exit_10",
            JobStatus(state="failed", exit_code=10, reason="the container exited with status 10"),
        ),
        (
            "oom",
            JobStatus(
                state="failed", exit_code=137, reason="OOMKilled: the container used more than its 64Mi"
            ),
        ),
        (
            "no_command",
            JobStatus(
                state="failed",
                exit_code=128,
                reason="StartError: failed to create containerd task: failed to create shim task: OCI "
                "runtime create failed: runc create failed: unable to start container process: exec: "
                '"/no/such": stat /no/such: no such file or directory: unknown',
            ),
        ),
        (
            "unschedulable",
            JobStatus(state="pending", reason="Unschedulable: 0/1 nodes are available: 1 Insufficient cpu"),
        ),
        (
            "mount",
            JobStatus(
                state="pending",
                reason='FailedMount: MountVolume.SetUp failed for volume "gone" : configmap "no-such-map" '
                "not found",
            ),
        ),
        (
            "quota",
            JobStatus(
                state="pending",
                reason='FailedCreate: Error creating: pods "quota-tz6qk" is forbidden: exceeded quota: q, '
                "requested: pods=1, used: pods=1, limited: pods=1",
            ),
        ),
        ("timeout_stopping", JobStatus(state="running", reason="stopping: timed out after 3 s")),
        ("timeout", JobStatus(state="failed", reason="timed out after 3 s")),
        ("cancel_stopping", JobStatus(state="running", reason="stopping: cancelled")),
        ("cancelled", JobStatus(state="cancelled", reason="cancelled")),
        ("unschedulable_cancelled", JobStatus(state="cancelled", reason="cancelled")),
        (
            "no_secret_stopped",
            JobStatus(state="failed", reason='CreateContainerConfigError: secret "nope" not found'),
        ),
    ],
)
def test_what_a_cluster_answers(answer: str, status: JobStatus) -> None:
    assert Answer(answer).outlook() == Outlook(status=status)


@pytest.mark.parametrize(
    ("answer", "begin", "end"),
    [
        (
            "pull_backoff",
            'ImagePullBackOff: Failed to pull image "nowhere.invalid/no/such:1": rpc error: ',
            "connect: network is unreachable",
        ),
        ("image_name", "InvalidImageName: ", "repository name must be lowercase"),
        ("no_secret", "CreateContainerConfigError: ", 'secret "nope" not found'),
    ],
)
def test_what_can_only_wait_for_ever_has_failed_and_is_to_be_stopped(
    answer: str, begin: str, end: str
) -> None:
    found = Answer(answer).outlook()
    assert found.verdict == found.status
    assert (found.status.state, found.status.exit_code) == ("failed", None)
    assert str(found.status.reason).startswith(begin)
    assert str(found.status.reason).endswith(end)


@pytest.mark.parametrize("answer", ["unschedulable", "mount", "quota", "creating"])
def test_what_waits_too_long_for_its_start_has_failed(answer: str) -> None:
    waiting = Answer(answer).outlook(startup_timeout_s=600)
    failed = Answer(answer).outlook(startup_timeout_s=600, later_s=610)
    assert waiting.verdict is None
    assert failed.verdict == failed.status
    assert failed.status.reason == f"{waiting.status.reason} (gave up after 600 s)"


def test_a_job_between_two_pods_has_not_waited_since_its_first() -> None:
    answer = Answer("running")
    answer.pods = []
    status = answer.outlook(later_s=3600).status
    assert status == JobStatus(state="pending", reason="no pod yet")


def test_the_failed_container_counts_before_the_job_says_so() -> None:
    answer = Answer("exit_10")
    del answer.job["status"]["conditions"]
    assert answer.outlook().status.exit_code == 10
    # Nobody has to stop what the cluster itself is about to end.
    assert answer.outlook().verdict is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (137, "the container was ended by SIGKILL"),
        (143, "the container was ended by SIGTERM"),
        (255, "the container exited with status 255"),
        (11, "the container exited with status 11"),
    ],
)
def test_an_exit_code_is_explained(code: int, reason: str) -> None:
    answer = Answer("exit_10")
    answer.set_state(answer.pod, "Failed", terminated={"exitCode": code, "reason": "Error"})
    assert answer.outlook().status == JobStatus(state="failed", exit_code=code, reason=reason)


def test_a_container_without_a_limit_of_its_own_runs_out_of_memory() -> None:
    answer = Answer("oom")
    answer.pod["spec"]["containers"][0]["resources"] = {}
    assert answer.outlook().status.reason == "OOMKilled: the container used more than the node has left"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory. Container main was…"},
            "Evicted: The node was low on resource: memory. Container main was…",
        ),
        ({"reason": "NodeLost", "message": "Node n unresponsive."}, "NodeLost: Node n unresponsive"),
        ({"reason": "OutOfcpu"}, "OutOfcpu: no further details"),
        (
            {
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "default-scheduler: preempting to accommodate a higher priority pod",
                    }
                ]
            },
            "PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod",
        ),
    ],
)
def test_a_pod_that_the_platform_ended(status: dict[str, Any], reason: str) -> None:
    answer = Answer("exit_10")
    answer.pod["status"] = {"phase": "Failed", **status}
    assert answer.outlook().status == JobStatus(state="failed", reason=reason)


def test_a_failed_job_whose_pod_is_gone() -> None:
    answer = Answer("exit_10")
    answer.pods = []
    assert answer.outlook().status == JobStatus(
        state="failed",
        reason="BackoffLimitExceeded: Job has reached the specified backoff limit; "
        "its pod was deleted or its node is lost",
    )


def test_an_init_container_that_fails() -> None:
    answer = Answer("exit_10")
    answer.pod["status"]["initContainerStatuses"] = [
        {"name": "fetch", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    ]
    answer.set_state(answer.pod, "Failed", waiting={"reason": "PodInitializing"})
    assert answer.outlook().status == JobStatus(
        state="failed", exit_code=3, reason="the container exited with status 3"
    )


def test_later_servers_tell_of_a_failure_before_all_has_ended() -> None:
    answer = Answer("running")
    answer.job["spec"]["activeDeadlineSeconds"] = 60
    answer.set_condition("FailureTarget", "DeadlineExceeded")
    assert answer.outlook().status == JobStatus(state="running", reason="stopping: timed out after 60 s")
    assert is_finished(answer.job)


def test_a_pod_on_a_lost_node_is_not_waited_for() -> None:
    answer = Answer("running")
    answer.set_condition("Failed", "DeadlineExceeded")
    answer.job["spec"]["activeDeadlineSeconds"] = 60
    answer.pod["metadata"]["deletionTimestamp"] = GONE
    assert answer.outlook().status == JobStatus(state="failed", reason="timed out after 60 s")
    answer.now = 1795237200.0 + NODE_LOST_S - 1  # so many seconds after the pod should have ended
    assert answer.outlook().status.state == "running"


def test_a_job_whose_node_is_lost_has_failed() -> None:
    answer = Answer("running")
    answer.pod["metadata"]["deletionTimestamp"] = GONE
    found = answer.outlook()
    assert found.status == JobStatus(
        state="failed", reason="NodeLost: kube-test has not confirmed that the pod ended"
    )
    assert found.verdict == found.status
    answer.now = 1795237200.0
    assert answer.outlook().status == JobStatus(state="running")


def test_a_pod_that_is_deleted_may_be_replaced() -> None:
    answer = Answer("exit_10")
    del answer.job["status"]["conditions"]
    answer.pod["metadata"]["deletionTimestamp"] = GONE
    assert not answer.outlook().status.ended

    second = copy.deepcopy(Answer("running").pod)
    second["metadata"]["creationTimestamp"] = "2026-11-21T06:00:00+00:00"
    answer.pods.append(second)
    assert answer.outlook().status == JobStatus(state="running")
    assert leading_pod(answer.pods) is second


def test_a_job_that_is_being_deleted_is_lost_once_nothing_runs() -> None:
    answer = Answer("running")
    answer.job["metadata"]["deletionTimestamp"] = GONE
    assert answer.outlook().status == JobStatus(state="running", reason="stopping: the Job was deleted")
    answer.pods = []
    assert answer.outlook().status == JobStatus(state="lost", reason="the Job was deleted")


def test_a_queued_job_waits_as_long_as_the_queue_wants() -> None:
    answer = Answer("quota")
    answer.job["spec"]["suspend"] = True
    answer.job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team"
    status = answer.outlook(later_s=1e6).status
    assert status == JobStatus(state="pending", reason="Queued: the queue 'team' has not let it start")
    # Kueue suspends the Job of a running pod to make room, and later lets it start again.
    answer.pods = Answer("exit_10").pods
    answer.pod["metadata"]["deletionTimestamp"] = GONE
    assert answer.outlook().status == status


def test_a_job_that_succeeded_before_it_was_cancelled_has_succeeded() -> None:
    answer = Answer("succeeded")
    answer.job["metadata"]["annotations"] |= record(JobStatus(state="cancelled", reason="cancelled"))
    assert answer.outlook().status.state == "succeeded"


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [(0, "succeeded", None), (11, "failed", "the container exited with status 11")],
)
def test_a_step_beside_other_containers_has_ended_when_its_own_has(
    code: int, state: Any, reason: str | None
) -> None:
    answer = Answer("beside")
    answer.pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = code
    end = JobStatus(state=state, exit_code=code, reason=reason)
    found = answer.outlook()
    assert found.verdict == end
    assert found.status == JobStatus(state="running", reason=f"stopping: {reason or state}")

    answer.job["metadata"]["annotations"] |= record(end)
    answer.set_condition("Failed", "DeadlineExceeded")
    answer.pods = []
    assert answer.outlook() == Outlook(status=end)


def test_a_sidecar_that_the_kubelet_ends_itself_is_left_to_it() -> None:
    answer = Answer("beside")
    answer.pod["status"]["initContainerStatuses"] = [answer.pod["status"]["containerStatuses"].pop()]
    assert answer.outlook() == Outlook(status=JobStatus(state="running"))


@pytest.mark.parametrize(
    "verdict",
    [JobStatus(state="cancelled", reason="cancelled"), JobStatus(state="failed", exit_code=0, reason="x")],
)
def test_a_verdict_is_read_as_it_was_recorded(verdict: JobStatus) -> None:
    assert recorded({"metadata": {"annotations": record(verdict)}}) == verdict


def test_of_several_nodes_the_one_that_failed_first_is_named() -> None:
    answer = Answer("oom").of_two_nodes()
    first, second = answer.pods
    terminated = {"exitCode": 143, "reason": "Error", "finishedAt": "2026-11-21T05:21:59+00:00"}
    answer.set_state(first, "Failed", terminated=terminated)
    assert answer.outlook().status == JobStatus(
        state="failed", exit_code=137, reason="rank 1: OOMKilled: the container used more than its 64Mi"
    )
    answer.set_state(first, "Running", running={})
    assert answer.outlook().status.state == "running"
    assert str(answer.outlook().status.reason).startswith("stopping: rank 1: OOMKilled")
    assert leading_pod([second, first]) is first


def test_several_nodes_run_when_all_have_started() -> None:
    answer = Answer("running").of_two_nodes()
    assert answer.outlook().status == JobStatus(state="running")
    second = answer.pods[1]
    second["status"] = Answer("unschedulable").pod["status"]
    assert answer.outlook().status == JobStatus(
        state="pending", reason="rank 1: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu"
    )
    assert wants_events(answer.job, answer.pods)


def test_several_nodes_have_succeeded_when_all_have() -> None:
    answer = Answer("succeeded").of_two_nodes()
    del answer.job["status"]["conditions"]
    assert answer.outlook().status == JobStatus(state="succeeded", exit_code=0)
    answer.set_state(answer.pods[1], "Running", running={})
    assert answer.outlook().status == JobStatus(state="running")
