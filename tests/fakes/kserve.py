"""KServe in memory, as far as traffic goes: what its controller does with an InferenceService's status.

Modelled on KServe's documented rules: a changed predictor or label makes a revision; traffic goes to the
newest *ready* revision, or is split by ``canaryTrafficPercent`` between it and the last that had everything.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.fakes.kubernetes import START, FakeKubernetes

Object = dict[str, Any]


def predictor(service: Object) -> Object:
    """The status of its predictor."""
    found: Object = service.setdefault("status", {}).setdefault("components", {}).setdefault("predictor", {})
    return found


def template(service: Object) -> str:
    """What makes a revision."""
    spec = {
        name: each for name, each in service["spec"]["predictor"].items() if name != "canaryTrafficPercent"
    }
    annotations = service["metadata"].get("annotations")
    return json.dumps([spec, service["metadata"]["labels"], annotations], sort_keys=True)


def reconcile(service: Object, ready: bool) -> None:
    """Bring the status up to date.

    :param ready: whether the newest revision is.
    """
    status, canary = predictor(service), service["spec"]["predictor"].get("canaryTrafficPercent")
    if ready:
        status["latestReadyRevision"] = status["latestCreatedRevision"]
    newest, rolled = status.get("latestReadyRevision"), status.get("latestRolledoutRevision")
    if newest is not None:
        status["traffic"] = [{"latestRevision": True, "revisionName": newest, "percent": 100}]
        if canary is not None and rolled is not None:
            status["traffic"][0]["percent"] = canary
            if canary < 100:
                other = {"latestRevision": False, "revisionName": rolled, "tag": "prev"}
                status["traffic"].append({**other, "percent": 100 - canary})
        if status["traffic"][0]["percent"] == 100 and status.get("latestRolledoutRevision") != newest:
            status["previousRolledoutRevision"] = status.get("latestRolledoutRevision")
            status["latestRolledoutRevision"] = newest
    service["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]


class FakeKServe(FakeKubernetes):
    """A cluster in memory with KServe: a revision is ready a second after it was made, or never."""

    shares: list[dict[str, int]]
    """Who was given how much, whenever the controller looked."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = []

    def _control(self) -> None:
        super()._control()
        for service in list(self.kind("inferenceservices").values()):
            self._serve(service)

    def _serve(self, service: Object) -> None:
        status, metadata = predictor(service), service["metadata"]
        made = template(service)
        if service.get("template") != made:
            service["template"] = made
            name = f"{metadata['name']}-predictor-{next(self._numbers):05}"
            status["latestCreatedRevision"] = name
            self._revise(name, metadata["labels"])
            reconcile(service, ready=False)
            self._note(status)
            return
        version = metadata["labels"]["mlretrain/version"]
        reconcile(service, ready=version not in self.broken)
        used = {
            status["latestCreatedRevision"],
            *(each["revisionName"] for each in status.get("traffic", ())),
        }
        for pod in self.pods():
            if pod["metadata"]["revision"] not in used:
                pod["metadata"]["deletionTimestamp"] = START

    def _note(self, status: Object) -> None:
        found: Counter[str] = Counter()
        for each in status.get("traffic", ()):
            labels = self.kind("revisions")[each["revisionName"]]["metadata"]["labels"]
            found[labels["mlretrain/version"]] += each["percent"]
        self.shares.append({version: share for version, share in found.items() if share})

    def _revise(self, name: str, labels: Object) -> None:
        metadata = {"name": name, "labels": dict(labels), "uid": f"uid-{name}", "resourceVersion": "1"}
        path = f"/apis/serving.knative.dev/v1/namespaces/{self.default_namespace}/revisions/{name}"
        self.objects[path] = {"metadata": metadata}
        pods = f"/api/v1/namespaces/{self.default_namespace}/pods/{name}-0"
        self.objects[pods] = {
            "metadata": {**metadata, "name": f"{name}-0", "revision": name},
            "status": {"phase": "Pending"},
        }
