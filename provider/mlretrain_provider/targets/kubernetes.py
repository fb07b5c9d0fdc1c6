"""The serving target ``kubernetes``: a Deployment for each version, and one Service in front of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, MlretrainError, Superseded
from mlretrain.ports import Traffic, VersionStats
from mlretrain.serving.traffic import check_traffic
from mlretrain_provider.backends import kubernetes_api
from mlretrain_provider.targets import kubernetes_order as order
from mlretrain_provider.targets import kubernetes_rollout as rollout
from mlretrain_provider.targets import kubernetes_stats as stats
from mlretrain_provider.targets import kubernetes_switch as switch
from mlretrain_provider.targets.kubernetes_manifest import GATEWAY_GROUP, model_labels, version_name
from mlretrain_provider.targets.kubernetes_objects import Objects
from mlretrain_provider.targets.kubernetes_options import KubernetesServingOptions
from mlretrain_provider.targets.kubernetes_replicas import replicas, shares
from mlretrain_provider.targets.kubernetes_switch import Switch
from mlretrain_provider.targets.kubernetes_versions import Place, Versions, is_shared

if TYPE_CHECKING:
    from mlretrain_provider.targets import Surroundings

DEFAULT_CONNECTION = "kubernetes_default"
_SILENT_S = 90.0
"""Beyond draining: how long pods of versions that answer no more may take to end."""

logger = logging.getLogger(__name__)


class KubernetesTarget:
    """A :class:`~mlretrain.ports.ServingTarget` in one namespace of a cluster.

    ``apply`` deploys what is new, waits until it is ready, moves the traffic in one write, and only then lets
    go of what is not wanted any more; a version that is not ready leaves everything as it was. It may die
    anywhere and be repeated. Where versions share the traffic without a gateway, their numbers of pods are
    its shares, for new connections.

    :param conn_id: the Airflow connection, of type ``kubernetes``.
    :param options: those of :class:`KubernetesServingOptions`.
    """

    def __init__(
        self,
        *,
        conn_id: str | None = None,
        around: Surroundings,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        self.conn_id = conn_id or DEFAULT_CONNECTION
        self.around = around
        self.options = KubernetesServingOptions(**options)
        self._clock = clock

    def apply(self, model: str, traffic: Traffic) -> None:
        wanted = check_traffic(traffic)
        switch, versions = self._switch(model), self._versions(model)
        counts = self._counts(wanted, switch)
        stamp = order.stamp(wanted, switch.refuse_late(wanted))
        with self._undone(model, stamp):
            self._prepare(versions, switch, wanted, counts, stamp)
            switch.set(wanted)
            self._settle(versions, switch, wanted, counts, stamp)

    def current(self, model: str) -> Traffic:
        """The traffic as it is.

        That is the order in force, as long as the platform agrees with it: the Service selects its versions,
        their Deployments have its numbers of pods (a pod that is just being replaced does not count as a
        change), and at least one pod of each answers. Else what there really is: shares by the pods that
        answer.
        """
        switch, versions = self._switch(model), self._versions(model)
        service = switch.read()
        if service is None:
            return Traffic()
        deployed = versions.all()
        answering = {version: each for version, each in deployed.items() if rollout.available(each)}
        names = {version_name(model, version): version for version in deployed}
        routed = switch.routed(names) or Traffic()
        served = routed.weights or self._by_pods(order.in_force(service), switch.selected(service), answering)
        standbys = {version: 0 for version in answering if version not in {*served, *routed.mirrored}}
        weights = {**served, **standbys} if served else {}
        return Traffic(
            weights={version: weights[version] for version in sorted(weights, key=_number)},
            mirrored={version: routed.mirrored[version] for version in sorted(routed.mirrored, key=_number)},
            generation=order.in_force(service).generation,
        )

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        """Statistics of each deployed version, from all of its pods, asked through the API server.

        A pod that was replaced takes its counts along: of what it did nothing is known. A server that crashed
        has lost at least one request, and is counted so.
        """
        found = {version: VersionStats() for version in self._versions(model).all()}
        return found | stats.gather(self._objects, model_labels(model), model, since, self.options.port)

    def _prepare(
        self, versions: Versions, switch: Switch, wanted: Traffic, counts: Mapping[str, int], stamp: int
    ) -> None:
        """Have everything ready that ``wanted`` names, without taking anything from what is served."""
        there = versions.all()

        def deploy(version: str) -> None:
            versions.deploy(version, self._place(version, wanted, counts), stamp, shrink=False)

        needed = {
            version: count
            for version, count in counts.items()
            if version in wanted.served or version not in there
        }
        for version in needed:
            deploy(version)
        versions.wait(needed, missing=deploy, look=lambda: switch.refuse_late(wanted))

    def _settle(
        self, versions: Versions, switch: Switch, wanted: Traffic, counts: Mapping[str, int], stamp: int
    ) -> None:
        """Leave nothing but what ``wanted`` names, at its size."""

        def deploy(version: str) -> None:
            versions.deploy(version, self._place(version, wanted, counts), stamp)

        for version in counts:
            deploy(version)
        for version in versions.all().keys() - counts.keys():
            versions.remove(version, stamp)
        versions.wait(counts, missing=deploy, look=lambda: switch.refuse_late(wanted), exactly=True)
        versions.wait_silent(wanted.served, self.options.drain_s + _SILENT_S)

    @contextmanager
    def _undone(self, model: str, stamp: int) -> Iterator[None]:
        """On failure bring the versions back to the order that is in force."""
        try:
            yield
        except MlretrainError as failure:
            try:
                self._restore(model, stamp, alone=not isinstance(failure, Superseded))
            except MlretrainError as error:
                logger.warning("%s: what was deployed is left behind: %s", model, error)
            raise

    def _restore(self, model: str, stamp: int, *, alone: bool) -> None:
        switch, versions = self._switch(model), self._versions(model)
        service = switch.read()
        before = order.in_force(service)
        for version in versions.all().keys() - {*before.weights, *before.mirrored}:
            versions.remove(version, stamp)
        counts = self._counts(before, switch) if alone else {}
        for version in counts:
            place = self._place(version, before, counts)
            versions.deploy(version, place, order.stamp(before, service), over=stamp)

    def _place(self, version: str, wanted: Traffic, counts: Mapping[str, int]) -> Place:
        served = version in wanted.served
        alone = served and (len(wanted.served) == 1 or self._routes is not None)  # chosen by its number
        return Place(replicas=counts[version], served=served, shared=None if alone else served)

    def _counts(self, wanted: Traffic, switch: Switch) -> dict[str, int]:
        """Pods by version."""
        least, served = self.options.replicas, wanted.served
        if wanted.mirrored and switch.routes is None:
            raise ConfigError(
                "requests cannot be copied to a version here",
                where=f"serving of {switch.model}",
                found="no gateway" if not self.options.gateway else f"a cluster without {GATEWAY_GROUP}",
                remedy="Name a Gateway in `serving.gateway` on a cluster with the Gateway API, or choose"
                " another strategy than shadow.",
            )
        counts = dict.fromkeys((*wanted.weights, *wanted.mirrored), least)
        if served and switch.routes is None:
            counts |= replicas(served, least=least, most=self.options.max_replicas)
        return counts

    def _by_pods(
        self, ordered: Traffic, selected: str | None, answering: Mapping[str, dict[str, Any]]
    ) -> dict[str, int]:
        """The shares of the versions that the Service selects, by those of their pods that answer."""
        if selected is not None:
            return {selected: 100} if selected in answering else {}
        sharing = {version: each for version, each in answering.items() if is_shared(each)}
        pods = {version: int(each["spec"]["replicas"]) for version, each in sharing.items()}
        if shares(pods) == ordered.served:
            return ordered.served
        return shares({version: rollout.available(each) for version, each in sharing.items()})

    def _switch(self, model: str) -> Switch:
        return Switch(
            objects=self._objects,
            model=model,
            options=self.options,
            routes=self._routes,
            clock=self._clock,
        )

    def _versions(self, model: str) -> Versions:
        return Versions(objects=self._objects, model=model, options=self.options, clock=self._clock)

    @cached_property
    def _objects(self) -> Objects:
        cluster = kubernetes_api.connect(self.conn_id)
        return Objects(cluster, self.options.namespace or cluster.default_namespace)

    @cached_property
    def _routes(self) -> Any:
        found = switch.routes(self._objects, self.options)
        if self.options.gateway and found is None:
            logger.warning("The cluster has no %s: the numbers of pods are the shares.", GATEWAY_GROUP)
        return found


def _number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (0, version)
