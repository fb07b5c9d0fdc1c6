"""The target ``kserve`` with KServe in memory: two revisions, and the way between any two orders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlretrain.errors import ConfigError, InvalidInput, Superseded, TransientError
from mlretrain.ports import Traffic, VersionStats
from mlretrain_provider.backends import kubernetes_api
from mlretrain_provider.targets import Surroundings
from mlretrain_provider.targets.kserve import KServeTarget
from tests.fakes.kserve import FakeKServe
from tests.fakes.kubernetes import Killed

AROUND = Surroundings(pipeline="m", artifacts_uri="s3://ml")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeKServe:
    fake = FakeKServe()
    monkeypatch.setattr(kubernetes_api, "connect", lambda conn_id: fake)
    return fake


def target(cluster: FakeKServe, **options: Any) -> KServeTarget:
    given: dict[str, Any] = {"image": "server:3", "env_secret": "mlflow", "ready_timeout_s": 30.0} | options
    return KServeTarget(around=AROUND, clock=cluster.clock, **given)


def traffic(generation: int = 0, **weights: int) -> Traffic:
    by_number = {version.removeprefix("v"): weight for version, weight in weights.items()}
    return Traffic(weights=by_number, generation=generation)


def revisions(cluster: FakeKServe) -> list[str]:
    found = sorted(cluster.kind("revisions").items())
    return [each["metadata"]["labels"]["mlretrain/version"] for _, each in found]


def test_the_predictor_is_the_pinned_server(cluster: FakeKServe) -> None:
    target(cluster, replicas=2, resources={"cpu": 0.5}).apply("m", traffic(v7=100))
    found = cluster.kind("inferenceservices")["m"]["spec"]["predictor"]

    assert (found["minReplicas"], found["maxReplicas"]) == (2, 2)
    (container,) = found["containers"]
    assert container["name"] == "kserve-container"
    assert container["command"][3:7] == ["--model", "m", "--version", "7"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready"}
    assert "canaryTrafficPercent" not in found


def test_a_canary_is_promoted_without_another_revision(cluster: FakeKServe) -> None:
    for weights in ({"v7": 100}, {"v7": 90, "v8": 10}, {"v7": 50, "v8": 50}, {"v8": 100}):
        target(cluster).apply("m", traffic(**weights))
        assert target(cluster).current("m") == traffic(**weights)
    assert revisions(cluster) == ["7", "8"]


def test_a_roll_back_takes_all_from_the_canary_before_anything_is_deployed(cluster: FakeKServe) -> None:
    target(cluster).apply("m", traffic(v7=100))
    target(cluster).apply("m", traffic(v7=90, v8=10))
    seen: list[tuple[list[str], Any]] = []

    def look() -> None:
        found = cluster.kind("inferenceservices")["m"]["spec"]["predictor"]
        seen.append((revisions(cluster), found.get("canaryTrafficPercent")))

    cluster.before_write = [look] * 6
    target(cluster).apply("m", traffic(v7=100))
    assert (["7", "8"], 0) in seen
    assert target(cluster).current("m") == traffic(v7=100)


def test_a_standby_has_nothing_and_the_old_one_can_stand_by_too(cluster: FakeKServe) -> None:
    for weights in ({"v7": 100}, {"v7": 100, "v8": 0}, {"v7": 0, "v8": 100}, {"v7": 100}):
        target(cluster).apply("m", traffic(**weights))
        assert target(cluster).current("m") == traffic(**weights)


ORDERS = [
    *({"v7": 100}, {"v8": 100}, {"v7": 60, "v8": 40}, {"v7": 0, "v8": 100}, {"v7": 100, "v8": 0}),
    *({"v8": 70, "v9": 30}, {"v7": 0, "v9": 100}, {"v9": 100}, {"v7": 50, "v9": 50}),
]


@pytest.mark.parametrize("then", ORDERS, ids=str)
@pytest.mark.parametrize("first", ORDERS, ids=str)
def test_between_any_two_orders_only_their_own_versions_answer(
    cluster: FakeKServe, first: dict[str, int], then: dict[str, int]
) -> None:
    target(cluster).apply("m", traffic(**first))
    before = len(cluster.shares)
    target(cluster).apply("m", traffic(**then))

    assert target(cluster).current("m") == traffic(**then)
    allowed = {*traffic(**first).served, *traffic(**then).served}
    for shares in cluster.shares[before:]:
        assert sum(shares.values()) == 100
        assert shares.keys() <= allowed


@pytest.mark.parametrize("first", ORDERS, ids=str)
def test_a_version_that_breaks_while_it_is_deployed_gives_no_other_its_requests(
    cluster: FakeKServe, first: dict[str, int]
) -> None:
    target(cluster).apply("m", traffic(**first))
    before = len(cluster.shares)
    cluster.broken["4"] = {"name": "kserve-container", "state": {"running": {}}}
    with pytest.raises(TransientError):
        target(cluster).apply("m", traffic(v4=100))
    cluster.settle()

    assert target(cluster).current("m").served == traffic(**first).served
    for shares in cluster.shares[before:]:
        assert sum(shares.values()) == 100
        assert shares.keys() <= traffic(**first).served.keys()


def test_a_canary_whose_pods_fail_is_taken_back_all_the_same(cluster: FakeKServe) -> None:
    target(cluster).apply("m", traffic(v7=100))
    target(cluster).apply("m", traffic(v7=90, v8=10))
    cluster.broken["8"] = {"name": "kserve-container", "state": {"running": {}}}
    target(cluster).apply("m", traffic(v7=100))
    assert target(cluster).current("m") == traffic(v7=100)


@pytest.mark.parametrize("died_at", range(1, 9))
@pytest.mark.parametrize("then", [{"v8": 100}, {"v7": 50, "v8": 50}, {"v8": 100, "v7": 0}])
def test_whoever_comes_after_a_dead_worker_completes_its_work(
    cluster: FakeKServe, then: dict[str, int], died_at: int
) -> None:
    target(cluster).apply("m", traffic(generation=1, v7=100))
    cluster.dies_at = cluster.writes + died_at
    try:
        target(cluster).apply("m", traffic(generation=2, **then))
    except Killed:
        target(cluster).apply("m", traffic(generation=2, **then))
    assert target(cluster).current("m") == traffic(generation=2, **then)


def test_a_version_that_is_never_ready_leaves_everything_as_it_was(cluster: FakeKServe) -> None:
    target(cluster).apply("m", traffic(generation=4, v7=100))
    ended = {"terminated": {"exitCode": 11, "reason": "Error"}}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    for status, kind in (
        ({"name": "kserve-container", "state": waits, "lastState": ended}, InvalidInput),
        ({"name": "kserve-container", "state": {"running": {}}}, TransientError),
    ):
        cluster.broken["9"] = status
        with pytest.raises(kind, match="version 9 of m cannot be served"):
            target(cluster).apply("m", traffic(generation=5, v7=90, v9=10))
        cluster.settle()
        assert target(cluster).current("m") == traffic(generation=4, v7=100)
    target(cluster).apply("m", traffic(generation=4, v7=100))


def test_an_order_that_comes_too_late_changes_nothing(cluster: FakeKServe) -> None:
    target(cluster).apply("m", traffic(generation=5, v7=100))
    with pytest.raises(Superseded):
        target(cluster).apply("m", traffic(generation=4, v8=100))
    assert revisions(cluster) == ["7"]


@pytest.mark.parametrize("moment", range(4))
def test_of_two_at_once_the_later_order_wins(cluster: FakeKServe, moment: int) -> None:
    target(cluster).apply("m", traffic(generation=1, v7=100))
    later = traffic(generation=3, v7=50, v9=50)
    cluster.before_write = [lambda: None] * moment + [lambda: target(cluster).apply("m", later)]
    try:
        target(cluster).apply("m", traffic(generation=2, v7=50, v8=50))
        assert cluster.before_write
    except Superseded:
        assert target(cluster).current("m") == later


@pytest.mark.parametrize(
    "wanted",
    [traffic(v7=50, v8=40, v9=10), Traffic(weights={"7": 100}, mirrored={"8": 10})],
)
def test_what_kserve_cannot_is_said(cluster: FakeKServe, wanted: Traffic) -> None:
    with pytest.raises(ConfigError, match="Use the target kubernetes"):
        target(cluster).apply("m", wanted)
    assert cluster.writes == 0


def test_an_inference_service_that_is_not_ours_is_left_alone(cluster: FakeKServe) -> None:
    path = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices/m"
    cluster.objects[path] = {"metadata": {"name": "m", "labels": {}, "resourceVersion": "1"}, "spec": {}}
    with pytest.raises(ConfigError, match="somebody else's"):
        target(cluster).apply("m", traffic(v7=100))


def test_the_pods_of_a_version_add_up(cluster: FakeKServe) -> None:
    target(cluster).apply("m", traffic(v7=100))
    target(cluster).apply("m", traffic(v7=50, v8=50))
    (pod,) = cluster.pods("8")
    answer = {"versions": {"8": {"requests": 5, "errors": 1}}, "latency_bins": {"8": {"300": 5}}}
    cluster.stats[pod["metadata"]["name"]] = answer
    found = target(cluster).metrics("m", datetime(2026, 3, 3, tzinfo=UTC))
    assert (found["8"].requests, found["8"].errors) == (5, 1)
    assert found["7"] == VersionStats()
