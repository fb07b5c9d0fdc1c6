"""Versions of a real MLflow model served on a real cluster: canary, promotion and roll-back under load.

Beside ``KUBECONFIG`` it needs a way from the pods to this machine: ``MLRETRAIN_TEST_EXPOSE``, a command that
is given ports of 127.0.0.1, and ``MLRETRAIN_TEST_HOST``, the address under which pods then reach them. Pods,
their servers, the Services and every request are real; the load comes from a pod, too. Where there is no
Gateway or KServe controller, the API objects are real and a thread of the test plays the controller.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlretrain.errors import InvalidInput, Superseded, TransientError
from mlretrain.ports import Traffic
from mlretrain_provider.targets import Surroundings, open_target
from tests.fixtures_kubernetes import (
    IMAGE,
    TestCluster,
    cluster,  # noqa: F401
    skip_loudly,
    test_namespace,
)
from tests.fixtures_mlflow import mlflow_server

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.timeout(900)]

FOLDER = Path(__file__).parent
MODEL = "late"
ROW = {"distance": 500.0, "delay": 12.0}
PORT = 8080
READY_S = 240.0
SERVER = (sys.executable, "-P", "-m", "mlretrain.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A namespace of the cluster in which models are served.

    :param folder: of this machine, seen by the pods that load comes from.
    """

    found: TestCluster
    folder: Path

    def serving(self, **changes: Any) -> dict[str, Any]:
        """A stack's ``serving:``."""
        known = self.found.options()
        return {
            "target": "kubernetes",
            "env_secret": "mlflow",
            "command": SERVER,
            "port": PORT,
            "drain_s": 4.0,
            "ready_timeout_s": READY_S,
            **{name: known[name] for name in ("conn_id", "namespace", "image", "volumes", "volume_mounts")},
            **changes,
        }

    def target(self, **changes: Any) -> Any:
        """The target, as an operator opens it."""
        around = Surroundings(pipeline=MODEL, artifacts_uri="s3://unused")
        return open_target(self.serving(**changes), around)


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest,
    cluster: TestCluster,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    for name in ("MLRETRAIN_TEST_EXPOSE", "MLRETRAIN_TEST_HOST"):
        if not os.environ.get(name):
            skip_loudly(request, f"{name} is not set: pods cannot reach the servers of this machine")
    host = os.environ["MLRETRAIN_TEST_HOST"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", f"{host}:*,127.0.0.1:*")
        with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
            register_apart(uri)
            port = urlsplit(uri).port
            subprocess.run([*shlex.split(os.environ["MLRETRAIN_TEST_EXPOSE"]), str(port)], check=True)
            seen = {"MLFLOW_TRACKING_URI": f"http://{host}:{port}"}
            core().create_namespaced_secret(
                cluster.namespace, {"metadata": {"name": "mlflow"}, "stringData": seen}
            )
            yield Place(found=cluster, folder=tmp_path_factory.mktemp("load"))


def register_apart(tracking_uri: str) -> None:
    """Run :func:`register` in a process of its own."""
    code = "import sys; import test_kubernetes_serving as t; t.register(sys.argv[1])"
    path = os.pathsep.join((str(FOLDER), str(FOLDER.parents[1])))
    done = subprocess.run(
        [sys.executable, "-c", code, tracking_uri],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def register(tracking_uri: str) -> None:
    """Versions 1 and 2 differ in what they learnt; version 3 is not what was registered."""
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    from mlretrain.runtime.fingerprint import MODEL_TAG

    mlflow.set_tracking_uri(tracking_uri)
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"distance": rng.uniform(100, 3000, 500), "delay": rng.normal(10, 20, 500)})
    for seed in (1, 2, 3):
        late = rows["delay"] + seed * rng.normal(0, 10, 500) > 15
        model = LogisticRegression().fit(rows, late)
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, model.predict_proba(rows)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["scikit-learn"],
            registered_model_name=MODEL,
        )
    mlflow.MlflowClient().set_model_version_tag(MODEL, "3", MODEL_TAG, "0" * 64)


