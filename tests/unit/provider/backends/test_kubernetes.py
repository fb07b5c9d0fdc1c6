"""The Kubernetes backend against a cluster in memory: whoever dies where, there is one Job."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlretrain.errors import ConfigError, MissingExtra, TransientError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain_provider.backends import kubernetes_api, open_backend
from mlretrain_provider.backends.kubernetes import KubernetesBackend
from mlretrain_provider.backends.kubernetes_api import Cluster, connect

kubernetes_client = pytest.importorskip("kubernetes.client")

SPEC = JobSpec(name="churn-train-1", request_uri="s3://ml/request.json", secrets={"TOKEN": "s3cret"})
HANDLE = "ml/churn-train-1"


class Killed(BaseException):
    """The worker dies here."""


class FakeCluster:
    """One cluster's Jobs, Secrets and Services; it lists what it was asked.

    ``dropped`` are fields of a Job's spec that this server does not know. ``dies_at`` is the call at which
    the worker dies, before it is heard. With ``looked_too_early`` the next look for a Job comes before
    another worker's creation of it.
    """

    default_namespace = "ml"

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.dropped: tuple[str, ...] = ()
        self.dies_at: str | None = None
        self.looked_too_early = False

    def job(self, namespace: str, name: str) -> dict[str, Any] | None:
        self._hear("job")
        if self.looked_too_early:
            self.looked_too_early = False
            return None
        return copy.deepcopy(self.jobs.get(name))

    def create_job(
        self, namespace: str, manifest: dict[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any] | None:
        self._hear("create_job")
        made = copy.deepcopy(manifest)
        made["metadata"] |= {"namespace": namespace, "uid": f"uid-{len(self.asked)}"}
        made["spec"] = {name: each for name, each in made["spec"].items() if name not in self.dropped}
        made |= {"status": {}}
        if dry_run:
            return made
        if manifest["metadata"]["name"] in self.jobs:
            return None
        self.jobs[manifest["metadata"]["name"]] = made
        return copy.deepcopy(made)

    def stop_job(self, namespace: str, name: str, notes: dict[str, str]) -> None:
        self._hear("stop_job")
        self.jobs[name]["metadata"]["annotations"] |= notes

    def delete_job(self, namespace: str, name: str) -> None:
        self._hear("delete_job")
        del self.jobs[name]

    def put_secret(self, namespace: str, manifest: dict[str, Any]) -> None:
        self._hear("put_secret")
        self.secrets[manifest["metadata"]["name"]] = copy.deepcopy(manifest)

    def own_secret(self, namespace: str, name: str, owner: dict[str, Any]) -> None:
        self._hear("own_secret")
        self.secrets[name]["metadata"]["ownerReferences"] = [owner]

    def create_service(self, namespace: str, manifest: dict[str, Any]) -> None:
        self._hear("create_service")
        self.services.setdefault(manifest["metadata"]["name"], manifest)

    def pods(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        return []

    def warnings(self, namespace: str, uid: str) -> list[dict[str, Any]]:
        return []

    def _hear(self, call: str) -> None:
        if call == self.dies_at:
            self.dies_at = None
            raise Killed
        self.asked.append(call)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(kubernetes_api, "connect", lambda conn_id: fake)
    return fake


def backend(**options: Any) -> KubernetesBackend:
    return KubernetesBackend(**({"image": "churn:3"} | options))


def test_the_secret_is_there_before_its_job_and_goes_with_it(cluster: FakeCluster) -> None:
    assert backend().submit(SPEC) == HANDLE
    assert cluster.asked == ["job", "put_secret", "create_job", "own_secret"]
    owner = cluster.secrets["churn-train-1"]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == cluster.jobs["churn-train-1"]["metadata"]["uid"]


def test_a_job_that_is_there_is_found_and_nothing_created(cluster: FakeCluster) -> None:
    backend().submit(SPEC)
    before = copy.deepcopy([cluster.jobs, cluster.secrets])
    changed = dataclasses.replace(SPEC, secrets={"TOKEN": "another"}, request_uri="s3://other")
    assert backend().submit(changed) == HANDLE
    assert [cluster.jobs, cluster.secrets] == before


@pytest.mark.parametrize("call", ["job", "put_secret", "create_job", "own_secret", "create_service"])
def test_whoever_comes_after_a_dead_worker_completes_its_work(cluster: FakeCluster, call: str) -> None:
    spec = dataclasses.replace(SPEC, nodes=2)
    cluster.dies_at = call
    with pytest.raises(Killed):
        backend().submit(spec)
    backend().submit(spec)

    (job,) = cluster.jobs.values()
    for each in (cluster.secrets["churn-train-1"], cluster.services["churn-train-1"]):
        assert each["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


def test_of_two_at_once_the_second_gets_the_firsts_job(cluster: FakeCluster) -> None:
    backend().submit(SPEC)
    first = copy.deepcopy(cluster.jobs)
    cluster.looked_too_early = True
    assert backend().submit(SPEC) == HANDLE
    assert cluster.jobs == first


def test_a_job_of_that_name_that_is_not_ours_is_left_alone(cluster: FakeCluster) -> None:
    cluster.jobs["churn-train-1"] = {"metadata": {"name": "churn-train-1", "uid": "u"}, "spec": {}}
    with pytest.raises(ConfigError, match="the Job is somebody else's"):
        backend().submit(SPEC)
    assert cluster.secrets == {}


@pytest.mark.parametrize(
    ("dropped", "options", "nodes", "message"),
    [
        ("completionMode", {}, 2, "nodes: this cluster does not know a Job's completionMode"),
        ("suspend", {"queue": "team"}, 1, "kubernetes.queue: this cluster does not know a Job's suspend"),
    ],
)
def test_a_cluster_too_old_for_the_job_starts_nothing(
    cluster: FakeCluster, dropped: str, options: dict[str, Any], nodes: int, message: str
) -> None:
    cluster.dropped = (dropped,)
    with pytest.raises(ConfigError, match=message):
        backend(**options).submit(dataclasses.replace(SPEC, nodes=nodes))
    assert (cluster.jobs, cluster.secrets) == ({}, {})


def test_a_job_that_is_gone_is_lost(cluster: FakeCluster) -> None:
    status = backend().status(HANDLE)
    assert status == JobStatus(state="lost", reason="the Job is gone: deleted, or its ttl has passed")
    assert backend().logs(HANDLE, "cursor") == ("", "cursor")
    backend().cancel(HANDLE)


def test_a_cancelled_job_is_known_as_such_from_then_on(cluster: FakeCluster) -> None:
    backend().submit(SPEC)
    backend().cancel(HANDLE)
    backend().cancel(HANDLE)
    assert cluster.asked.count("stop_job") == 1
    assert backend().status(HANDLE) == JobStatus(state="cancelled", reason="cancelled")


def test_a_job_in_the_queue_is_taken_out_of_it(cluster: FakeCluster) -> None:
    backend(queue="team").submit(SPEC)
    assert backend().status(HANDLE).state == "pending"
    backend().cancel(HANDLE)
    assert backend().status(HANDLE).state == "lost"


def test_the_connections_namespace_is_used_unless_one_is_named(cluster: FakeCluster) -> None:
    assert backend(namespace="fraud").submit(SPEC) == "fraud/churn-train-1"


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="node_selektor"):
        open_backend("kubernetes", {"node_selektor": {}})


def test_a_connection_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="airflow connections add no_such --conn-type kubernetes"):
        connect("no_such")


def test_a_connection_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"kube_config_path": "/no/such/file"}
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    with pytest.raises(ConfigError, match="'nowhere' leads to no cluster"):
        connect("nowhere")


def test_without_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "airflow.providers.cncf.kubernetes.hooks.kubernetes", None)
    with pytest.raises(MissingExtra, match=r"airflow-provider-mlretrain\[kubernetes\]"):
        backend().status(HANDLE)


class Api:
    """An API that gives the prepared answers, the last of them for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.pauses: list[float] = []

    @property
    def cluster(self) -> Cluster:
        hook = SimpleNamespace(
            batch_v1_client=SimpleNamespace(read_namespaced_job=self),
            api_client=SimpleNamespace(sanitize_for_serialization=lambda found: found),
        )
        return Cluster(hook=cast("Any", hook), default_namespace="ml", sleep=self.pauses.append)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def refusal(status: int, message: str) -> Exception:
    error = kubernetes_client.ApiException(status=status, reason="Because")
    error.body = json.dumps({"kind": "Status", "message": message})
    return cast("Exception", error)


