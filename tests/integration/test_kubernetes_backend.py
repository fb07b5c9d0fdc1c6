"""The Kubernetes backend on a real cluster: how jobs end there, and what is said of them."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import JobSpec, JobStatus, Resources
from mlretrain.runtime.contract import StepRequest
from mlretrain.steps.profile import Config
from mlretrain.wire import pretty, to_wire
from mlretrain_provider.backends import kubernetes_api
from mlretrain_provider.backends.kubernetes import KubernetesBackend
from mlretrain_provider.backends.kubernetes_job import owner_reference, secret_manifest, service_manifest
from tests.fixtures_kubernetes import CONNECTION, REPOSITORY, TestCluster, cluster

__all__ = ["cluster"]

pytestmark = pytest.mark.integration

WAIT_S = 90.0
SMALL = Resources(cpu=0.05, memory=256 << 20)
SLEEP = "import time; print('up', flush=True); time.sleep(300)"
# As process 1 it has SIGTERM ignored unless it asks for it.
ON_SIGTERM = """
import signal, sys, time
def stop(*_):
    print("saving a checkpoint", flush=True)
    time.sleep(2)
    print("saved", flush=True)
    sys.exit(20)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(300)
"""


@dataclasses.dataclass
class Jobs:
    """Starts jobs of one test and watches them."""

    cluster: TestCluster

    def backend(self, code: str | None = None, **options: Any) -> KubernetesBackend:
        command = {} if code is None else {"command": [sys.executable, "-c", code]}
        return KubernetesBackend(**self.cluster.options(**command, **options))

    def spec(self, **changes: Any) -> JobSpec:
        given: dict[str, Any] = {
            "name": f"test-{secrets.token_hex(4)}",
            "request_uri": "file:///r.json",
            "resources": SMALL,
        }
        return JobSpec(**(given | changes))

    def start(self, code: str, options: dict[str, Any] | None = None, **spec: Any) -> Job:
        backend = self.backend(code, **(options or {}))
        return Job(backend, backend.submit(self.spec(**spec)))

    def ask(self, verb: str, kind: str, *arguments: str, **options: Any) -> Any:
        """What the API says, straight from it."""
        from kubernetes import client, config

        with config.new_client_from_config() as api:
            typed = client.BatchV1Api(api) if kind == "job" else client.CoreV1Api(api)
            found = getattr(typed, f"{verb}_namespaced_{kind}")(*arguments, self.cluster.namespace, **options)
            return api.sanitize_for_serialization(found)


@dataclasses.dataclass
class Job:
    """One job and its backend."""

    backend: KubernetesBackend
    handle: str

    @property
    def name(self) -> str:
        return self.handle.partition("/")[2]

    def until(self, what: Callable[[JobStatus], bool]) -> JobStatus:
        deadline = time.monotonic() + WAIT_S
        while not what(status := self.backend.status(self.handle)):
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
        return status

    def end(self) -> JobStatus:
        return self.until(lambda status: status.ended)

    def log(self, cursor: str = "") -> str:
        return "".join(pieces(self.backend, self.handle, cursor))

    def until_log(self, text: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while text not in self.log():
            assert time.monotonic() < deadline, self.backend.status(self.handle)
            time.sleep(0.2)


def pieces(backend: KubernetesBackend, handle: str, cursor: str = "") -> Iterator[str]:
    while True:
        text, after = backend.logs(handle, cursor)
        if after == cursor:
            return
        yield text
        cursor = after


@pytest.fixture
def jobs(cluster: TestCluster) -> Jobs:
    return Jobs(cluster)


def test_a_step_succeeds_and_reports(jobs: Jobs, tmp_path: Path) -> None:
    data = tmp_path / "data.parquet"
    pd.DataFrame({"x": range(100)}).to_parquet(data)
    write_dataset(resolve(data.as_uri()), (tmp_path / "dataset.json").as_uri())
    job = run_profile(jobs, tmp_path)

    assert job.end() == JobStatus(state="succeeded", exit_code=0)
    assert json.loads((tmp_path / "out/report.json").read_bytes())["result"]["rows"] == 100
    assert "profile succeeded" in job.log()


def test_invalid_input_has_its_exit_code(jobs: Jobs, tmp_path: Path) -> None:
    job = run_profile(jobs, tmp_path)
    assert job.end() == JobStatus(state="failed", exit_code=11, reason="the container exited with status 11")
    assert json.loads((tmp_path / "out/report.json").read_bytes())["error"]["type"] == "NotFound"


def run_profile(jobs: Jobs, folder: Path) -> Job:
    config = Config(dataset_uri=(folder / "dataset.json").as_uri())
    request = StepRequest(
        step="profile",
        pipeline="p",
        run_id="r",
        window_end=datetime(2013, 4, 1, tzinfo=UTC),
        key="k",
        config=dict(to_wire(config)),
        output_uri=(folder / "out").as_uri(),
    )
    (folder / "request.json").write_bytes(pretty(request))
    backend = KubernetesBackend(**jobs.cluster.options(folder))
    spec = jobs.spec(request_uri=(folder / "request.json").as_uri(), resources=Resources(memory=1 << 30))
    return Job(backend, backend.submit(spec))


def test_the_users_error_has_its_exit_code(jobs: Jobs) -> None:
    job = jobs.start("raise SystemExit(10)")
    assert job.end() == JobStatus(state="failed", exit_code=10, reason="the container exited with status 10")


def test_a_job_that_wants_too_much_memory(jobs: Jobs) -> None:
    job = jobs.start("print('up', flush=True); x = b'x' * (1 << 30)", resources=Resources(memory=64 << 20))
    assert job.end() == JobStatus(
        state="failed", exit_code=137, reason="OOMKilled: the container used more than its 64Mi"
    )


@pytest.mark.parametrize(
    ("image", "reason"),
    [("nowhere.invalid/no/such:1", "ErrImagePull: "), ("NOT AN IMAGE", "InvalidImageName: ")],
)
def test_an_image_that_cannot_be_had(jobs: Jobs, image: str, reason: str) -> None:
    job = jobs.start(SLEEP, image=image)
    status = job.end()
    assert status.state == "failed"
    assert status.reason is not None
    assert status.reason.startswith((reason, "ImagePullBackOff: "))
    assert image in status.reason

    # It stays what it was, for everybody, and nothing goes on trying in the background.
    until(lambda: all(pod["metadata"].get("deletionTimestamp") for pod in _pods(jobs, job)))
    assert dataclasses.replace(job.backend).status(job.handle) == status


def _pods(jobs: Jobs, job: Job) -> list[Any]:
    pods = jobs.ask("list", "pod")["items"]
    return [pod for pod in pods if pod["metadata"]["labels"].get("mlretrain/job") == job.name]


def test_a_secret_that_is_not_there(jobs: Jobs) -> None:
    job = jobs.start(SLEEP, {"env_from_secrets": ["no-such-secret"]})
    assert job.end() == JobStatus(
        state="failed", reason='CreateContainerConfigError: secret "no-such-secret" not found'
    )


def test_a_job_that_fits_nowhere(jobs: Jobs) -> None:
    job = jobs.start(SLEEP, {"startup_timeout_s": 4.0}, resources=Resources(cpu=1000))
    waiting = job.until(lambda status: status.reason not in (None, "no pod yet"))
    assert waiting == JobStatus(
        state="pending", reason="Unschedulable: 0/1 nodes are available: 1 Insufficient cpu"
    )
    assert job.end() == JobStatus(
        state="failed",
        reason="Unschedulable: 0/1 nodes are available: 1 Insufficient cpu (gave up after 4 s)",
    )


def test_a_volume_that_cannot_be_mounted_is_named(jobs: Jobs) -> None:
    container = {"name": "main", "volumeMounts": [{"name": "gone", "mountPath": "/gone"}]}
    volume = {"name": "gone", "configMap": {"name": "no-such-map"}}
    template = {"spec": {"volumes": [volume], "containers": [container]}}
    job = jobs.start(SLEEP, {"pod_template": template, "startup_timeout_s": 3.0})
    status = job.end()
    assert status.state == "failed"
    assert str(status.reason).startswith("FailedMount: ")
    assert 'configmap "no-such-map" not found' in str(status.reason)


def test_a_cancelled_job_has_time_to_save_its_work(jobs: Jobs) -> None:
    job = jobs.start(ON_SIGTERM)
    job.until_log("up")
    job.backend.cancel(job.handle)
    job.until_log("saved")
    stopping = job.until(lambda status: status.reason is not None)
    assert stopping in (
        JobStatus(state="running", reason="stopping: cancelled"),
        JobStatus(state="cancelled", reason="cancelled"),
    )
    assert job.end() == JobStatus(state="cancelled", reason="cancelled")

    job.backend.cancel(job.handle)
    assert job.end() == JobStatus(state="cancelled", reason="cancelled")
    until(lambda: not _pods(jobs, job))


def test_a_job_that_does_not_listen_is_killed(jobs: Jobs) -> None:
    job = jobs.start("import signal; signal.signal(15, signal.SIG_IGN);" + SLEEP, {"grace_s": 2.0})
    job.until_log("up")
    begin = time.monotonic()
    job.backend.cancel(job.handle)
    assert job.end().state == "cancelled"
    assert time.monotonic() - begin < 20
    until(lambda: not _pods(jobs, job))


def test_a_job_that_has_ended_is_not_cancelled(jobs: Jobs) -> None:
    job = jobs.start("pass")
    job.end()
    job.backend.cancel(job.handle)
    assert job.end() == JobStatus(state="succeeded", exit_code=0)


def test_the_cluster_ends_a_job_in_time(jobs: Jobs) -> None:
    job = jobs.start(ON_SIGTERM, timeout_s=3.0)
    assert job.end() == JobStatus(state="failed", reason="timed out after 3 s")
    until(lambda: not _pods(jobs, job))


def test_another_process_finds_the_job(jobs: Jobs) -> None:
    spec = jobs.spec(secrets={"TOKEN": "not for you"})
    job = Job(jobs.backend(SLEEP), jobs.backend(SLEEP).submit(spec))
    code = (
        "import json, sys\n"
        "from mlretrain.ports import JobSpec\n"
        "from mlretrain_provider.backends import open_backend\n"
        "name, options = json.loads(sys.argv[1])\n"
        "spec = JobSpec(name=name, request_uri='file:///other', secrets={'TOKEN': 'other'})\n"
        "print(open_backend('kubernetes', options).submit(spec))\n"
    )
    argument = json.dumps([spec.name, jobs.cluster.options()])
    found = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout.split()[-1] == job.handle
    named = [each["metadata"]["name"] for each in jobs.ask("list", "job")["items"]]
    assert named.count(job.name) == 1
    secret = jobs.ask("read", "secret", job.name)
    assert base64.b64decode(secret["data"]["TOKEN"]) == b"not for you"
    job.backend.cancel(job.handle)


def test_a_job_that_has_ended_is_not_repeated(jobs: Jobs) -> None:
    job = jobs.start("print('once')", name="once-only")
    job.end()
    again = jobs.start("print('twice')", name="once-only")
    assert again.handle == job.handle
    assert again.end().state == "succeeded"
    assert again.log() == "once\n"


def test_a_job_whose_pod_is_deleted_by_hand_ends_one_way_or_the_other(jobs: Jobs) -> None:
    job = jobs.start("import signal, sys; signal.signal(15, lambda *_: sys.exit(20));" + SLEEP)
    job.until_log("up")
    (pod,) = _pods(jobs, job)
    jobs.ask("delete", "pod", pod["metadata"]["name"])
    until(lambda: pod["metadata"]["uid"] not in [each["metadata"]["uid"] for each in _pods(jobs, job)])
    # Kubernetes 1.20 replaces the pod; newer ones, which know podReplacementPolicy, fail the Job.
    status = job.until(lambda status: status.ended or bool(_pods(jobs, job)))
    assert status.state in ("pending", "running", "failed")
    if not status.ended:
        job.until_log("up")
        job.backend.cancel(job.handle)


def test_a_job_that_is_deleted_by_hand_is_lost(jobs: Jobs) -> None:
    job = jobs.start(SLEEP, {"grace_s": 1.0}, secrets={"TOKEN": "s3cret-value"})
    job.until_log("up")
    jobs.ask("delete", "job", job.name, propagation_policy="Background")
    assert job.until(lambda status: status.ended).state == "lost"
    assert job.log() == ""
    job.backend.cancel(job.handle)
    # The Secret goes with the Job.
    until(lambda: job.name not in [each["metadata"]["name"] for each in jobs.ask("list", "secret")["items"]])


def test_a_long_log_comes_whole_in_small_pieces(jobs: Jobs) -> None:
    code = "for i in range(50_000): print(f'{i:06d}', 'x' * 93)"
    job = jobs.start(code)
    job.end()
    found = list(pieces(job.backend, job.handle))
    lines = "".join(found).splitlines()
    assert [int(line[:6]) for line in lines] == list(range(50_000))
    assert len(found) >= 5
    assert max(map(len, found)) <= 1 << 20


def test_a_log_is_followed_while_it_grows(jobs: Jobs) -> None:
    job = jobs.start("import time\nfor i in range(200):\n    print(i, flush=True)\n    time.sleep(0.02)\n")
    text, cursor, ended = "", "", False
    while not ended:
        ended = job.backend.status(job.handle).ended
        more, cursor = dataclasses.replace(job.backend).logs(job.handle, cursor)
        text += more
    assert text.split() == [str(i) for i in range(200)]


def test_a_log_that_is_no_text(jobs: Jobs) -> None:
    code = "import os; os.write(1, b'\\xff\\xfe\\n' + 'grün'.encode() * 10_000 + b'\\nno end')"
    job = jobs.start(code)
    job.end()
    first, second, third = job.log().split("\n")
    assert (first, second) == ("\\xff\\xfe", "grün" * 10_000)
    assert third == "no end"


def test_secrets_are_not_to_be_seen_where_the_job_is_described(jobs: Jobs) -> None:
    job = jobs.start(
        "import os; print(len(os.environ['TOKEN']), os.environ['PLAIN'])",
        env={"PLAIN": "$(TOKEN) $HOME $$"},
        secrets={"TOKEN": "s3cret-value"},
    )
    assert job.end().state == "succeeded"
    assert job.log() == "12 $(TOKEN) $HOME $$\n"
    seen = json.dumps([jobs.ask("read", "job", job.name), _pods(jobs, job)])
    assert "TOKEN" in seen
    for secret in (b"s3cret-value", base64.b64encode(b"s3cret-value")):
        assert secret.decode() not in seen
    owner = jobs.ask("read", "secret", job.name)["metadata"]["ownerReferences"][0]
    assert owner["uid"] == jobs.ask("read", "job", job.name)["metadata"]["uid"]


def test_a_container_beside_the_step_does_not_keep_the_job_alive(jobs: Jobs) -> None:
    proxy = {
        "name": "proxy",
        "image": jobs.backend().image,
        "command": ["sh", "-c", "trap exit TERM; sleep 300 & wait"],
    }
    for code, state in (("pass", "succeeded"), ("raise SystemExit(11)", "failed")):
        job = jobs.start(code, {"grace_s": 1.0, "pod_template": {"spec": {"containers": [proxy]}}})
        status = job.end()
        assert (status.state, status.exit_code) == (state, 0 if state == "succeeded" else 11)
        until(lambda job=job: not _pods(jobs, job))  # type: ignore[misc]
        assert job.end() == status


def test_a_cluster_without_indexed_jobs_says_so_instead_of_running_otherwise(jobs: Jobs) -> None:
    major, minor = kubernetes_version()
    if (major, minor) >= (1, 24):
        pytest.skip("this cluster has Indexed Jobs")
    spec = jobs.spec(nodes=2)
    with pytest.raises(ConfigError, match="does not know a Job's completionMode"):
        jobs.backend(SLEEP).submit(spec)
    with pytest.raises(ConfigError, match="does not know a Job's suspend"):
        jobs.backend(SLEEP, queue="team").submit(jobs.spec(name=spec.name))
    assert spec.name not in [each["metadata"]["name"] for each in jobs.ask("list", "job")["items"]]


def kubernetes_version() -> tuple[int, int]:
    from kubernetes import client, config

    with config.new_client_from_config() as api:
        code = client.VersionApi(api).get_code()
        return int(code.major), int(code.minor.rstrip("+"))


def test_a_namespace_that_does_not_exist(jobs: Jobs) -> None:
    with pytest.raises(ConfigError, match=r'namespaces "no-such" not found.*Name a namespace that exists'):
        jobs.backend(SLEEP, namespace="no-such").submit(jobs.spec())


def test_settings_that_the_cluster_refuses(jobs: Jobs) -> None:
    with pytest.raises(ConfigError, match=r"422.*Correct the stack's `kubernetes:` settings"):
        jobs.backend(SLEEP, volume_mounts=[{"name": "nothing", "mountPath": "/x"}]).submit(jobs.spec())


def test_a_user_who_may_nothing_is_told_what_is_missing(jobs: Jobs) -> None:
    backend = jobs.backend(SLEEP)
    backend._cluster.hook.api_client.set_default_header("Impersonate-User", "nobody")
    with pytest.raises(ConfigError) as caught:
        backend.submit(jobs.spec())
    assert 'User "nobody" cannot get resource "jobs"' in str(caught.value)
    assert "RoleBinding" in str(caught.value)


def test_the_documented_role_is_enough(jobs: Jobs) -> None:
    import yaml
    from kubernetes import client, config

    text = (REPOSITORY / "docs/kubernetes.md").read_text()
    role = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "mlretrain"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "airflow"}],
    }
    with config.new_client_from_config() as api:
        rbac = client.RbacAuthorizationV1Api(api)
        rbac.create_namespaced_role(jobs.cluster.namespace, role)
        rbac.create_namespaced_role_binding(jobs.cluster.namespace, binding)

    backend = jobs.backend(SLEEP)
    backend._cluster.hook.api_client.set_default_header("Impersonate-User", "airflow")
    job = Job(backend, backend.submit(jobs.spec(secrets={"TOKEN": "s3cret-value"})))
    assert backend.submit(dataclasses.replace(jobs.spec(), name=job.name)) == job.handle
    job.until_log("up")
    backend.cancel(job.handle)
    assert job.end().state == "cancelled"
    # What the other requests are for needs a newer cluster.
    owner = owner_reference(jobs.ask("read", "job", job.name))
    nodes = jobs.spec(nodes=2)
    backend._cluster.create_service(jobs.cluster.namespace, service_manifest(nodes, owner))
    backend._cluster.put_secret(jobs.cluster.namespace, secret_manifest(jobs.spec(name=job.name)))
    backend._cluster.delete_job(jobs.cluster.namespace, job.name)


def test_a_cluster_that_is_away_is_worth_another_try(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import yaml

    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for each in config["clusters"]:
        each["cluster"]["server"] = "https://127.0.0.1:9"
    path = tmp_path / "away.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(connection))
    monkeypatch.setattr(kubernetes_api, "PAUSES_S", (0.0,))
    with pytest.raises(TransientError, match="the cluster's API does not answer"):
        jobs.backend(SLEEP).status("ns/name")


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
