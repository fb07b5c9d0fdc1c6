"""What is created on the cluster to serve a model: Deployments, Services and an HTTPRoute, as manifests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mlretrain.errors import ConfigError
from mlretrain.ports import Resources, Traffic
from mlretrain_provider.backends.kubernetes_job import (
    MAIN,
    NAME_ANNOTATION,
    given,
    label_value,
    lettered_label,
    literal,
    merged,
    resources,
)
from mlretrain_provider.targets.kubernetes_objects import Kind
from mlretrain_provider.targets.kubernetes_options import (
    TRACKING_VARIABLE,
    KubernetesServingOptions,
    ServingOptions,
)

Manifest = dict[str, Any]

GATEWAY_GROUP = "gateway.networking.k8s.io"
MODEL_LABEL, VERSION_LABEL = "mlretrain/model", "mlretrain/version"
SHARED_LABEL = "mlretrain/shared"
"""``"true"`` on pods that answer whenever several versions share the model's Service."""
SERVED, RESTED = "mlretrain/served", "mlretrain/rested"
"""On a Deployment: whether its pods answer requests; and, on the pods too, when they last ceased to."""
_ENDS_S = 35
"""How long the server may take to answer what is in flight, and to write its log."""


def http_route(version: str) -> Kind:
    """HTTPRoutes, as the cluster has them."""
    return Kind(f"{GATEWAY_GROUP}/{version}", "HTTPRoute", "httproutes")


def model_name(model: str) -> str:
    """The name of the model's Service and HTTPRoute."""
    return lettered_label(model, "model")


def version_name(model: str, version: str) -> str:
    """The name of a version's Deployment and Service."""
    return lettered_label(f"{model}-v{version}", "model")


def model_labels(model: str) -> dict[str, str]:
    """By what everything of the model is found."""
    return {MODEL_LABEL: label_value(model)}


def version_labels(model: str, version: str) -> dict[str, str]:
    """By what everything of the version is found."""
    return {**model_labels(model), VERSION_LABEL: version}


def deployment(
    model: str,
    version: str,
    options: ServingOptions,
    *,
    replicas: int,
    shared: bool,
    notes: Mapping[str, str],
) -> Manifest:
    """The Deployment of a version; a change of it never lets the number of its ready pods fall.

    :param notes: its annotations; that called :data:`RESTED` is the pods', too.
    """
    template = pod_template(model, version, options, {SHARED_LABEL: str(shared).lower()})
    template["metadata"].setdefault("annotations", {})[RESTED] = notes[RESTED]
    return {
        "metadata": _metadata(model, version, options, notes),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": version_labels(model, version)},
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": math.ceil(options.ready_timeout_s),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def version_service(model: str, version: str, options: ServingOptions) -> Manifest:
    """The Service of one version, whether it answers the model's requests or not."""
    return {
        "metadata": _metadata(model, version, options, {}),
        "spec": {"selector": version_labels(model, version), "ports": ports(options)},
    }


def model_service(
    model: str, options: ServingOptions, selector: Mapping[str, str], notes: Mapping[str, str]
) -> Manifest:
    """The Service by which the model is known."""
    return {
        "metadata": {
            "name": model_name(model),
            "labels": {**_labels(model), **options.labels},
            "annotations": dict(notes),
        },
        "spec": {"selector": dict(selector), "ports": ports(options)},
    }


def route(
    model: str, traffic: Traffic, options: KubernetesServingOptions, notes: Mapping[str, str]
) -> Manifest:
    """The HTTPRoute that splits the model's requests by weight, and copies some."""
    namespace, _, gateway = (options.gateway or "").rpartition("/")
    parent = given({"name": gateway, "namespace": namespace or None})
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": f"/models/{quote(model, safe='')}"}}],
        "filters": [_mirror(model, version, share, options) for version, share in traffic.mirrored.items()],
        "backendRefs": [
            {**_backend(model, version, options), "weight": weight}
            for version, weight in traffic.served.items()
        ],
    }
    metadata = model_service(model, options, {}, notes)["metadata"]
    hosts = list(options.hostnames) or None
    return {
        "metadata": metadata,
        "spec": given({"parentRefs": [parent], "hostnames": hosts, "rules": [rule]}),
    }


