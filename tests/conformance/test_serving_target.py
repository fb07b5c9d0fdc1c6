"""What every serving target does; the local one is asked over HTTP, with its real server behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlretrain.errors import ConfigError, MlretrainError, Superseded
from mlretrain.ports import ServingTarget, Traffic, VersionStats
from mlretrain.serving.app import Settings, create_app
from mlretrain.serving.server import listen
from mlretrain.serving.target import LocalTarget
from tests.fakes.target import FakeTarget


def fake(folder: Path) -> AbstractContextManager[ServingTarget]:
    target: ServingTarget = FakeTarget()
    return nullcontext(target)


@contextmanager
def local(folder: Path) -> Iterator[ServingTarget]:
    import uvicorn

    settings = Settings(tracking_uri="http://registry", log_dir=folder / "log", state_dir=folder / "state")
    app: Any = create_app(settings, load=lambda model, version: _no_answer)
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield LocalTarget(f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


async def _no_answer(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing is asked here")


@contextmanager
def sagemaker(folder: Path) -> Iterator[ServingTarget]:
    """With boto3's requests answered by a fake of endpoints; see :mod:`tests.fixtures_endpoints`."""
    pytest.importorskip("airflow.providers.amazon")
    from tests.fixtures_endpoints import fake_endpoints

    with fake_endpoints() as server:
        yield server.target()


@contextmanager
def kubernetes(folder: Path) -> Iterator[ServingTarget]:
    """With a cluster in memory; that copies of requests need a gateway, the next one shows."""
    with _on_kubernetes({"gateway.networking.k8s.io": "v1"}, gateway="public") as target:
        yield target


@contextmanager
def kubernetes_by_pods(folder: Path) -> Iterator[ServingTarget]:
    """With a cluster in memory that has no gateway: shares are numbers of pods."""
    with _on_kubernetes({}) as target:
        yield target


@contextmanager
def kserve(folder: Path) -> Iterator[ServingTarget]:
    """With a cluster in memory on which a fake plays KServe's controller."""
    pytest.importorskip("airflow.providers.cncf.kubernetes")
    from mlretrain_provider.backends import kubernetes_api
    from mlretrain_provider.targets import Surroundings
    from mlretrain_provider.targets.kserve import KServeTarget
    from tests.fakes.kserve import FakeKServe

    cluster = FakeKServe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_api, "connect", lambda conn_id: cluster)
        around = Surroundings(pipeline="m", artifacts_uri="s3://ml")
        yield KServeTarget(around=around, clock=cluster.clock, image="server:3", env_secret="mlflow")


@contextmanager
def batch(folder: Path) -> Iterator[ServingTarget]:
    """With orders in a folder, and versions of a registry in memory."""
    pytest.importorskip("airflow.sdk")
    from mlretrain_provider.hooks.mlflow import MLflowHook
    from mlretrain_provider.targets import Surroundings
    from mlretrain_provider.targets.batch import BatchTarget
    from tests.fakes.registry import FakeRegistry

    registry = FakeRegistry()
    for model in ("m", "other"):
        for number in range(1, 10):
            registry.register(model, f"models:/{number}", f"run-{number}", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MLflowHook, "registry", lambda hook: registry)
        yield BatchTarget(around=Surroundings(pipeline="p", artifacts_uri=folder.as_uri()))


@contextmanager
def _on_kubernetes(groups: dict[str, str], **options: Any) -> Iterator[ServingTarget]:
    pytest.importorskip("airflow.providers.cncf.kubernetes")
    from mlretrain_provider.backends import kubernetes_api
    from mlretrain_provider.targets import Surroundings
    from mlretrain_provider.targets.kubernetes import KubernetesTarget
    from tests.fakes.kubernetes import FakeKubernetes

    cluster = FakeKubernetes(groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_api, "connect", lambda conn_id: cluster)
        around = Surroundings(pipeline="m", artifacts_uri="s3://ml")
        given = {"image": "server:3", "env_secret": "mlflow", **options}
        yield KubernetesTarget(around=around, clock=cluster.clock, **given)


FACTORIES = [fake, local, sagemaker, kubernetes, kubernetes_by_pods, kserve, batch]
"""Each gives a target, empty and answering, for as long as the block."""


