"""Jobs as Kubernetes Jobs: one ``batch/v1`` Job for each, which the cluster itself ends in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain_provider.backends import kubernetes_api, kubernetes_log
from mlretrain_provider.backends.kubernetes_api import Cluster
from mlretrain_provider.backends.kubernetes_job import (
    MAIN,
    NAME_ANNOTATION,
    job_manifest,
    job_name,
    owner_reference,
    secret_manifest,
    service_manifest,
)
from mlretrain_provider.backends.kubernetes_options import KubernetesOptions
from mlretrain_provider.backends.kubernetes_pod import has_ended
from mlretrain_provider.backends.kubernetes_status import (
    is_finished,
    leading_pod,
    outlook,
    record,
    wants_events,
)

Object = dict[str, Any]

LOG_PIECE = 1 << 20
"""Bytes of log that one call of ``logs`` returns at most."""
_CANCELLED = JobStatus(state="cancelled", reason="cancelled")


@dataclass(frozen=True, kw_only=True)
class KubernetesBackend(KubernetesOptions):
    """Run each job as one Kubernetes Job; the parameters are those of :class:`KubernetesOptions`.

    What the connection's user must be allowed in the namespace: ``create``, ``get``, ``patch`` and ``delete``
    of ``jobs``; ``list`` of ``pods``; ``get`` of ``pods/log``; ``create``, ``update`` and ``patch`` of
    ``secrets``; ``create`` of ``services`` for several nodes; and ``list`` of ``events``, without which
    waiting is explained less well.

    A handle is ``<namespace>/<Job>``.
    """

    remote: ClassVar[bool] = True
    clock: Callable[[], float] = time.time

    def submit(self, spec: JobSpec) -> str:
        """The handle of the job of that name, created if there is none."""
        namespace, name = self._namespace, job_name(spec)
        job = self._cluster.job(namespace, name) or self._create(namespace, spec)
        if (job["metadata"].get("annotations") or {}).get(NAME_ANNOTATION) != spec.name:
            raise ConfigError(
                "the Job is somebody else's",
                where=f"{namespace}/{name}",
                remedy="Delete it, or use another namespace.",
            )
        # Also for a job that was there: whoever created it may have died at this point.
        if spec.secrets:
            self._cluster.own_secret(namespace, name, owner_reference(job))
        if spec.nodes > 1:
            self._cluster.create_service(namespace, service_manifest(spec, owner_reference(job)))
        return f"{namespace}/{name}"

    def status(self, handle: str) -> JobStatus:
        """The job's state now. A job that can only wait for ever is failed, and stopped."""
        namespace, name = _parse(handle)
        job = self._cluster.job(namespace, name)
        if job is None:
            return JobStatus(state="lost", reason="the Job is gone: deleted, or its ttl has passed")
        pods = self._cluster.pods(job)
        found = outlook(
            job,
            pods,
            self._warnings(job, pods) if wants_events(job, pods) else [],
            now=self.clock(),
            startup_timeout_s=self.startup_timeout_s,
        )
        if found.verdict is not None:
            self._cluster.stop_job(namespace, name, record(found.verdict))
        return found.status

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        """Text of rank 0's container since ``cursor``; bytes that are no UTF-8 show as ``\\xNN``."""
        job = self._cluster.job(*_parse(handle))
        pod = leading_pod(self._cluster.pods(job)) if job is not None else None
        if pod is None or pod["status"].get("phase") == "Pending":
            return "", cursor
        begin = kubernetes_log.Cursor.parse(cursor, pod["metadata"]["uid"])
        with self._cluster.log(pod, MAIN, begin.since) as chunks:
            text, end = kubernetes_log.read(chunks, begin, limit=LOG_PIECE, ended=has_ended(pod))
        return text, str(end)

    def cancel(self, handle: str) -> None:
        """Have the cluster end the job: SIGTERM, after the grace period SIGKILL. Does not wait for that."""
        namespace, name = _parse(handle)
        job = self._cluster.job(namespace, name)
        if job is None or is_finished(job):
            return
        if job["spec"].get("suspend"):  # no time limit counts for a Job in the queue, and it has no pods
            self._cluster.delete_job(namespace, name)
        else:
            self._cluster.stop_job(namespace, name, record(_CANCELLED))

    def _create(self, namespace: str, spec: JobSpec) -> Object:
        manifest = job_manifest(spec, self)
        if spec.nodes > 1 or self.queue:
            self._refuse_old_cluster(namespace, manifest)
        if spec.secrets:
            self._cluster.put_secret(namespace, secret_manifest(spec))
        job = self._cluster.create_job(namespace, manifest)
        job = job or self._cluster.job(namespace, manifest["metadata"]["name"])
        if job is None:
            raise ConfigError(
                "the Job was deleted while it was being created",
                where=f"{namespace}/{manifest['metadata']['name']}",
            )
        return job

    def _refuse_old_cluster(self, namespace: str, manifest: Object) -> None:
        """Old API servers drop what they do not know in silence; the Job would then run, but otherwise."""
        kept = self._cluster.create_job(namespace, manifest, dry_run=True)
        dropped = kubernetes_api.unkept(manifest["spec"], kept["spec"]) if kept else []
        if dropped:
            raise ConfigError(
                f"this cluster does not know a Job's {' and '.join(dropped)}",
                where="nodes" if "completionMode" in dropped else "kubernetes.queue",
                remedy="Use Kubernetes 1.24 or newer.",
            )

    def _warnings(self, job: Object, pods: list[Object]) -> list[Object]:
        namespace = job["metadata"]["namespace"]
        objects = pods or [job]
        return [
            event for each in objects for event in self._cluster.warnings(namespace, each["metadata"]["uid"])
        ]

    @cached_property
    def _cluster(self) -> Cluster:
        return kubernetes_api.connect(self.conn_id)

    @property
    def _namespace(self) -> str:
        return self.namespace or self._cluster.default_namespace


def _parse(handle: str) -> tuple[str, str]:
    namespace, _, name = handle.partition("/")
    return namespace, name
