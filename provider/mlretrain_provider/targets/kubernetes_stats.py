"""What each version did, from the statistics of all pods: asked through the API server, and added up.

Counts add up. Latencies come from each pod as numbers of equal bins, which add up too, so that a percentile
of all pods is as exact as that of one: 1 %.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from mlretrain import wire
from mlretrain.errors import ContractError, TransientError
from mlretrain.ports import VersionStats
from mlretrain.serving.stats import latency_quantiles_ms
from mlretrain_provider.backends import kubernetes_pod
from mlretrain_provider.targets import kubernetes_rollout as rollout
from mlretrain_provider.targets.kubernetes_manifest import VERSION_LABEL
from mlretrain_provider.targets.kubernetes_objects import POD, Objects

Object = Mapping[str, Any]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    errors: int = 0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, answer: Mapping[str, Any], version: str) -> None:
        """Add one server's answer."""
        try:
            found = answer["versions"].get(version, {})
            self.requests += int(found.get("requests", 0))
            self.errors += int(found.get("errors", 0))
            for number, count in answer["latency_bins"].get(version, {}).items():
                self.bins[int(number)] += int(count)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ContractError(
                "what answers in the pod is no model server of this version",
                found=repr(error),
                remedy="Let `serving.image` have the same version of this package as Airflow's worker.",
            ) from None

    def lose(self, crashes: int) -> None:
        """Count servers that crashed: each has lost a request, if not more."""
        self.requests += crashes
        self.errors += crashes

    @property
    def stats(self) -> VersionStats:
        """All together."""
        p50, p95, p99 = latency_quantiles_ms(self.bins)
        return VersionStats(
            requests=self.requests,
            errors=self.errors,
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            latency_p99_ms=p99,
        )


def gather(
    objects: Objects, labels: Mapping[str, str], model: str, since: datetime, port: int
) -> dict[str, VersionStats]:
    """Statistics of each version that has pods.

    :param labels: of the model's pods.
    :raises TransientError: a pod that is ready does not answer: without it the sums would be too good.
    """
    found: dict[str, _Sum] = {}
    for pod in objects.select(POD, labels):
        version = str(pod["metadata"]["labels"].get(VERSION_LABEL, ""))
        answer = _ask(objects, pod, model, since, port)
        total = found.setdefault(version, _Sum())
        if answer is not None:
            total.add(answer, version)
        total.lose(_crashes(pod, since))
    return {version: each.stats for version, each in found.items() if version}


def _ask(objects: Objects, pod: Object, model: str, since: datetime, port: int) -> Any:
    """The pod's answer; ``None`` if its server does not run, or has not served the model yet."""
    if not rollout.is_ready(pod):
        return None
    query = {"since": wire.utc(since).isoformat(), "bins": "true"}
    try:
        return objects.ask(dict(pod), port, f"/models/{quote(model, safe='')}/stats", query)
    except TransientError:
        now = objects.get(POD, pod["metadata"]["name"])
        if now is None or kubernetes_pod.is_leaving(now) or not rollout.is_ready(now):
            logger.warning("%s has gone, and its statistics with it", pod["metadata"]["name"])
            return None
        raise


def _crashes(pod: Object, since: datetime) -> int:
    """How often the pod's server has crashed since then, as far as the cluster remembers: its last end."""
    times, ended_at = rollout.restarts(pod)
    if not times or ended_at is None or kubernetes_pod.seconds(ended_at) < since.timestamp():
        return 0
    name = pod["metadata"]["name"]
    logger.warning("the server in %s has ended, and its statistics with it; %d restarts", name, times)
    return 1