def core() -> Any:
    from kubernetes import client, config

    return client.CoreV1Api(config.new_client_from_config())


@dataclass(slots=True, kw_only=True)
class Load:
    """Requests from a pod, all with their answers once :attr:`requests` is read."""

    place: Place
    name: str
    requests: list[tuple[int, int, str, float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> Counter[str]:
        """Answers by version."""
        return Counter(version for _, _, version, at, _ in self.requests if start < at < end)

    @property
    def failed(self) -> list[tuple[int, int, str, float, float]]:
        """Requests that were not answered with 200."""
        return [each for each in self.requests if each[1] != 200]


@contextmanager
def load(place: Place, *, each: int, name: str, connections: int = 3) -> Iterator[Load]:
    """Load on the model's Service, from a pod, for as long as the block.

    :param each: requests after which a connection is opened again; 0: never.
    """
    api, namespace = core(), place.found.namespace
    address = api.read_namespaced_service(MODEL, namespace).spec.cluster_ip
    stop = place.folder / f"stop-{name}"
    script = [str(FOLDER / "load_of_service.py"), address, str(PORT), f"/models/{MODEL}/invocations"]
    command = [sys.executable, *script, str(connections), str(stop), json.dumps(ROW), str(each), "0.05"]
    known = place.found.options(place.folder)
    pod = {
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {"name": "main", "image": IMAGE, "command": command, "volumeMounts": known["volume_mounts"]}
            ],
            "volumes": known["volumes"],
        },
    }
    api.create_namespaced_pod(namespace, pod)
    running = Load(place=place, name=name)
    try:
        _wait_phase(name, namespace, "Running", "Succeeded")
        time.sleep(4)
        yield running
        stop.touch()
        _wait_phase(name, namespace, "Succeeded")
        said = api.read_namespaced_pod_log(name, namespace, _preload_content=False).data
        running.requests = [tuple(each) for each in json.loads(said)["requests"]]
    finally:
        api.delete_namespaced_pod(name, namespace, grace_period_seconds=0)


def _wait_phase(name: str, namespace: str, *phases: str) -> None:
    deadline, api = time.monotonic() + 240, core()
    while (phase := api.read_namespaced_pod(name, namespace).status.phase) not in phases:
        if phase == "Failed":
            raise AssertionError(api.read_namespaced_pod_log(name, namespace))
        assert time.monotonic() < deadline, f"{name} is {phase}"
        time.sleep(0.3)


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}")


