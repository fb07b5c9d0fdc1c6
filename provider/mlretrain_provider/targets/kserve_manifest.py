"""The InferenceService of a model, as KServe wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlretrain_provider.backends.kubernetes_job import NAME_ANNOTATION, given, merged
from mlretrain_provider.targets import kubernetes_manifest as manifest
from mlretrain_provider.targets.kubernetes_objects import Kind
from mlretrain_provider.targets.kubernetes_options import ServingOptions

Manifest = dict[str, Any]

SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
REVISION = Kind("serving.knative.dev/v1", "Revision", "revisions")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
CONTAINER = "kserve-container"
"""What KServe calls the container of a predictor of one's own."""
_MODE = "serving.kserve.io/deploymentMode"


def inference_service(model: str, version: str, options: ServingOptions, *, canary: int | None) -> Manifest:
    """The InferenceService whose newest revision is ``version``.

    Its labels become those of the revision and of its pods. So would annotations, and each other value of one
    would make another revision: nothing that changes with an order may be among them.

    :param canary: percentage of the newest revision; ``None``: all, once it is ready.
    """
    labels = {
        **manifest.model_service(model, options, {}, {})["metadata"]["labels"],
        **manifest.version_labels(model, version),
    }
    predictor = {
        "minReplicas": options.replicas,
        "maxReplicas": options.replicas,
        "canaryTrafficPercent": canary,
        "containers": [_container(model, version, options)],
        "serviceAccountName": options.service_account,
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets] or None,
        "nodeSelector": dict(options.node_selector) or None,
        "tolerations": [dict(each) for each in options.tolerations] or None,
        "volumes": [dict(each) for each in options.volumes] or None,
    }
    changes = options.pod_template.get("spec", {})
    return {
        "metadata": {
            "name": manifest.model_name(model),
            "labels": labels,
            "annotations": {**options.annotations, NAME_ANNOTATION: model, _MODE: "Serverless"},
        },
        "spec": {"predictor": merged(given(predictor), changes)},
    }


def traffic_map(model: str, notes: Mapping[str, str]) -> Manifest:
    """The ConfigMap that keeps the order, beside the InferenceService."""
    metadata = {"name": f"{manifest.model_name(model)[:55]}-traffic", "annotations": dict(notes)}
    return {"metadata": {**metadata, "labels": manifest.model_labels(model)}}


def _container(model: str, version: str, options: ServingOptions) -> Manifest:
    """Without what Knative does not let a container have: names of ports, startup probes, hooks."""
    found = manifest.container(model, version, options)
    del found["startupProbe"]
    found["ports"] = [{"containerPort": options.port, "protocol": "TCP"}]
    for probe in ("readinessProbe", "livenessProbe"):
        found[probe] = {**found[probe], "httpGet": {"path": found[probe]["httpGet"]["path"]}}
    return {**found, "name": CONTAINER}
