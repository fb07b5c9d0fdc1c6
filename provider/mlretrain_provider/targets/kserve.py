"""The serving target ``kserve``: one InferenceService and the ``canaryTrafficPercent`` of its newest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, MlretrainError, Superseded, TransientError
from mlretrain.ports import Traffic, VersionStats
from mlretrain.serving.traffic import check_traffic, refuse_late
from mlretrain_provider.backends import kubernetes_api
from mlretrain_provider.targets import kserve_manifest as manifest
from mlretrain_provider.targets import kubernetes_order as order
from mlretrain_provider.targets import kubernetes_rollout as rollout
from mlretrain_provider.targets import kubernetes_stats as stats
from mlretrain_provider.targets.kserve_manifest import CONFIG_MAP, CONTAINER, REVISION, SERVICE
from mlretrain_provider.targets.kubernetes_manifest import (
    VERSION_LABEL,
    model_labels,
    model_name,
    version_labels,
)
from mlretrain_provider.targets.kubernetes_objects import POD, Objects
from mlretrain_provider.targets.kubernetes_options import ServingOptions

if TYPE_CHECKING:
    from mlretrain_provider.targets import Surroundings

Object = dict[str, Any]

DEFAULT_CONNECTION = "kubernetes_default"
POLL_S = 1.0
_LINES = 15
_STEPS = 10
"""Between any two orders there are fewer."""

logger = logging.getLogger(__name__)


class KServeTarget:
    """A :class:`~mlretrain.ports.ServingTarget` on KServe in its serverless mode, which alone splits traffic.

    KServe has two revisions of a service: the newest, and the last that had all requests. So two versions at
    most are served or stand by, and none gets copies. Which versions these are is read from the revisions'
    labels; the order and its generation are kept in a ConfigMap, because annotations would make revisions.

    :param conn_id: the Airflow connection, of type ``kubernetes``.
    :param options: those of :class:`ServingOptions`.
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
        self.options = ServingOptions(**options)
        self._clock = clock

    def apply(self, model: str, traffic: Traffic) -> None:
        wanted = check_traffic(traffic)
        if len(wanted.weights) > 2 or wanted.mirrored:
            raise ConfigError(
                "KServe serves two versions, and copies no requests",
                where=f"serving of {model}",
                found=f"{len(wanted.weights)} versions, {len(wanted.mirrored)} mirrored",
                remedy="Use the target kubernetes with a gateway for that.",
            )
        with self._claimed(model, wanted):
            if not wanted.weights:
                self._objects.remove(
                    SERVICE, model_name(model), lambda found: not order.is_strange(model, found)
                )
            for _ in range(_STEPS):
                step = self._next(model, wanted)
                if step is None:
                    return
                self._set(model, wanted, *step)
            raise TransientError(
                "KServe does not come to rest", where=f"{self._objects.namespace}/{model_name(model)}"
            )

    def current(self, model: str) -> Traffic:
        """The percentages of the revisions, 0 of one that stands by, and the order's generation."""
        ordered = order.in_force(self._map(model))
        weights = self._weights(self._service(model))
        return Traffic(
            weights={version: weights[version] for version in sorted(weights, key=int)},
            generation=ordered.generation,
        )

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        """Statistics of each version, from all of its pods; see :mod:`kubernetes_stats`."""
        found = {version: VersionStats() for version in self._weights(self._service(model))}
        return found | stats.gather(self._objects, model_labels(model), model, since, self.options.port)

    def _next(self, model: str, wanted: Traffic) -> tuple[str, int | None] | None:
        """The next newest version and its percentage on the way to ``wanted``; ``None`` once it is reached.

        What answers and shall not loses its requests before anything is deployed: a roll-back is at once.
        What is new is deployed with 0, because KServe would else give requests to whatever was ready last,
        a standby too, and gets its share once it is ready. Two versions that KServe does not have yet come
        one after the other, the one with more requests first.
        """
        if not wanted.weights:
            return None
        service = self._service(model)
        newest, rolled, shares = _version(service), self._rolled(service), self._weights(service)
        heavy = max(wanted.weights, key=lambda version: (wanted.weights[version], version == rolled))
        if service is None or newest is None:
            return heavy, None
        alone = len(wanted.weights) == 1
        canary = service["spec"]["predictor"].get("canaryTrafficPercent")
        if shares == wanted.weights and (canary is None) == alone and self._ended(service):
            return None
        if newest not in wanted.weights and shares.get(newest) and rolled in wanted.weights:
            return newest, 0
        if alone or (newest == heavy and rolled not in wanted.weights):
            return heavy, None if newest == heavy else 0
        if {newest, rolled} == set(wanted.weights):
            return newest, wanted.weights[newest]
        (light,) = wanted.weights.keys() - {heavy}
        return light if rolled == heavy else heavy, 0

    def _set(self, model: str, wanted: Traffic, version: str, canary: int | None) -> None:
        """Have the newest revision be ``version`` with that share; on failure put back what was."""
        before = self._service(model)

        def make(found: Object | None) -> Object:
            order.refuse_strangers(model, found)
            self._look(model, wanted)
            return manifest.inference_service(model, version, self.options, canary=canary)

        self._objects.change(SERVICE, model_name(model), make)
        withdraws = _version(before) == version and canary == 0  # though its pods may be anything but ready
        try:
            self._wait(model, wanted, version, 100 if canary is None else canary, withdraws=withdraws)
        except Superseded:
            raise
        except MlretrainError:
            self._put_back(model, before, version)
            raise

    def _wait(self, model: str, wanted: Traffic, version: str, share: int, *, withdraws: bool) -> None:
        until = self._clock() + self.options.ready_timeout_s
        while True:
            self._look(model, wanted)
            service = self._service(model)
            found = self._weights(service).get(version, 0 if withdraws else -1)
            if (withdraws or self._ended(service)) and (found == share or self._rolled(service) == version):
                return
            self._give_up(model, version, service or {}, late=self._clock() > until)
            self._objects.cluster.sleep(POLL_S)

    def _give_up(self, model: str, version: str, service: Object, *, late: bool) -> None:
        """Raise what stands in the way of ``version`` if that will not pass, or time is up."""
        pods = self._objects.select(POD, version_labels(model, version))
        events = [event for pod in pods if rollout.wants_events(pod) for event in self._objects.warnings(pod)]
        found = rollout.trouble({}, pods, events)
        if (found is None or found.fault is None) and not late:
            return
        said = self._objects.last_lines(found.pod, CONTAINER, _LINES) if found else ""
        kind = (found.fault if found else None) or TransientError
        raise kind(
            f"version {version} of {model} cannot be served",
            where=f"{self._objects.namespace}/{model_name(model)}",
            found=found.reason if found else _unready(service) or "KServe has not said why",
            remedy="What was served is served still."
            + (f" The server's last words:\n{said}" if said else ""),
        )

    def _put_back(self, model: str, before: Object | None, version: str) -> None:
        """Undo what made ``version`` the newest, unless somebody else has done so."""

        def is_ours(found: Object | None) -> bool:
            return found is not None and found["metadata"]["labels"].get(VERSION_LABEL) == version

        if before is None:
            self._objects.remove(SERVICE, model_name(model), is_ours)
            return
        newest = before["metadata"]["labels"][VERSION_LABEL]
        canary = before["spec"]["predictor"].get("canaryTrafficPercent")
        kept = manifest.inference_service(model, newest, self.options, canary=canary)
        kept["spec"]["predictor"] = before["spec"]["predictor"]
        self._objects.change(SERVICE, model_name(model), lambda found: kept if is_ours(found) else None)

    @contextmanager
    def _claimed(self, model: str, wanted: Traffic) -> Iterator[None]:
        """Keep older orders out from now on; on failure let the last one count again."""
        name = manifest.traffic_map(model, {})["metadata"]["name"]
        before: list[Object | None] = []

        def claim(found: Object | None) -> Object:
            order.refuse_strangers(model, found)
            refuse_late(model, wanted, order.last_order(found))
            before[:] = [found]
            kept = order.notes(model, order.in_force(found), None)
            return manifest.traffic_map(model, {**order.notes(model, wanted, found), **_without_last(kept)})

        def release(found: Object | None) -> Object | None:
            mine = bool(found) and order.last_order(found) == (wanted if wanted.generation else None)
            notes = order.notes_of(before[0]) if before and before[0] else order.notes(model, Traffic(), None)
            return manifest.traffic_map(model, notes) if mine else None

        self._objects.change(CONFIG_MAP, name, claim)
        try:
            yield
        except Superseded:
            raise
        except MlretrainError:
            self._objects.change(CONFIG_MAP, name, release)
            raise
        self._objects.change(CONFIG_MAP, name, lambda found: self._done(model, wanted, found))

    def _done(self, model: str, wanted: Traffic, found: Object | None) -> Object:
        refuse_late(model, wanted, order.last_order(found))
        return manifest.traffic_map(model, order.notes(model, wanted, found))

    def _look(self, model: str, wanted: Traffic) -> None:
        refuse_late(model, wanted, order.last_order(self._map(model)))

    def _weights(self, service: Object | None) -> dict[str, int]:
        """Percentages by version, as KServe says that they are."""
        found: dict[str, int] = {}
        for each in _predictor(service).get("traffic") or ():
            revision = self._objects.get(REVISION, each["revisionName"])
            if revision is not None:
                version = str(revision["metadata"]["labels"].get(VERSION_LABEL))
                found[version] = found.get(version, 0) + int(each.get("percent") or 0)
        return found

    def _ended(self, service: Object | None) -> bool:
        """Whether the newest revision is ready, and KServe has nothing left to do."""
        if service is None or not rollout.is_ready(service):
            return False
        predictor = _predictor(service)
        revision = self._objects.get(REVISION, str(predictor.get("latestReadyRevision")))
        labels = revision["metadata"]["labels"] if revision else {}
        return (
            predictor.get("latestReadyRevision") == predictor.get("latestCreatedRevision")
            and labels.get(VERSION_LABEL) == service["metadata"]["labels"][VERSION_LABEL]
        )

    def _rolled(self, service: Object | None) -> str | None:
        """The version that had all requests last."""
        name = _predictor(service).get("latestRolledoutRevision")
        revision = self._objects.get(REVISION, name) if name else None
        return str(revision["metadata"]["labels"].get(VERSION_LABEL)) if revision else None

    def _service(self, model: str) -> Object | None:
        found = self._objects.get(SERVICE, model_name(model))
        order.refuse_strangers(model, found)
        return found

    def _map(self, model: str) -> Object | None:
        return self._objects.get(CONFIG_MAP, manifest.traffic_map(model, {})["metadata"]["name"])

    @cached_property
    def _objects(self) -> Objects:
        cluster = kubernetes_api.connect(self.conn_id)
        return Objects(cluster, self.options.namespace or cluster.default_namespace)


def _version(service: Object | None) -> str | None:
    """The version that the newest revision is, or will be."""
    return str(service["metadata"]["labels"][VERSION_LABEL]) if service else None


def _predictor(service: Object | None) -> Object:
    found: Object = ((service or {}).get("status") or {}).get("components", {}).get("predictor") or {}
    return found


def _unready(service: Object) -> str | None:
    conditions = (service.get("status") or {}).get("conditions") or ()
    bad = [each for each in conditions if each["status"] == "False" and each.get("message")]
    return f"{bad[0].get('reason')}: {bad[0]['message']}" if bad else None


def _without_last(notes: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in notes.items() if name != order.LAST}
