"""Which versions answer a model's requests: one Service, and before it, with a gateway, an HTTPRoute.

Each is changed in one write, on condition that it is still what was read: of two orders the later wins, and
what comes too late is told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlretrain.errors import ConfigError, InvalidInput, TransientError
from mlretrain.ports import Traffic
from mlretrain.serving.traffic import refuse_late
from mlretrain_provider.backends.kubernetes_job import NAME_ANNOTATION
from mlretrain_provider.backends.kubernetes_pod import clause
from mlretrain_provider.targets import kubernetes_manifest as manifest
from mlretrain_provider.targets import kubernetes_order as order
from mlretrain_provider.targets.kubernetes_manifest import GATEWAY_GROUP, SHARED_LABEL, VERSION_LABEL
from mlretrain_provider.targets.kubernetes_objects import SERVICE, Kind, Objects
from mlretrain_provider.targets.kubernetes_options import KubernetesServingOptions

Object = dict[str, Any]

NOBODY = "none"
"""In place of a version: none answers."""
_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The model's Service, and its HTTPRoute where there is a gateway.

    :param routes: HTTPRoutes as the cluster has them; ``None`` if the numbers of pods are the shares.
    """

    objects: Objects
    model: str
    options: KubernetesServingOptions
    routes: Kind | None
    clock: Callable[[], float] = time.monotonic

    @property
    def name(self) -> str:
        """What the Service and the HTTPRoute are called."""
        return manifest.model_name(self.model)

    def read(self) -> Object | None:
        """The Service, whose annotations hold the order in force; ``None`` before the first order."""
        found = self.objects.get(SERVICE, self.name)
        order.refuse_strangers(self.model, found)
        return found

    def refuse_late(self, wanted: Traffic) -> Object | None:
        """The Service. Raises :class:`~mlretrain.errors.Superseded` if a later order is in force."""
        found = self.read()
        refuse_late(self.model, wanted, order.last_order(found))
        return found

    def set(self, wanted: Traffic) -> None:
        """Let requests go where ``wanted`` has them, from one moment to the next."""
        if self.read() is None:
            bare = manifest.model_service(self.model, self.options, {}, {NAME_ANNOTATION: self.model})
            del bare["spec"]["selector"]
            self.objects.create(SERVICE, bare)
        if self.routes is not None:
            self._set_route(self.routes, wanted)
        self.objects.change(SERVICE, self.name, lambda found: self._service(wanted, found))

    def selected(self, found: Object | None) -> str | None:
        """The version that the Service gives everything to; ``None`` if versions share it."""
        selector = (found or {}).get("spec", {}).get("selector") or {}
        return None if SHARED_LABEL in selector else str(selector.get(VERSION_LABEL, NOBODY))

    def routed(self, versions: Mapping[str, str]) -> Traffic | None:
        """What the HTTPRoute does; ``None`` if there is none.

        :param versions: by the names of their Services.
        """
        found = self.objects.get(self.routes, self.name) if self.routes is not None else None
        if found is None:
            return None
        order.refuse_strangers(self.model, found)
        rule = found["spec"]["rules"][0]
        mirrors = [each["requestMirror"] for each in rule.get("filters") or () if "requestMirror" in each]
        unknown = "?"
        return Traffic(
            weights={
                versions.get(each["name"], unknown): int(each.get("weight", 1))
                for each in rule.get("backendRefs") or ()
            },
            mirrored={
                versions.get(each["backendRef"]["name"], unknown): int(each.get("percent", 100))
                for each in mirrors
            },
        )

    def _service(self, wanted: Traffic, found: Object | None) -> Object:
        order.refuse_strangers(self.model, found)
        refuse_late(self.model, wanted, order.last_order(found))
        notes = order.notes(self.model, wanted, found)
        return manifest.model_service(self.model, self.options, self._selector(wanted), notes)

    def _selector(self, wanted: Traffic) -> dict[str, str]:
        served = wanted.served
        if len(served) > 1 and self.routes is None:
            return {**manifest.model_labels(self.model), SHARED_LABEL: "true"}
        # Whoever goes around the gateway gets the version with the largest share.
        version = max(served, key=lambda each: served[each]) if served else NOBODY
        return manifest.version_labels(self.model, version)

    def _set_route(self, kind: Kind, wanted: Traffic) -> None:
        before = order.in_force(self.read())

        def make(found: Object | None) -> Object:
            order.refuse_strangers(self.model, found)
            refuse_late(self.model, wanted, order.last_order(found))
            return self._route(wanted, found)

        if not wanted.served:
            self.objects.remove(kind, self.name, lambda found: not order.is_strange(self.model, found))
            return
        found = self.objects.change(kind, self.name, make)
        try:
            self._refuse_dropped(wanted, found or {})
            self._wait_accepted(kind, wanted)
        except (ConfigError, InvalidInput, TransientError):
            self._put_back(kind, wanted, before)
            raise

    def _put_back(self, kind: Kind, wanted: Traffic, before: Traffic) -> None:
        """Undo ``wanted`` on the route, unless another order has come."""

        def is_ours(found: Object | None) -> bool:
            return bool(found) and order.in_force(found) == wanted

        if before.served:
            self.objects.change(
                kind, self.name, lambda found: self._route(before, None) if is_ours(found) else None
            )
        else:
            self.objects.remove(kind, self.name, is_ours)

    def _route(self, wanted: Traffic, found: Object | None) -> Object:
        return manifest.route(self.model, wanted, self.options, order.notes(self.model, wanted, found))

    def _refuse_dropped(self, wanted: Traffic, found: Object) -> None:
        """An API that is too old for a mirror's percentage drops it in silence, and copies everything."""
        filters = found["spec"]["rules"][0].get("filters") or ()
        kept = [each["requestMirror"].get("percent", 100) for each in filters]
        if kept != list(wanted.mirrored.values()):
            raise ConfigError(
                "this cluster's Gateway API does not know how to copy a part of the requests",
                where=f"{self.objects.namespace}/{self.name}",
                remedy="Copy all of them (100), or install Gateway API 1.3 or newer.",
            )

    def _wait_accepted(self, kind: Kind, wanted: Traffic) -> None:
        until = self.clock() + self.options.ready_timeout_s
        while True:
            found = self.objects.get(kind, self.name) or {}
            refuse_late(self.model, wanted, order.last_order(found or None))
            verdict = acceptance(found)
            if verdict and verdict["status"] == "True":
                return
            if verdict:
                raise InvalidInput(
                    "the gateway does not take the route",
                    where=f"{self.objects.namespace}/{self.name}",
                    found=f"{verdict.get('reason')}: {clause(verdict.get('message'))}",
                    remedy="Let the Gateway's listeners accept routes of this namespace.",
                )
            if self.clock() > until:
                raise TransientError(
                    f"no gateway has taken the route within {self.options.ready_timeout_s:g} s",
                    where=f"{self.objects.namespace}/{self.name}",
                    remedy=f"Check that a controller serves the Gateway {self.options.gateway!r}.",
                )
            self.objects.cluster.sleep(_POLL_S)


def routes(objects: Objects, options: KubernetesServingOptions) -> Kind | None:
    """HTTPRoutes, if a gateway is named and the cluster has the Gateway API."""
    version = objects.version_of(GATEWAY_GROUP) if options.gateway else None
    return manifest.http_route(version) if version else None


def acceptance(route: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the gateway says of the route as it is now: a condition; the bad one, if there is one."""
    generation = (route.get("metadata") or {}).get("generation")
    said = [
        condition
        for parent in (route.get("status") or {}).get("parents") or ()
        for condition in parent.get("conditions") or ()
        if condition["type"] in ("Accepted", "ResolvedRefs")
        and condition.get("observedGeneration", generation) == generation
    ]
    bad = next((each for each in said if each["status"] == "False"), None)
    return bad or next((each for each in said if each["type"] == "Accepted"), None)
