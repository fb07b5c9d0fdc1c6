"""How model servers run on a cluster: the settings that both targets there have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """What all servers of one stack have in common.

    :param namespace: where they run; none: the connection's, else ``default``.
    :param image: the image of the model server: this package with the extra ``serve``, and the models' needs.
    :param image_pull_policy: ``Always``, ``IfNotPresent`` or ``Never``; none: Kubernetes' own default.
    :param image_pull_secrets: names of Secrets with registry credentials.
    :param replicas: pods of a version.
    :param port: the servers' port, and that of their Services.
    :param resources: of one pod: ``cpu`` in cores, ``memory`` in bytes, ``gpu``.
    :param gpu_resource: what the cluster calls one accelerator.
    :param service_account: the pods' identity; none: the namespace's default, without its API token.
    :param env_secret: name of a Secret whose entries become environment variables: ``MLFLOW_TRACKING_URI``
        and whatever credentials MLflow and its artifact store ask for. Its values are never read by us.
    :param env: further environment variables, which everybody may read in the Deployment.
    :param volumes: as in a pod's spec.
    :param volume_mounts: as in a container's spec.
    :param labels: further labels of what is created.
    :param annotations: further annotations of the pods.
    :param node_selector: labels that a node must have.
    :param tolerations: as in a pod's spec.
    :param priority_class: the pods' PriorityClass.
    :param pod_template: a pod template (``metadata``, ``spec``) laid over ours: mappings are merged, lists of
        named things by name, ``null`` removes; the server's container is called ``main``.
    :param command: the command that starts a server; model, version and address are appended.
    :param log_dir: folder of the prediction log in the pod; below a mounted volume if it is to be kept.
    :param drain_s: seconds that a pod goes on answering after it was told to end, in which the cluster's
        proxies and gateways learn to leave it alone.
    :param ready_timeout_s: seconds that a version may take to be ready.
    """

    namespace: str | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: Sequence[str] = ()
    replicas: int = 1
    port: int = 8080
    resources: Mapping[str, Any] = field(default_factory=dict)
    gpu_resource: str = "nvidia.com/gpu"
    service_account: str | None = None
    env_secret: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] = ()
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    priority_class: str | None = None
    pod_template: Mapping[str, Any] = field(default_factory=dict)
    command: Sequence[str] = ("python", "-m", "mlretrain.serving")
    log_dir: str = "/tmp/mlretrain/predictions"  # noqa: S108 - in a container of its own
    drain_s: float = 5.0
    ready_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesServingOptions(ServingOptions):
    """Those of the target ``kubernetes``.

    :param max_replicas: pods that versions which share the traffic may have together, where their numbers
        are its shares.
    :param gateway: name of a Gateway, ``namespace/name`` if it is in another namespace: it splits the traffic
        by an HTTPRoute where the cluster has the Gateway API.
    :param hostnames: host names that the HTTPRoute answers to; none: all of the Gateway's.
    """

    max_replicas: int = 10
    gateway: str | None = None
    hostnames: Sequence[str] = ()
