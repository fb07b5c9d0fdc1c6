"""A cluster in memory: an API server's rules for concurrent writes, and controllers that act during sleep."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlretrain.errors import ConfigError, TransientError

Object = dict[str, Any]

GATEWAY = "gateway.networking.k8s.io"
START = "2026-03-03T10:00:00Z"
GOOD: Object = {}
"""How a version's pods do that are ready after a second."""


class Killed(BaseException):
    """The worker dies here."""


class FakeKubernetes:
    """Stands in for :class:`mlretrain_provider.backends.kubernetes_api.Cluster`.

    Deployments make ReplicaSets, these make pods, one template after another; a pod is ready a second after
    it was made, and gone a second after it was told to end.

    :param groups: API groups beyond the core's, with their version.
    """

    default_namespace = "ml"

    def __init__(self, groups: Mapping[str, str] | None = None) -> None:
        self.groups = dict(groups or {})
        self.objects: dict[str, Object] = {}
        self.now = 0.0
        self.broken: dict[str, Object] = {}
        """By version: the container's status, instead of one that is ready."""
        self.stats: dict[str, Object | Exception] = {}
        """By pod's name: what its server answers; an exception is raised."""
        self.logs: dict[str, str] = {}
        self.gateway_says: Object | None = {"type": "Accepted", "status": "True"}
        self.writes = 0
        self.dies_at: int | None = None
        self.before_write: list[Any] = []
        """Called once each, before the next writes: what others do in between."""
        self.answering: list[dict[str, int]] = []
        """Which versions' pods the model's Service led to, whenever that changed."""
        self._numbers = itertools.count(1)

    # -- what the targets call

    def rest(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
        unless: tuple[int, ...] = (),
    ) -> Any:
        if method == "GET":
            status, found = self._get(path, query or {})
        else:
            status, found = self._write(method, path, query or {}, copy.deepcopy(body or {}))
        self._watch()
        if status == 200:
            return copy.deepcopy(found)
        if status in unless:
            return None
        raise (TransientError if status >= 500 else ConfigError)("refused", found=f"{status}: {found}")

    def warnings(self, namespace: str, uid: str) -> list[Object]:
        return []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._control()
        self._watch()

    def clock(self) -> float:
        return self.now

    # -- what tests ask

    def kind(self, plural: str) -> dict[str, Object]:
        """The objects of a kind by name."""
        return {
            each["metadata"]["name"]: each
            for path, each in self.objects.items()
            if path.split("/")[-2] == plural
        }

    def pods(self, version: str | None = None) -> list[Object]:
        return [
            pod
            for pod in self.kind("pods").values()
            if version in (None, pod["metadata"]["labels"]["mlretrain/version"])
        ]

    def settle(self, seconds: int = 10) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.sleep(1.0)

    # -- the API server

    def _get(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if path.startswith("/apis/") and path.count("/") == 2:
            version = self.groups.get(path.split("/")[2])
            return (200, {"preferredVersion": {"version": version}}) if version else (404, "no such group")
        if "/proxy/" in path:
            return self._proxy(path)
        if path.endswith("/log"):
            return 200, self.logs.get(path.split("/")[-2], "")
        if "labelSelector" in query:
            wanted = dict(each.split("=") for each in query["labelSelector"].split(","))
            items = [
                each
                for at, each in sorted(self.objects.items())
                if at.rpartition("/")[0] == path and wanted.items() <= each["metadata"]["labels"].items()
            ]
            return 200, {"items": items}
        return (200, self.objects[path]) if path in self.objects else (404, f"{path} not found")

    def _proxy(self, path: str) -> tuple[int, Any]:
        pod = path.split("/proxy/")[0].rpartition("/")[2].partition(":")[0]
        answer = self.stats.get(pod, {"versions": {}, "latency_bins": {}})
        if isinstance(answer, Exception):
            raise answer
        return 200, answer

    def _write(self, method: str, path: str, query: Mapping[str, str], body: Object) -> tuple[int, Any]:
        if self.before_write:
            self.before_write.pop(0)()
        self.writes += 1
        if self.writes == self.dies_at:
            self.dies_at = None
            raise Killed
        match method:
            case "POST":
                path = f"{path}/{body['metadata']['name']}"
                return (409, "exists") if path in self.objects else self._put(path, body)
            case "PATCH":
                return self._apply(path, body)
            case _:
                return self._delete(path, body)

    def _apply(self, path: str, body: Object) -> tuple[int, Any]:
        json.dumps(body)
        given, found = body["metadata"].pop("resourceVersion", None), self.objects.get(path)
        if found is None and given:
            return 500, "resourceVersion should not be set on objects to be created"
        if found is not None and given and given != found["metadata"]["resourceVersion"]:
            return 409, "the object has been modified"
        return self._put(path, body)

    def _put(self, path: str, body: Object) -> tuple[int, Any]:
        found = self.objects.get(path)
        server = {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": START, "generation": 1}
        kept = (
            {name: found["metadata"][name] for name in (*server, "resourceVersion")}
            if found
            else {**server, "resourceVersion": ""}
        )
        made = {**(found or {"status": {}}), **body, "metadata": {**body["metadata"], **kept}}
        made["metadata"].setdefault("namespace", self.default_namespace)
        others = {
            name: text
            for name, text in ((found or {}).get("metadata", {}).get("annotations") or {}).items()
            if name.startswith("deployment.kubernetes.io/")
        }
        if others:
            made["metadata"]["annotations"] = {**made["metadata"].get("annotations", {}), **others}
        if found is not None and found == made:
            return 200, found
        made["metadata"]["generation"] += bool(found and found.get("spec") != made.get("spec"))
        made["metadata"]["resourceVersion"] = str(next(self._numbers))
        self.objects[path] = made
        return 200, made

    def _delete(self, path: str, body: Object) -> tuple[int, Any]:
        found = self.objects.get(path)
        if found is None:
            return 404, "gone"
        wanted = body.get("preconditions", {})
        if any(found["metadata"][name] != value for name, value in wanted.items()):
            return 409, "the object has been modified"
        del self.objects[path]
        self._collect()
        return 200, {"status": "Success"}

    # -- the controllers

    def _control(self) -> None:
        for path, pod in list(self.objects.items()):
            if path.split("/")[-2] == "pods":
                self._run(path, pod)
        for path, each in list(self.objects.items()):
            if path.split("/")[-2] == "deployments":
                self._roll(path, each)
        for path, each in list(self.objects.items()):
            if path.split("/")[-2] == "httproutes" and self.gateway_says:
                said = {**self.gateway_says, "observedGeneration": each["metadata"]["generation"]}
                each["status"] = {"parents": [{"conditions": [said]}]}

    def _run(self, path: str, pod: Object) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            del self.objects[path]
            return
        status = self.broken.get(pod["metadata"]["labels"]["mlretrain/version"], GOOD)
        ready = "False" if status else "True"
        container = {"name": "main", "restartCount": 0, "state": {"running": {}}, **status}
        phase = "Pending" if "waiting" in container["state"] and "lastState" not in container else "Running"
        pod["status"] = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [container],
        }

    def _roll(self, path: str, deployment: Object) -> None:
        spec, metadata = deployment["spec"], deployment["metadata"]
        place = path.rsplit("/", 2)[0]
        template = json.dumps(spec["template"], sort_keys=True)
        sets = {each["template"]: each for each in self._owned("replicasets", metadata["uid"])}
        if template not in sets:
            revision = len(sets) + 1
            metadata.setdefault("annotations", {})["deployment.kubernetes.io/revision"] = str(revision)
            made = self._made(
                f"{place}/replicasets/{metadata['name']}-{revision}", deployment, spec["template"]
            )
            made["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(revision)}
            made["template"] = template
            sets[template] = made
        newest = sets[template]
        own = self._living(newest)
        old = [pod for each in sets.values() if each is not newest for pod in self._living(each)]
        missing = spec["replicas"] - len(own)
        room = spec["replicas"] + 1 - len(own) - len(old) if old else missing
        for _ in range(min(missing, max(room, 0))):
            name = f"{newest['metadata']['name']}-{next(self._numbers)}"
            self._made(f"{place.replace('/apis/apps/v1', '/api/v1')}/pods/{name}", newest, spec["template"])
        for pod in own[spec["replicas"] :]:
            self._end(pod)
        spare = sum(map(_ready, own)) + sum(map(_ready, old)) - spec["replicas"]
        for pod in old[: max(spare, 0)]:
            self._end(pod)
        own = self._living(newest)
        old = [pod for each in sets.values() if each is not newest for pod in self._living(each)]
        deployment["status"] = {
            "observedGeneration": metadata["generation"],
            "replicas": len(own) + len(old),
            "updatedReplicas": len(own),
            "availableReplicas": sum(map(_ready, [*own, *old])),
        }
        metadata["resourceVersion"] = str(next(self._numbers))

    def _made(self, path: str, owner: Object, template: Object) -> Object:
        made = {
            "metadata": {
                "name": path.rpartition("/")[2],
                "namespace": self.default_namespace,
                "uid": f"uid-{next(self._numbers)}",
                "creationTimestamp": START,
                "resourceVersion": str(next(self._numbers)),
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.objects[path] = made
        return made

    def _owned(self, plural: str, uid: str) -> list[Object]:
        return [
            each
            for each in self.kind(plural).values()
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", ()))
        ]

    def _living(self, replica_set: Object) -> list[Object]:
        pods = self._owned("pods", replica_set["metadata"]["uid"])
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def _end(self, pod: Object) -> None:
        pod["metadata"]["deletionTimestamp"] = START

    def _collect(self) -> None:
        """End what has lost its owner, down to the pods."""
        uids = {each["metadata"]["uid"] for each in self.objects.values()}
        for path, each in list(self.objects.items()):
            owners = each["metadata"].get("ownerReferences", ())
            if owners and not any(owner["uid"] in uids for owner in owners):
                if path.split("/")[-2] == "pods":
                    self._end(each)
                else:
                    del self.objects[path]
                    self._collect()

    def _watch(self) -> None:
        """Note whom the model's Service (the one named ``m``) leads to."""
        service = self.kind("services").get("m")
        selector = (service or {}).get("spec", {}).get("selector")
        found = Counter(
            pod["metadata"]["labels"]["mlretrain/version"]
            for pod in self.pods()
            if selector
            and selector.items() <= pod["metadata"]["labels"].items()
            and _ready(pod)
            and "deletionTimestamp" not in pod["metadata"]
        )
        if not self.answering or self.answering[-1] != found:
            self.answering.append(dict(found))


def _ready(pod: Object) -> bool:
    return {"type": "Ready", "status": "True"} in pod["status"].get("conditions", ())
