"""The deployed versions of one model: brought to be ready, or removed, by whoever has the latest order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlretrain.errors import MlretrainError, TransientError
from mlretrain_provider.backends import kubernetes_pod
from mlretrain_provider.backends.kubernetes_job import MAIN
from mlretrain_provider.targets import kubernetes_manifest as manifest
from mlretrain_provider.targets import kubernetes_rollout as rollout
from mlretrain_provider.targets.kubernetes_manifest import RESTED, SERVED, SHARED_LABEL, VERSION_LABEL
from mlretrain_provider.targets.kubernetes_objects import DEPLOYMENT, POD, REPLICA_SET, SERVICE, Objects
from mlretrain_provider.targets.kubernetes_options import ServingOptions
from mlretrain_provider.targets.kubernetes_order import (
    STAMP,
    is_strange,
    notes_of,
    refuse_strangers,
    stamped,
)

Object = dict[str, Any]

POLL_S = 1.0
_LINES = 15
"""Of a failed server's log, for the error."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a version shall be.

    :param replicas: how many pods.
    :param served: whether they answer requests. The pods of a version that did, and shall no more, are
        replaced: connections that were opened to them would go on being answered.
    :param shared: whether they answer what versions share; ``None`` leaves those that are there as they are.
    """

    replicas: int
    served: bool
    shared: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The Deployments of ``model`` and their Services.

    :param clock: seconds, for limits of time.
    """

    objects: Objects
    model: str
    options: ServingOptions
    clock: Callable[[], float] = time.monotonic

    def all(self) -> dict[str, Object]:
        """The Deployments that are not being deleted, by version."""
        found = self.objects.select(DEPLOYMENT, manifest.model_labels(self.model))
        return {
            each["metadata"]["labels"][VERSION_LABEL]: each
            for each in found
            if not kubernetes_pod.is_leaving(each)
        }

    def deploy(
        self, version: str, place: Place, stamp: int, *, shrink: bool = True, over: int | None = None
    ) -> None:
        """Make the version's Deployment so, unless a later order wants it.

        :param stamp: the generation that wants it.
        :param shrink: whether it may get fewer pods than it has.
        :param over: the latest generation that is not later than ours; none: ``stamp``.
        """
        name = manifest.version_name(self.model, version)

        def make(found: Object | None) -> Object | None:
            refuse_strangers(self.model, found)
            if found and stamped(found) > (stamp if over is None else over):
                return None
            return manifest.deployment(
                self.model,
                version,
                self.options,
                replicas=place.replicas if shrink or not found else max(place.replicas, _replicas(found)),
                shared=place.shared if place.shared is not None else not found or is_shared(found),
                notes={STAMP: str(stamp), SERVED: str(place.served).lower(), RESTED: _rested(place, found)},
            )

        self.objects.change(DEPLOYMENT, name, make)
        self.objects.change(SERVICE, name, lambda found: self._service(version, found))

    def wait(
        self,
        counts: Mapping[str, int],
        missing: Callable[[str], None],
        look: Callable[[], object],
        *,
        exactly: bool = False,
    ) -> None:
        """Return once every version is ready.

        :param counts: how many pods of each have to be.
        :param missing: told of a version whose Deployment has gone.
        :param look: called before each look; raises if waiting has become pointless.
        :param exactly: whether there shall be no pod more.
        :raises InvalidInput: one of them never will be.
        :raises TransientError: one of them is not in time.
        """
        until = self.clock() + self.options.ready_timeout_s
        done = rollout.is_exactly if exactly else rollout.is_rolled_out
        while True:
            look()
            found = self.all()
            for version in counts.keys() - found.keys():
                missing(version)
            waiting = [
                version
                for version, count in counts.items()
                if version not in found or not done(found[version], count)
            ]
            if not waiting:
                return
            for version in waiting:
                if version in found:
                    self._give_up(version, found[version], late=self.clock() > until)
            self.objects.cluster.sleep(POLL_S)

    def remove(self, version: str, stamp: int) -> None:
        """Delete the version's Deployment and Service, unless a later order wants it."""
        name = manifest.version_name(self.model, version)
        self.objects.remove(DEPLOYMENT, name, lambda found: stamped(found) <= stamp)
        if self.objects.get(DEPLOYMENT, name) is None or version not in self.all():
            self.objects.remove(SERVICE, name, lambda found: not is_strange(self.model, found))

    def wait_silent(self, served: Mapping[str, int], within_s: float) -> None:
        """Return once no pod of another version is left that might answer on an open connection.

        A node that is lost never confirms that a pod has ended: after ``within_s`` it is only said.
        """
        until = self.clock() + within_s
        while leaving := [
            pod["metadata"]["name"]
            for pod in self.objects.select(POD, manifest.model_labels(self.model))
            if kubernetes_pod.is_leaving(pod) and pod["metadata"]["labels"].get(VERSION_LABEL) not in served
        ]:
            if self.clock() > until:
                logger.warning("%s: pods have not ended: %s", self.model, ", ".join(leaving))
                return
            self.objects.cluster.sleep(POLL_S)

    def _service(self, version: str, found: Object | None) -> Object:
        refuse_strangers(self.model, found)
        return manifest.version_service(self.model, version, self.options)

    def _give_up(self, version: str, deployment: Object, *, late: bool) -> None:
        """Raise what stands in the way of ``version`` if that will not pass, or time is up."""
        pods = self._newest_pods(version, deployment)
        events = [event for pod in pods if rollout.wants_events(pod) for event in self.objects.warnings(pod)]
        found = rollout.trouble(deployment, pods, events)
        kind: type[MlretrainError] | None = found.fault if found else None
        if kind is None and not late:
            return
        said = self.objects.last_lines(found.pod, MAIN, _LINES) if found and found.pod else ""
        waited = f"not ready within {self.options.ready_timeout_s:g} s: " if kind is None else ""
        raise (kind or TransientError)(
            f"version {version} of {self.model} cannot be served",
            where=f"{self.objects.namespace}/{deployment['metadata']['name']}",
            found=waited + (found.reason if found else "no pod has said why"),
            remedy="What was served is served still."
            + (f" The server's last words:\n{said}" if said else ""),
        )

    def _newest_pods(self, version: str, deployment: Object) -> list[Object]:
        """The pods of the Deployment's newest template: not those that are yet to be ended."""
        labels = manifest.version_labels(self.model, version)
        sets = rollout.newest_sets(deployment, self.objects.select(REPLICA_SET, labels))
        return [
            pod
            for pod in self.objects.select(POD, labels)
            if any(owner["uid"] in sets for owner in pod["metadata"].get("ownerReferences") or ())
        ]


def _rested(place: Place, found: Object | None) -> str:
    """What has to change on a version's pods for them to be replaced."""
    before = notes_of(found) if found else {}
    if found and before.get(SERVED) == "true" and not place.served:
        return str(found["metadata"]["resourceVersion"])
    return before.get(RESTED, "")


def _replicas(deployment: Object) -> int:
    return int(deployment["spec"]["replicas"])


def is_shared(deployment: Object) -> bool:
    """Whether the version's pods answer what versions share."""
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    return bool(labels.get(SHARED_LABEL) == "true")