@pytest.mark.parametrize(
    ("each", "canary"),
    [(1, {"1": 67, "2": 33}), (0, {"1": 50, "2": 50})],
    ids=["a connection per request", "connections kept open"],
)
def test_canary_promotion_and_roll_back_lose_no_request(
    place: Place, each: int, canary: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    target = place.target()
    target.apply(MODEL, Traffic(weights={"1": 100}))
    steps = [canary, {"2": 100}, canary, {"1": 100}]
    began, phases = datetime.now(UTC), []
    with load(place, each=each, name=f"load-{each}") as running:
        for weights in steps:
            asked = time.time()
            target.apply(MODEL, Traffic(weights=weights))
            applied = time.time()
            assert target.current(MODEL) == Traffic(weights=weights)
            time.sleep(8)
            phases.append((weights, asked, applied, time.time()))
        stats = target.metrics(MODEL, began)
    assert running.failed == [], running.failed
    for weights, asked, applied, end in phases:
        answered = running.between(applied, end)
        took = applied - asked
        say(capsys, f"{weights} in {took:.1f} s: {dict(answered)}; {len(running.requests)} requests in all")
        # A Service spreads connections: those that are open stay where they are while that version serves.
        assert set(answered) == set(weights) or (each == 0 and set(answered) < set(weights))
        if each == 1:
            for version, weight in weights.items():
                assert answered[version] / answered.total() == pytest.approx(weight / 100, abs=0.1)
    assert stats["1"].requests > 0
    assert stats["1"].errors == 0
    assert stats["1"].latency_p95_ms is not None
    say(capsys, f"statistics through the API server: {stats['1']}")


def test_a_roll_back_takes_effect_at_once(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    target = place.target()
    target.apply(MODEL, Traffic(weights={"1": 50, "2": 50}))
    with load(place, each=1, name="load-back") as running:
        asked = time.time()
        target.apply(MODEL, Traffic(weights={"1": 100}))
        took = time.time() - asked
    last = max(at for _, _, version, at, _ in running.requests if version == "2")
    say(
        capsys,
        f"roll-back: version 2 answered last {last - asked:.2f} s after it was asked; {took:.1f} s in all",
    )
    assert [(error, at - asked, ms) for _, _, error, at, ms in running.failed] == []
    assert last - asked < 2


def test_blue_green_flips_and_flips_back(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    target = place.target()
    target.apply(MODEL, Traffic(weights={"1": 100, "2": 0}))
    with load(place, each=1, name="load-blue") as running:
        flips = []
        for weights in ({"2": 100, "1": 0}, {"1": 100, "2": 0}):
            asked = time.time()
            target.apply(MODEL, Traffic(weights=weights))
            flips.append((asked, time.time(), weights))
    assert running.failed == []
    for asked, applied, weights in flips:
        (new,) = (version for version, weight in weights.items() if weight)
        first = min(at for _, _, version, at, _ in running.requests if at > asked and version == new)
        say(
            capsys,
            f"blue/green to {new}: first answer after {first - asked:.2f} s, {applied - asked:.1f} s in all",
        )
        assert set(running.between(first + 2, applied)) <= {new}


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        ("3", {}, "the model is not what was registered"),
        ("99", {}, "99"),
        ("2", {"image": "no-such-registry.invalid/server:1"}, "ErrImagePull"),
    ],
    ids=["not what was registered", "not registered", "image missing"],
)
def test_a_version_that_cannot_be_served_leaves_the_champion_serving(
    place: Place,
    capsys: pytest.CaptureFixture[str],
    version: str,
    options: dict[str, Any],
    message: str,
) -> None:
    champion = Traffic(weights={"1": 100})
    place.target().apply(MODEL, champion)
    with load(place, each=1, name=f"load-bad-{version}") as running:
        asked = time.time()
        with pytest.raises(InvalidInput) as caught:
            place.target(**options).apply(MODEL, Traffic(weights={"1": 0, version: 100}))
        say(capsys, f"refused after {time.time() - asked:.1f} s: {caught.value}")
    assert message in str(caught.value)
    assert running.failed == []
    assert running.between(0, time.time()).keys() == {"1"}
    assert place.target().current(MODEL) == champion
    assert deployments(place) == {f"{MODEL}-v1"}


def test_a_version_that_no_node_can_take_is_given_up_in_time(place: Place) -> None:
    champion = Traffic(weights={"1": 100})
    place.target().apply(MODEL, champion)
    nowhere = place.target(node_selector={"disk": "quantum"}, ready_timeout_s=8.0)
    with pytest.raises(TransientError, match=r"not ready within 8 s: Unschedulable: 0/\d+ nodes"):
        nowhere.apply(MODEL, Traffic(weights={"1": 0, "2": 100}))
    assert place.target().current(MODEL) == champion
    assert deployments(place) == {f"{MODEL}-v1"}


def deployments(place: Place) -> set[str]:
    from kubernetes import client, config

    found = client.AppsV1Api(config.new_client_from_config()).list_namespaced_deployment(
        place.found.namespace
    )
    return {each.metadata.name for each in found.items}


# What every serving target does, with a server in the pods that serves nothing and is ready at once.
PINNED = FOLDER.parent / "fakes" / "pinned_server.py"
STUB = (sys.executable, str(PINNED))


@pytest.fixture
def target(cluster: TestCluster) -> Iterator[Any]:  # noqa: F811
    with test_namespace() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.env.items():
            patch.setenv(name, value)
        place = Place(found=found, folder=FOLDER)
        env = {"MLFLOW_TRACKING_URI": "http://nowhere"}
        yield place.target(command=STUB, env=env, env_secret=None, drain_s=0.0)


from tests.conformance.test_serving_target import (  # noqa: E402, F401 - pytest finds them here
    test_a_change_replaces_all_that_was,
    test_a_model_can_be_taken_out_of_service,
    test_a_person_is_followed_and_makes_no_late_order_good,
    test_a_standby_is_kept_and_serves_nothing,
    test_a_version_that_was_asked_nothing_has_no_requests_and_no_latency,
    test_an_order_that_comes_too_late_is_refused,
    test_models_do_not_touch_each_other,
    test_nothing_is_served_at_first,
    test_what_is_no_traffic_is_refused_and_changes_nothing,
    test_what_was_applied_is_in_force,
)


@contextmanager
def resource(group: str, version: str, kind: str, plural: str) -> Iterator[None]:
    """A custom resource that keeps whatever it is given, unless the cluster has the real one."""
    from kubernetes import client, config

    api, name = client.ApiextensionsV1Api(config.new_client_from_config()), f"{plural}.{group}"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    approved = {"api-approved.kubernetes.io": "unapproved, of a test"}
    try:
        api.create_custom_resource_definition(
            {
                "metadata": {"name": name, "annotations": approved},
                "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
            }
        )
    except client.ApiException as error:
        if error.status != 409:
            raise
        yield
        return
    try:
        time.sleep(3)
        yield
    finally:
        api.delete_custom_resource_definition(name)


class Controller(threading.Thread):
    """Plays a controller: looks at the objects of a kind, and writes their status.

    :param act: is given one object as it is, and changes its status.
    """

    def __init__(self, group: str, version: str, plural: str, namespace: str, act: Any) -> None:
        super().__init__(daemon=True)
        self._place = (group, version, namespace, plural)
        self._act = act
        self._ended = threading.Event()

    def run(self) -> None:
        from kubernetes import client, config

        api = client.CustomObjectsApi(config.new_client_from_config())
        while not self._ended.wait(0.3):
            for found in api.list_namespaced_custom_object(*self._place)["items"]:
                before = json.dumps(found.get("status"), sort_keys=True)
                self._act(api, found)
                if json.dumps(found.get("status"), sort_keys=True) != before:
                    self._write(client, api, found)

    def _write(self, client: Any, api: Any, found: dict[str, Any]) -> None:
        try:
            api.replace_namespaced_custom_object_status(*self._place, found["metadata"]["name"], found)
        except client.ApiException as error:
            if error.status not in (404, 409):  # gone or changed since: the next look will see
                raise

    def __enter__(self) -> Controller:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def test_a_gateway_is_given_shares_and_copies(target: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The API is real, and so are the pods; that a Gateway takes the route is played."""
    group, namespace = "gateway.networking.k8s.io", target.options.namespace
    said = {"type": "Accepted", "status": "True"}

    def accept(api: Any, route: dict[str, Any]) -> None:
        seen = {**said, "observedGeneration": route["metadata"]["generation"]}
        route["status"] = {"parents": [{"conditions": [seen]}]}

    with (
        resource(group, "v1", "HTTPRoute", "httproutes"),
        Controller(group, "v1", "httproutes", namespace, accept),
    ):
        known = {name: getattr(target.options, name) for name in target.options.__dataclass_fields__}
        gateway = type(target)(conn_id=target.conn_id, around=target.around, **{**known, "gateway": "public"})
        for number, wanted in enumerate(
            (
                Traffic(weights={"1": 100}, mirrored={"2": 10}),
                Traffic(weights={"1": 97, "2": 3}),
                Traffic(weights={"1": 100}),
            ),
            1,
        ):
            ordered = replace(wanted, generation=number)
            gateway.apply("m", ordered)
            assert gateway.current("m") == ordered
        with pytest.raises(Superseded):
            gateway.apply("m", Traffic(weights={"2": 100}, generation=2))
        said["status"] = "False"
        with pytest.raises(InvalidInput, match="the gateway does not take the route"):
            gateway.apply("m", Traffic(weights={"2": 100}, generation=4))
        assert gateway.current("m") == replace(wanted, generation=3)
        gateway.apply("m", Traffic(generation=5))
        assert gateway.current("m").served == {}


def test_kserve_is_led_from_order_to_order(cluster: TestCluster) -> None:  # noqa: F811
    """The API is real; KServe's and Knative's controllers are played, by the rules they document."""
    from tests.fakes.kserve import predictor, reconcile, template

    made: dict[str, str] = {}
    statuses: dict[str, Any] = {}
    broken = {"9"}

    def serve(api: Any, service: dict[str, Any]) -> None:
        metadata = service["metadata"]
        service["status"] = statuses.setdefault(metadata["uid"], {})  # though it may not be written at once
        status = predictor(service)
        if made.get(metadata["uid"]) != template(service):
            made[metadata["uid"]] = template(service)
            name = f"{metadata['name']}-predictor-{metadata['generation']:05}"
            body: dict[str, Any] = {"apiVersion": "serving.knative.dev/v1", "kind": "Revision"}
            body["metadata"] = {"name": name, "labels": metadata["labels"]}
            place = ("serving.knative.dev", "v1", metadata["namespace"], "revisions")
            api.create_namespaced_custom_object(*place, body)
            status["latestCreatedRevision"] = name
            reconcile(service, ready=False)
        else:
            reconcile(service, ready=metadata["labels"]["mlretrain/version"] not in broken)

    group = "serving.kserve.io"
    with (
        test_namespace() as found,
        pytest.MonkeyPatch.context() as patch,
        resource("serving.knative.dev", "v1", "Revision", "revisions"),
        resource(group, "v1beta1", "InferenceService", "inferenceservices"),
        Controller(group, "v1beta1", "inferenceservices", found.namespace, serve),
    ):
        for name, value in found.env.items():
            patch.setenv(name, value)
        place = Place(found=found, folder=FOLDER)
        kserve = place.target(target="kserve", ready_timeout_s=8.0)
        orders = [
            {"7": 100},
            {"7": 90, "8": 10},
            {"7": 100},
            {"7": 50, "8": 50},
            {"8": 100},
            {"7": 0, "8": 100},
        ]
        for number, weights in enumerate(orders, 1):
            wanted = Traffic(weights=weights, generation=number)
            kserve.apply("m", wanted)
            assert kserve.current("m") == wanted
        with pytest.raises(Superseded):
            kserve.apply("m", Traffic(weights={"7": 100}, generation=2))
        with pytest.raises(TransientError, match="version 9 of m cannot be served"):
            kserve.apply("m", Traffic(weights={"9": 100}, generation=9))
        assert kserve.current("m").served == wanted.served
        kserve.apply("m", Traffic(weights={"7": 100}, generation=10))
        assert kserve.current("m") == Traffic(weights={"7": 100}, generation=10)


def test_of_two_orders_at_once_the_later_one_wins(target: Any) -> None:
    target.apply("m", Traffic(weights={"1": 100}, generation=1))
    outcomes: dict[int, str] = {}

    def order(generation: int, version: str) -> None:
        try:
            target.apply("m", Traffic(weights={"1": 50, version: 50}, generation=generation))
            outcomes[generation] = "in force"
        except Superseded:
            outcomes[generation] = "superseded"

    threads = [threading.Thread(target=order, args=each) for each in ((2, "2"), (3, "3"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes[3] == "in force"
    assert target.current("m") == Traffic(weights={"1": 50, "3": 50}, generation=3)