CANNOT = {
    ("kubernetes_by_pods", "test_a_mirrored_version_serves_nothing"): "a Service copies no requests",
    ("kserve", "test_a_mirrored_version_serves_nothing"): "KServe copies no requests",
}
"""What a target refuses, by its factory and the test, and why. It fails the build once it no longer does."""


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServingTarget]:
    start: Callable[[Path], AbstractContextManager[ServingTarget]] = request.param
    reason = CANNOT.get((request.param.__name__, request.node.originalname))
    if reason:
        request.applymarker(pytest.mark.xfail(raises=ConfigError, strict=True, reason=reason))
    with start(tmp_path) as running:
        yield running


def test_nothing_is_served_at_first(target: ServingTarget) -> None:
    assert target.current("m") == Traffic()
    assert target.metrics("m", datetime.now(UTC) - timedelta(hours=1)) == {}


def test_what_was_applied_is_in_force(target: ServingTarget) -> None:
    canary = Traffic(weights={"1": 90, "2": 10}, generation=1)
    target.apply("m", canary)
    target.apply("m", canary)

    assert target.current("m") == canary


def test_a_change_replaces_all_that_was(target: ServingTarget) -> None:
    target.apply("m", Traffic(weights={"1": 90, "2": 10}, generation=1))
    target.apply("m", Traffic(weights={"3": 100}, generation=2))

    assert target.current("m") == Traffic(weights={"3": 100}, generation=2)


def test_a_standby_is_kept_and_serves_nothing(target: ServingTarget) -> None:
    target.apply("m", Traffic(weights={"1": 100, "2": 0}, generation=1))

    assert target.current("m").weights == {"1": 100, "2": 0}
    assert target.current("m").served == {"1": 100}


def test_a_mirrored_version_serves_nothing(target: ServingTarget) -> None:
    shadow = Traffic(weights={"1": 100}, mirrored={"2": 20}, generation=1)
    target.apply("m", shadow)

    assert target.current("m") == shadow
    target.apply("m", Traffic(weights={"1": 100}, generation=2))
    assert target.current("m") == Traffic(weights={"1": 100}, generation=2)


def test_models_do_not_touch_each_other(target: ServingTarget) -> None:
    target.apply("m", Traffic(weights={"1": 100}, generation=7))
    target.apply("other", Traffic(weights={"5": 50, "6": 50}, generation=1))
    target.apply("m", Traffic(weights={"2": 100}, generation=8))

    assert target.current("m") == Traffic(weights={"2": 100}, generation=8)
    assert target.current("other") == Traffic(weights={"5": 50, "6": 50}, generation=1)


@pytest.mark.parametrize("weights", [{"1": 99}, {"1": 60, "2": 60}, {"1": 110, "2": -10}, {"v1": 100}])
def test_what_is_no_traffic_is_refused_and_changes_nothing(
    target: ServingTarget, weights: dict[str, int]
) -> None:
    target.apply("m", Traffic(weights={"1": 100}, generation=1))
    with pytest.raises(MlretrainError):
        target.apply("m", Traffic(weights=weights, generation=2))

    assert target.current("m") == Traffic(weights={"1": 100}, generation=1)


def test_an_order_that_comes_too_late_is_refused(target: ServingTarget) -> None:
    champion = Traffic(weights={"1": 100}, generation=5)
    target.apply("m", champion)

    for late in (Traffic(weights={"2": 100}, generation=4), Traffic(weights={"2": 100}, generation=5)):
        with pytest.raises(Superseded):
            target.apply("m", late)

    assert target.current("m") == champion


def test_a_person_is_followed_and_makes_no_late_order_good(target: ServingTarget) -> None:
    champion = Traffic(weights={"1": 100}, generation=5)
    target.apply("m", champion)
    target.apply("m", Traffic(weights={"3": 100}))

    assert target.current("m") == Traffic(weights={"3": 100})
    with pytest.raises(Superseded):
        target.apply("m", Traffic(weights={"2": 100}, generation=4))
    assert target.current("m") == Traffic(weights={"3": 100})
    target.apply("m", champion)
    assert target.current("m") == champion


def test_a_model_can_be_taken_out_of_service(target: ServingTarget) -> None:
    target.apply("m", Traffic(weights={"1": 100}, generation=1))
    target.apply("m", Traffic(generation=2))

    assert target.current("m").served == {}
    with pytest.raises(Superseded):
        target.apply("m", Traffic(weights={"1": 100}, generation=1))


def test_a_version_that_was_asked_nothing_has_no_requests_and_no_latency(target: ServingTarget) -> None:
    target.apply("m", Traffic(weights={"1": 100}, generation=1))
    stats = target.metrics("m", datetime.now(UTC) - timedelta(hours=1))

    assert stats.get("1", VersionStats()) == VersionStats()