def ports(options: ServingOptions) -> list[Manifest]:
    """A Service's ports. The protocol, though it is the default, is part of a port's key when applied."""
    return [{"name": "http", "port": options.port, "targetPort": "http", "protocol": "TCP"}]


def pod_template(model: str, version: str, options: ServingOptions, labels: Mapping[str, str]) -> Manifest:
    """The pods of a version, with what the stack's ``pod_template`` changes in them."""
    metadata = _metadata(model, version, options, options.annotations)
    template = {
        "metadata": given(
            {"labels": {**metadata["labels"], **labels}, "annotations": metadata["annotations"]}
        ),
        "spec": pod_spec(model, version, options),
    }
    found: Manifest = merged(template, options.pod_template)
    return found


def pod_spec(model: str, version: str, options: ServingOptions) -> Manifest:
    """The pod: one server that serves this version, and nothing else."""
    return given(
        {
            "containers": [container(model, version, options)],
            "terminationGracePeriodSeconds": math.ceil(options.drain_s) + _ENDS_S,
            # Variables for each Service of the namespace: one called "mlflow" would set MLFLOW_PORT.
            "enableServiceLinks": False,
            "serviceAccountName": options.service_account,
            "automountServiceAccountToken": None if options.service_account else False,
            "priorityClassName": options.priority_class,
            "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets] or None,
            "nodeSelector": dict(options.node_selector) or None,
            "tolerations": [dict(each) for each in options.tolerations] or None,
            "volumes": [dict(each) for each in options.volumes] or None,
        }
    )


def container(model: str, version: str, options: ServingOptions) -> Manifest:
    """The container with the server.

    :raises ConfigError: there is no image, or nothing says where MLflow is.
    """
    where = f"serving of {model}"
    if not options.image:
        raise ConfigError("a model server needs an image", where=where, remedy="Set `serving.image`.")
    if not options.env_secret and TRACKING_VARIABLE not in options.env:
        raise ConfigError(
            "the model server is not told where MLflow is",
            where=where,
            remedy=f"Name a Secret with {TRACKING_VARIABLE} in `serving.env_secret`.",
        )
    pinned = ["--model", model, "--version", version, "--host", "0.0.0.0", "--port", str(options.port)]  # noqa: S104
    # The cluster goes on sending requests until its proxies have heard that the pod ends.
    own = ["--drain-seconds", f"{options.drain_s:g}", "--log-dir", options.log_dir]
    secret = [{"secretRef": {"name": options.env_secret}}] if options.env_secret else None
    env = {"PYTHONUNBUFFERED": "1", **options.env}
    return given(
        {
            "name": MAIN,
            "image": options.image,
            "imagePullPolicy": options.image_pull_policy,
            "command": [literal(each) for each in (*options.command, *pinned, *own)],
            "env": [{"name": name, "value": literal(env[name])} for name in sorted(env)],
            "envFrom": secret,
            "ports": [{"name": "http", "containerPort": options.port, "protocol": "TCP"}],
            "readinessProbe": _probe("/ready", period_s=2, failures=3),
            # The first probe comes when the server may still import; a model that loads answers /health.
            "livenessProbe": _probe("/health", period_s=10, failures=6),
            "startupProbe": _probe("/health", period_s=2, failures=math.ceil(options.ready_timeout_s / 2)),
            "resources": resources(Resources(**options.resources), options.gpu_resource),
            "volumeMounts": [dict(each) for each in options.volume_mounts] or None,
        }
    )


def _probe(path: str, *, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _mirror(model: str, version: str, share: int, options: ServingOptions) -> Manifest:
    percent = {} if share == 100 else {"percent": share}
    backend = {"backendRef": _backend(model, version, options), **percent}
    return {"type": "RequestMirror", "requestMirror": backend}


def _backend(model: str, version: str, options: ServingOptions) -> Manifest:
    return {"name": version_name(model, version), "port": options.port}


def _labels(model: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": label_value(model),
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/managed-by": "mlretrain",
        **model_labels(model),
    }


def _metadata(model: str, version: str, options: ServingOptions, notes: Mapping[str, str]) -> Manifest:
    return {
        "name": version_name(model, version),
        "labels": {
            **_labels(model),
            "app.kubernetes.io/version": version,
            **options.labels,
            **version_labels(model, version),
        },
        "annotations": {NAME_ANNOTATION: model, **notes},
    }