def no_connection() -> Exception:
    from urllib3.exceptions import MaxRetryError

    return MaxRetryError(cast("Any", None), "/apis", None)


@pytest.mark.parametrize(
    "problem",
    [
        lambda: refusal(429, "too many requests"),
        lambda: refusal(500, "etcdserver: request timed out"),
        lambda: refusal(503, "unavailable"),
        no_connection,
        lambda: TimeoutError("timed out"),
    ],
)
def test_an_api_that_is_away_is_asked_again_a_few_times(problem: Callable[[], Exception]) -> None:
    api = Api(problem(), problem(), {"kind": "Job"})
    assert api.cluster.job("ml", "name") == {"kind": "Job"}
    assert api.pauses == [0.5, 1.0]

    api = Api(problem())
    with pytest.raises(TransientError):
        api.cluster.job("ml", "name")
    assert api.calls == 4


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (401, "Unauthorized", "Renew the credentials"),
        (
            403,
            'jobs.batch "n" is forbidden: User "u" cannot get resource "jobs" in API group "batch"',
            "RoleBinding",
        ),
        (422, 'Job.batch "n" is invalid: spec.template: Required', "Correct the stack's"),
    ],
)
def test_a_refusal_is_said_once_and_with_what_to_do(status: int, message: str, remedy: str) -> None:
    api = Api(refusal(status, message))
    with pytest.raises(ConfigError) as caught:
        api.cluster.job("ml", "name")
    assert api.calls == 1
    assert message in str(caught.value)
    assert remedy in str(caught.value)


def test_a_quota_that_is_used_up_may_be_free_later() -> None:
    api = Api(refusal(403, "jobs.batch is forbidden: exceeded quota: team, requested: count/jobs.batch=1"))
    with pytest.raises(TransientError, match="exceeded quota"):
        api.cluster.job("ml", "name")


def test_a_log_that_breaks_off_is_worth_another_look() -> None:
    class Answer:
        closed = False

        def stream(self, size: int) -> Iterator[bytes]:
            yield b"2026-11-21T05:00:00Z one\n"
            raise ConnectionResetError("reset by peer")

        def close(self) -> None:
            self.closed = True

    answer = Answer()
    cluster = Cluster(
        hook=cast("Any", SimpleNamespace(api_client=SimpleNamespace(call_api=lambda *_, **__: answer))),
        default_namespace="ml",
    )
    pod = {"metadata": {"name": "p", "namespace": "ml"}}
    with pytest.raises(TransientError, match="broke off"), cluster.log(pod, "main", None) as chunks:
        list(chunks)
    assert answer.closed
