"""How jobs run on a cluster: the settings of a stack's ``kubernetes:`` section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class KubernetesOptions:
    """What all jobs of one stack have in common on Kubernetes.

    :param conn_id: the Airflow connection (type ``kubernetes``) to the cluster.
    :param namespace: where jobs run; none: the connection's, else ``default``.
    :param image: the container image of jobs that name none.
    :param image_pull_policy: ``Always``, ``IfNotPresent`` or ``Never``; none: Kubernetes' own default.
    :param image_pull_secrets: names of Secrets with registry credentials.
    :param service_account: the pods' identity; none: the namespace's default, without its API token.
    :param tolerations: as in a pod's spec.
    :param labels: further labels of the Job and its pods.
    :param annotations: further annotations of the Job and its pods.
    :param env: further environment variables; they come before a job's own, so that a server may be known by
        another address on the cluster.
    :param env_from_secrets: names of Secrets whose entries become environment variables.
    :param env_from_config_maps: names of ConfigMaps whose entries become environment variables.
    :param volumes: as in a pod's spec.
    :param volume_mounts: as in a container's spec.
    :param pod_template: a pod template (``metadata``, ``spec``) laid over ours: mappings are merged, lists of
        named things by name, ``null`` removes; the container that runs the step is called ``main``.
    :param queue: a Kueue LocalQueue that decides when the job may start.
    :param priority_class: the pods' PriorityClass.
    :param gpu_resource: what the cluster calls one accelerator.
    :param command: the command that runs a step.
    :param ttl_s: seconds that an ended job is kept for inspection; none: for good.
    :param grace_s: seconds between asking a job to stop and killing it.
    :param startup_timeout_s: seconds that a pod may wait for its start before the job has failed. Time in the
        queue does not count.
    """

    conn_id: str = "kubernetes_default"
    namespace: str | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: Sequence[str] = ()
    service_account: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    env_from_secrets: Sequence[str] = ()
    env_from_config_maps: Sequence[str] = ()
    volumes: Sequence[Mapping[str, Any]] = ()
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    pod_template: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    priority_class: str | None = None
    gpu_resource: str = "nvidia.com/gpu"
    command: Sequence[str] = ("python", "-m", "mlretrain.runtime")
    ttl_s: float | None = 86400.0
    grace_s: float = 30.0
    startup_timeout_s: float = 600.0
