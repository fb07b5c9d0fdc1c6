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
            while (step := self._next(model, wanted)) is not None:
                self._set(model, wanted, *step)

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

        What is served already gets all it shall have before anything is deployed: that is how a roll-back is
        at once. A version that neither is the newest nor had all requests before becomes the newest; of two
        such, the one with more requests first, alone.
        """
        service = self._service(model)
        shares = self._weights(service)
        if not wanted.weights or (shares == wanted.weights and self._ended(service)):
            return None
        newest = service["metadata"]["labels"][VERSION_LABEL] if service else None
        heavy = max(wanted.weights, key=lambda version: wanted.weights[version])
        if len(wanted.weights) == 1:
            back = newest not in wanted.weights and newest in shares and heavy in shares
            return (str(newest), 0) if back and shares[heavy] != 100 else (heavy, None)
        if newest in wanted.weights and set(shares) == set(wanted.weights):
            return str(newest), wanted.weights[str(newest)]
        settled = next((version for version, share in shares.items() if share == 100), None)
        if settled in wanted.weights:
            (other,) = wanted.weights.keys() - {settled}
            return other, wanted.weights[other]
        known = next((version for version in (heavy, *wanted.weights) if shares.get(version)), heavy)
        return known, None

    def _set(self, model: str, wanted: Traffic, version: str, canary: int | None) -> None:
        """Have the newest revision be ``version`` with that share; on failure put back what was."""
        before = self._service(model)

        def make(found: Object | None) -> Object:
            order.refuse_strangers(model, found)
            self._look(model, wanted)
            return manifest.inference_service(model, version, self.options, canary=canary)

        self._objects.change(SERVICE, model_name(model), make)
        try:
            self._wait(model, wanted, version, canary)
        except Superseded:
            raise
        except MlretrainError:
            self._put_back(model, before, version)
            raise

    def _wait(self, model: str, wanted: Traffic, version: str, canary: int | None) -> None:
        until = self._clock() + self.options.ready_timeout_s
        while True:
            self._look(model, wanted)
            service = self._service(model)
            share = self._weights(service).get(version)
            if self._ended(service) and share == (100 if canary is None else canary):
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


def _predictor(service: Object | None) -> Object:
    found: Object = ((service or {}).get("status") or {}).get("components", {}).get("predictor") or {}
    return found


def _unready(service: Object) -> str | None:
    conditions = (service.get("status") or {}).get("conditions") or ()
    bad = [each for each in conditions if each["status"] == "False" and each.get("message")]
    return f"{bad[0].get('reason')}: {bad[0]['message']}" if bad else None


def _without_last(notes: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in notes.items() if name != order.LAST}
