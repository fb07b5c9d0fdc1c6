"""The target ``kubernetes`` on a cluster in memory: whoever dies, what is served is what was ordered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mlretrain.errors import (
    ConfigError,
    ContractError,
    InvalidInput,
    MlretrainError,
    Superseded,
    TransientError,
)
from mlretrain.ports import Traffic, VersionStats
from mlretrain_provider.backends import kubernetes_api
from mlretrain_provider.targets import Surroundings, open_target
from mlretrain_provider.targets.kubernetes import KubernetesTarget
from tests.fakes.kubernetes import GATEWAY, FakeKubernetes, Killed

AROUND = Surroundings(pipeline="m", artifacts_uri="s3://ml")
NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeKubernetes:
    fake = FakeKubernetes()
    monkeypatch.setattr(kubernetes_api, "connect", lambda conn_id: fake)
    return fake


def target(cluster: FakeKubernetes, **options: Any) -> KubernetesTarget:
    given: dict[str, Any] = {"image": "server:3", "env_secret": "mlflow", "ready_timeout_s": 60.0} | options
    return KubernetesTarget(around=AROUND, clock=cluster.clock, **given)


def traffic(generation: int = 0, **weights: int) -> Traffic:
    by_number = {version.removeprefix("v"): weight for version, weight in weights.items()}
    return Traffic(weights=by_number, generation=generation)


def pods(cluster: FakeKubernetes) -> dict[str, int]:
    return {
        each["metadata"]["labels"]["mlretrain/version"]: each["spec"]["replicas"]
        for each in cluster.kind("deployments").values()
    }


def test_a_first_version_is_served_once_it_is_ready(cluster: FakeKubernetes) -> None:
    target(cluster, replicas=2).apply("m", traffic(v7=100))

    assert target(cluster).current("m") == traffic(v7=100)
    assert cluster.answering[-1] == {"7": 2}
    assert set(cluster.kind("services")) == {"m", "m-v7"}
    (pod, _) = cluster.pods("7")
    (container,) = pod["spec"]["containers"]
    assert " ".join(container["command"]).startswith(
        "python -m mlretrain.serving --model m --version 7 --host 0.0.0.0 --port 8080 --drain-seconds 5"
    )
    assert container["envFrom"] == [{"secretRef": {"name": "mlflow"}}]


def test_a_canary_gets_its_share_by_numbers_of_pods(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=100))
    target(cluster).apply("m", traffic(v7=90, v8=10))

    assert cluster.answering[-1] == {"7": 9, "8": 1}
    assert target(cluster).current("m") == traffic(v7=90, v8=10)
    target(cluster).apply("m", traffic(v7=50, v8=50))
    assert cluster.answering[-1] == {"7": 1, "8": 1}


@pytest.mark.parametrize(
    "steps",
    [
        [{"v7": 100}, {"v7": 90, "v8": 10}, {"v7": 50, "v8": 50}, {"v8": 100}, {"v7": 100}],
        [{"v7": 100}, {"v7": 100, "v8": 0}, {"v8": 100, "v7": 0}, {"v7": 100}, {"v7": 80, "v9": 20}],
        [{"v7": 50, "v8": 50}, {"v8": 50, "v9": 50, "v7": 0}, {"v7": 50, "v9": 50}, {"v7": 100, "v9": 0}],
    ],
)
def test_somebody_answers_at_every_moment_of_every_change(
    cluster: FakeKubernetes, steps: list[dict[str, int]]
) -> None:
    for number, weights in enumerate(steps, 1):
        wanted = traffic(generation=number, **weights)
        before = len(cluster.answering)
        target(cluster, replicas=2).apply("m", wanted)
        assert target(cluster, replicas=2).current("m") == wanted
        assert number == 1 or all(cluster.answering[before:])
        assert {*cluster.answering[-1]} == {*wanted.served}
        assert {*pods(cluster)} == {*wanted.weights}


def test_a_version_answers_nothing_before_all_its_pods_are_ready(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=100))
    before = len(cluster.answering)
    target(cluster).apply("m", traffic(v7=70, v8=30))

    first = next(each for each in cluster.answering[before:] if "8" in each)
    assert first == {"7": 7, "8": 3}


def test_pods_of_a_version_that_becomes_a_standby_are_replaced(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=100, v8=0))
    (answering,), (standby,) = cluster.pods("7"), cluster.pods("8")
    target(cluster).apply("m", traffic(v8=100, v7=0))

    assert cluster.pods("8") == [standby]
    assert cluster.pods("7")[0]["metadata"]["name"] != answering["metadata"]["name"]
    assert target(cluster).current("m") == traffic(v7=0, v8=100)

    (rested,) = cluster.pods("7")
    target(cluster).apply("m", traffic(v7=100, v8=0))
    assert cluster.pods("7") == [rested]
    assert cluster.pods("8")[0]["metadata"]["name"] != standby["metadata"]["name"]


def test_a_roll_back_moves_the_traffic_before_it_waits_for_anything(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=90, v8=10))
    began, seen = cluster.now, len(cluster.answering)
    target(cluster).apply("m", traffic(v7=100))

    assert cluster.answering[seen] == {"7": 9}
    slept = cluster.now - began
    assert slept <= 3


@pytest.mark.parametrize("died_at", range(1, 40))
@pytest.mark.parametrize(
    "change", [{"v7": 90, "v8": 10}, {"v8": 100}, {"v8": 100, "v7": 0}, {"v7": 100, "v8": 0}]
)
def test_whoever_comes_after_a_dead_worker_completes_its_work(
    cluster: FakeKubernetes, change: dict[str, int], died_at: int
) -> None:
    target(cluster).apply("m", traffic(generation=1, v7=100))
    wanted = traffic(generation=2, **change)
    cluster.dies_at = cluster.writes + died_at
    before = len(cluster.answering)
    try:
        target(cluster).apply("m", wanted)
    except Killed:
        target(cluster).apply("m", wanted)

    assert target(cluster).current("m") == wanted
    assert all(cluster.answering[before:])
    assert {*pods(cluster)} == {*wanted.weights}


def test_the_same_again_writes_nothing_that_restarts_a_pod(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(generation=1, v7=90, v8=10))
    before = [pod["metadata"]["name"] for pod in cluster.pods()]
    target(cluster).apply("m", traffic(generation=1, v7=90, v8=10))

    assert [pod["metadata"]["name"] for pod in cluster.pods()] == before


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **more}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"lastState": {"terminated": {"exitCode": code, "reason": reason}}}


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (waiting("ErrImagePull", "no such image"), InvalidInput, "ErrImagePull: no such image"),
        (waiting("CrashLoopBackOff", restartCount=1, **ended(11)), InvalidInput, "exited with status 11"),
        (waiting("CrashLoopBackOff", restartCount=1, **ended(13)), ConfigError, "exited with status 13"),
        (waiting("CrashLoopBackOff", restartCount=2, **ended(1)), InvalidInput, "exited with status 1"),
        (
            waiting("CrashLoopBackOff", restartCount=2, **ended(137, "OOMKilled")),
            InvalidInput,
            "OOMKilled",
        ),
        (waiting("CrashLoopBackOff", restartCount=9, **ended(20)), TransientError, "not ready within 60 s"),
        ({"state": {"running": {}}}, TransientError, "the server runs and is not ready"),
    ],
)
@pytest.mark.parametrize("before", [{"v7": 100}, {"v7": 90, "v8": 10}])
def test_a_version_that_is_never_ready_leaves_everything_as_it_was(
    cluster: FakeKubernetes,
    status: dict[str, Any],
    kind: type[MlretrainError],
    message: str,
    before: dict[str, int],
) -> None:
    target(cluster).apply("m", traffic(generation=4, **before))
    cluster.broken["9"] = status
    cluster.logs = {f"m-v9-1-{number}": "Traceback\nno module named flights" for number in range(200)}
    with pytest.raises(kind, match=message) as caught:
        target(cluster).apply("m", traffic(generation=5, v7=50, v9=50))
    cluster.settle()

    assert "no module named flights" in str(caught.value)
    assert target(cluster).current("m") == traffic(generation=4, **before)
    assert "9" not in pods(cluster)
    assert "m-v9" not in cluster.kind("services")
    target(cluster).apply("m", traffic(generation=4, **before))


def test_an_order_that_comes_too_late_changes_nothing(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(generation=5, v7=100))
    for late in (traffic(generation=4, v8=100), traffic(generation=5, v8=100)):
        with pytest.raises(Superseded):
            target(cluster).apply("m", late)
    assert pods(cluster) == {"7": 1}


def test_a_persons_order_is_followed_and_moves_no_fence(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(generation=5, v7=100))
    target(cluster).apply("m", traffic(v8=100))
    assert target(cluster).current("m") == traffic(v8=100)
    with pytest.raises(Superseded):
        target(cluster).apply("m", traffic(generation=4, v9=100))
    target(cluster).apply("m", traffic(generation=5, v7=100))
    assert target(cluster).current("m") == traffic(generation=5, v7=100)


@pytest.mark.parametrize("moment", range(14))
@pytest.mark.parametrize("older", [{"v7": 50, "v8": 50}, {"v8": 100}, {"v7": 100, "v8": 0}])
def test_of_two_at_once_the_later_order_wins(
    cluster: FakeKubernetes, older: dict[str, int], moment: int
) -> None:
    target(cluster).apply("m", traffic(generation=1, v7=100))
    later = traffic(generation=3, v7=50, v9=50)
    cluster.before_write = [lambda: None] * moment + [lambda: target(cluster).apply("m", later)]
    before = len(cluster.answering)
    try:
        target(cluster).apply("m", traffic(generation=2, **older))
        overtaken = bool(cluster.before_write)
    except Superseded:
        overtaken = True
    cluster.settle()

    assert overtaken
    if not cluster.before_write:
        assert target(cluster).current("m") == later
        assert pods(cluster) == {"7": 1, "9": 1}
    assert all(cluster.answering[before:])


def test_what_bears_the_name_and_is_not_ours_is_left_alone(cluster: FakeKubernetes) -> None:
    path = "/apis/apps/v1/namespaces/ml/deployments/m-v7"
    theirs = {"kind": "Deployment", "metadata": {"name": "m-v7", "labels": {}}, "spec": {"replicas": 3}}
    cluster.rest("PATCH", path, body=theirs)
    with pytest.raises(ConfigError, match="Deployment m-v7 is somebody else's"):
        target(cluster).apply("m", traffic(v7=100))
    assert cluster.objects[path]["spec"] == {"replicas": 3}


def test_shares_that_take_too_many_pods_are_refused_before_anything_is_done(cluster: FakeKubernetes) -> None:
    with pytest.raises(ConfigError, match="Raise max_replicas to 19"):
        target(cluster).apply("m", traffic(v7=95, v8=5))
    assert cluster.writes == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": None}, "needs an image"),
        ({"env_secret": None}, "Name a Secret with MLFLOW_TRACKING_URI"),
        ({"gateway": "public"}, "a cluster without gateway.networking.k8s.io"),
        ({}, "no gateway"),
    ],
)
def test_what_cannot_work_is_said(cluster: FakeKubernetes, options: dict[str, Any], message: str) -> None:
    mirrored = {"8": 10} if options.keys() <= {"gateway"} else {}
    with pytest.raises(ConfigError, match=message):
        target(cluster, **options).apply("m", replace(traffic(v7=100), mirrored=mirrored))
    assert pods(cluster) == {}


def test_nothing_is_served_any_more(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(generation=1, v7=100))
    target(cluster).apply("m", traffic(generation=2))
    assert target(cluster).current("m") == traffic(generation=2)
    assert cluster.pods() == []


def test_what_somebody_changed_by_hand_is_seen(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=90, v8=10))
    cluster.kind("deployments")["m-v8"]["spec"]["replicas"] = 3
    cluster.settle()
    assert target(cluster).current("m") == traffic(v7=75, v8=25)
    for name in ("m-v7", "m-v8"):
        cluster.rest("DELETE", f"/apis/apps/v1/namespaces/ml/deployments/{name}")
    cluster.settle()
    assert target(cluster).current("m") == Traffic()


def test_a_pod_that_is_being_replaced_is_no_change(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=90, v8=10))
    cluster.pods("7")[0]["metadata"]["deletionTimestamp"] = "2026-03-03T10:00:00Z"
    cluster.sleep(1.0)
    assert target(cluster).current("m") == traffic(v7=90, v8=10)


def test_the_order_of_another_field_manager_is_said_where_it_is(cluster: FakeKubernetes) -> None:
    target(cluster).apply("m", traffic(v7=100))
    cluster.kind("services")["m"]["metadata"]["annotations"]["mlretrain/traffic"] = "{"
    with pytest.raises(ConfigError, match="the annotation mlretrain/traffic is no traffic"):
        target(cluster).current("m")


class TestGateway:
    """With a gateway the HTTPRoute has the shares, and every version the same number of pods."""

    @pytest.fixture
    def cluster(self, cluster: FakeKubernetes) -> FakeKubernetes:
        cluster.groups[GATEWAY] = "v1"
        return cluster

    def gateway(self, cluster: FakeKubernetes, **options: Any) -> KubernetesTarget:
        return target(cluster, gateway="infra/public", **options)

    def test_it_has_the_shares_as_weights(self, cluster: FakeKubernetes) -> None:
        wanted = traffic(generation=3, v7=95, v8=5)
        self.gateway(cluster, replicas=2).apply("m", wanted)

        route = cluster.kind("httproutes")["m"]["spec"]
        assert route["parentRefs"] == [{"name": "public", "namespace": "infra"}]
        (rule,) = route["rules"]
        assert rule["backendRefs"] == [
            {"name": "m-v7", "port": 8080, "weight": 95},
            {"name": "m-v8", "port": 8080, "weight": 5},
        ]
        assert pods(cluster) == {"7": 2, "8": 2}
        assert self.gateway(cluster).current("m") == wanted
        assert cluster.answering[-1] == {"7": 2}

    def test_it_copies_requests(self, cluster: FakeKubernetes) -> None:
        wanted = replace(traffic(v7=100), mirrored={"8": 10})
        self.gateway(cluster).apply("m", wanted)

        (rule,) = cluster.kind("httproutes")["m"]["spec"]["rules"]
        mirror = {"backendRef": {"name": "m-v8", "port": 8080}, "percent": 10}
        assert rule["filters"] == [{"type": "RequestMirror", "requestMirror": mirror}]
        assert self.gateway(cluster).current("m") == wanted

    def test_one_that_nobody_takes_changes_nothing(self, cluster: FakeKubernetes) -> None:
        self.gateway(cluster).apply("m", traffic(generation=1, v7=100))
        before = cluster.kind("httproutes")["m"]["spec"]
        for says, kind in (
            (None, TransientError),
            ({"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners"}, InvalidInput),
        ):
            cluster.kind("httproutes")["m"]["status"] = {}
            cluster.gateway_says = says
            with pytest.raises(kind):
                self.gateway(cluster).apply("m", traffic(generation=2, v7=50, v8=50))
            assert cluster.kind("httproutes")["m"]["spec"] == before
            assert self.gateway(cluster).current("m") == traffic(generation=1, v7=100)
            assert pods(cluster) == {"7": 1}

    def test_it_goes_with_the_last_version(self, cluster: FakeKubernetes) -> None:
        self.gateway(cluster).apply("m", traffic(v7=100))
        self.gateway(cluster).apply("m", traffic())
        assert cluster.kind("httproutes") == {}
        assert self.gateway(cluster).current("m") == Traffic()

    def test_without_the_api_the_numbers_of_pods_are_the_shares(self, cluster: FakeKubernetes) -> None:
        cluster.groups.clear()
        self.gateway(cluster).apply("m", traffic(v7=90, v8=10))
        assert pods(cluster) == {"7": 9, "8": 1}


class TestMetrics:
    def answer(self, requests: int, errors: int, **bins: int) -> dict[str, Any]:
        found = {"requests": requests, "errors": errors}
        by_bin = {name.removeprefix("b"): count for name, count in bins.items()}
        return {"versions": {"7": found}, "latency_bins": {"7": by_bin}}

    def test_the_pods_of_a_version_add_up(self, cluster: FakeKubernetes) -> None:
        target(cluster, replicas=2).apply("m", traffic(v7=100, v8=0))
        one, two = (pod["metadata"]["name"] for pod in cluster.pods("7"))
        cluster.stats = {one: self.answer(90, 1, b300=90), two: self.answer(10, 2, b400=10)}

        found = target(cluster).metrics("m", NOW)
        assert (found["7"].requests, found["7"].errors) == (100, 3)
        assert found["7"].latency_p50_ms == pytest.approx(0.01 * 1.02**300.5, rel=1e-3)
        assert found["7"].latency_p95_ms == pytest.approx(0.01 * 1.02**400.5, rel=1e-3)
        assert found["8"] == VersionStats()

    def test_a_server_that_crashed_has_lost_a_request(self, cluster: FakeKubernetes) -> None:
        target(cluster).apply("m", traffic(v7=100))
        (pod,) = cluster.pods("7")
        (status,) = pod["status"]["containerStatuses"]
        status |= {"restartCount": 2, "lastState": {"terminated": {"finishedAt": "2026-03-03T12:30:00Z"}}}
        assert target(cluster).metrics("m", NOW)["7"].errors == 1
        assert target(cluster).metrics("m", NOW.replace(hour=13))["7"].errors == 0

    def test_a_pod_that_goes_while_it_is_asked_takes_its_counts_along(self, cluster: FakeKubernetes) -> None:
        target(cluster, replicas=2).apply("m", traffic(v7=100))
        one, two = cluster.pods("7")
        cluster.stats[one["metadata"]["name"]] = TransientError("no route")
        cluster.stats[two["metadata"]["name"]] = self.answer(10, 0, b300=10)
        with pytest.raises(TransientError):
            target(cluster).metrics("m", NOW)
        one["metadata"]["deletionTimestamp"] = "2026-03-03T10:00:00Z"
        assert target(cluster).metrics("m", NOW)["7"].requests == 10

    def test_another_server_is_no_model_server(self, cluster: FakeKubernetes) -> None:
        target(cluster).apply("m", traffic(v7=100))
        cluster.stats[cluster.pods("7")[0]["metadata"]["name"]] = {"hello": "world"}
        with pytest.raises(ContractError, match="no model server"):
            target(cluster).metrics("m", NOW)


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="replikas"):
        open_target({"target": "kubernetes", "replikas": 2}, AROUND)
