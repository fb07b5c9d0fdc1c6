"""The objects of model servers in one namespace, as plain JSON: applied, selected, deleted if unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mlretrain.errors import TransientError
from mlretrain_provider.backends.kubernetes_api import Cluster

Object = dict[str, Any]

MANAGER = "mlretrain"
"""The field manager, which tells what is ours in an object that others change, too."""
_APPLY = "application/apply-patch+yaml"
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, and what the API calls many of it."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str, name: str = "") -> str:
        """Where the API has them, or one of them."""
        root = "api" if "/" not in self.api_version else "apis"
        return f"/{root}/{self.api_version}/namespaces/{namespace}/{self.plural}" + (
            f"/{quote(name)}" if name else ""
        )


DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
SERVICE = Kind("v1", "Service", "services")
POD = Kind("v1", "Pod", "pods")


@dataclass(frozen=True, slots=True)
class Objects:
    """One namespace of a cluster. Its methods raise as those of the :class:`Cluster` do."""

    cluster: Cluster
    namespace: str

    def get(self, kind: Kind, name: str) -> Object | None:
        """The object; ``None`` if there is none."""
        found: Object | None = self.cluster.rest("GET", kind.path(self.namespace, name), unless=(404,))
        return found

    def select(self, kind: Kind, labels: Mapping[str, str]) -> list[Object]:
        """The objects that bear ``labels``."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = self.cluster.rest("GET", kind.path(self.namespace), query={"labelSelector": selector})
        return list(found["items"])

    def apply(self, kind: Kind, manifest: Object, *, over: Object | None) -> Object | None:
        """Make the object what the manifest says, and leave alone what it does not speak of.

        :param over: the object as it was read: the new one only replaces that. ``None``: there was none.
        :return: the object as it is now; ``None`` if it has changed since it was read: look again.
        """
        name, metadata = manifest["metadata"]["name"], dict(manifest["metadata"])
        if over is not None:
            metadata["resourceVersion"] = over["metadata"]["resourceVersion"]
        try:
            found: Object | None = self.cluster.rest(
                "PATCH",
                kind.path(self.namespace, name),
                query={"fieldManager": MANAGER, "force": "true"},
                body={"apiVersion": kind.api_version, "kind": kind.kind, **manifest, "metadata": metadata},
                content=_APPLY,
                unless=(409,),
            )
        except TransientError as error:
            if "resourceVersion should not be set" in (error.found or ""):  # it was deleted in the meantime
                return None
            raise
        return found

    def change(self, kind: Kind, name: str, make: Callable[[Object | None], Object | None]) -> Object | None:
        """Apply what ``make`` says of the object as it is, as often as somebody changes it in between.

        :param make: may be asked several times; ``None`` leaves the object alone.
        :return: the object as it is now.
        """
        for _ in range(_TRIES):
            found = self.get(kind, name)
            manifest = make(found)
            if manifest is None:
                return found
            done = self.apply(kind, manifest, over=found)
            if done is not None:
                return done
        raise TransientError(f"the {kind.kind} {name} changes all the time", where=f"{self.namespace}/{name}")

    def create(self, kind: Kind, manifest: Object) -> bool:
        """Create the object; ``False`` if there is one of that name."""
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **manifest}
        query = {"fieldManager": f"{MANAGER}-create"}  # else what is applied later could not be removed
        path = kind.path(self.namespace)
        return self.cluster.rest("POST", path, query=query, body=body, unless=(409,)) is not None

    def delete(self, kind: Kind, found: Object) -> bool:
        """Delete the object if it is still as it was ``found``; ``False`` if it is not."""
        metadata = found["metadata"]
        body = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        }
        path = kind.path(self.namespace, metadata["name"])
        answer = self.cluster.rest("DELETE", path, body=body, unless=(404, 409))
        return answer is not None or self.get(kind, metadata["name"]) is None

    def remove(self, kind: Kind, name: str, may: Callable[[Object], bool]) -> None:
        """Delete the object if ``may`` agrees with what it is; one that is gone, or going, is left alone."""
        for _ in range(_TRIES):
            found = self.get(kind, name)
            if found is None or found["metadata"].get("deletionTimestamp") or not may(found):
                return
            if self.delete(kind, found):
                return
        raise TransientError(f"the {kind.kind} {name} changes all the time", where=f"{self.namespace}/{name}")

    def version_of(self, group: str) -> str | None:
        """The version of an API group that the cluster prefers; ``None`` if it does not have the group."""
        found = self.cluster.rest("GET", f"/apis/{group}", unless=(404,))
        return str(found["preferredVersion"]["version"]) if found else None

    def ask(self, pod: Object, port: int, path: str, query: Mapping[str, str]) -> Any:
        """What a server in the pod answers, through the API server; ``None`` if it has nothing there."""
        place = f"{POD.path(self.namespace, pod['metadata']['name'])}:{port}/proxy{path}"
        return self.cluster.rest("GET", place, query=query, unless=(404,))

    def last_lines(self, pod: Mapping[str, Any], container: str, lines: int) -> str:
        """The end of what the container said, or the one before it that crashed; empty if nobody knows."""
        for previous in ("false", "true"):
            query = {"container": container, "tailLines": str(lines), "previous": previous}
            path = f"{POD.path(self.namespace, pod['metadata']['name'])}/log"
            said = self.cluster.rest("GET", path, query=query, unless=(400, 403, 404))
            if said:
                return str(said).strip()
        return ""

    def warnings(self, pod: Mapping[str, Any]) -> list[Object]:
        """The warnings about a pod."""
        return self.cluster.warnings(self.namespace, pod["metadata"]["uid"])
