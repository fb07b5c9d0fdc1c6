"""What is created on the cluster for one job, as manifests: a Job, and beside it a Secret and a Service."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from mlretrain import wire
from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec, Resources
from mlretrain.runtime.contract import dns_label
from mlretrain.runtime.node import MASTER_PORT
from mlretrain_provider.backends.kubernetes_options import KubernetesOptions

Manifest = dict[str, Any]

MAIN = "main"
"""The container that runs the step; others may come in by ``pod_template``."""
RANK_ANNOTATION = "batch.kubernetes.io/job-completion-index"
NAME_ANNOTATION = "mlretrain/name"
_JOB_LABEL = "mlretrain/job"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_UNITS = ("", "Ki", "Mi", "Gi", "Ti")
# What tells the items of a list apart, where it is not their name.
_LIST_KEYS = {"volumeMounts": "mountPath", "ports": "containerPort", "hostAliases": "ip"}


def job_name(spec: JobSpec) -> str:
    """The Job's name: a DNS label that begins with a letter, as its Service's must (RFC 1035).

    It leaves room for the rank, which is appended to make the pods' host names.
    """
    limit = 63 if spec.nodes == 1 else 62 - len(str(spec.nodes - 1))
    return lettered_label(spec.name, "job", limit)


def lettered_label(name: str, prefix: str, limit: int = 63) -> str:
    """``name`` as a DNS label that begins with a letter, as a Service's must (RFC 1035).

    :param prefix: put before a name that begins with none.
    """
    label = dns_label(name, limit)
    return label if label[0].isalpha() else dns_label(f"{prefix}-{name}", limit)


def job_manifest(spec: JobSpec, options: KubernetesOptions) -> Manifest:
    """The Job: one attempt, as many pods as ``spec.nodes``.

    :raises ConfigError: there is no image.
    """
    labels, annotations = _labels(spec, options), _annotations(spec, options)
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod_spec(spec, options)}
    job_spec = {
        # One pod is one attempt, and no other begins before it is known to have ended: who tries again is
        # the task, which knows whether that can help.
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "completions": spec.nodes,
        "parallelism": spec.nodes,
        "completionMode": "Indexed" if spec.nodes > 1 else None,
        "suspend": True if options.queue else None,
        "activeDeadlineSeconds": None if spec.timeout_s is None else max(1, math.ceil(spec.timeout_s)),
        "ttlSecondsAfterFinished": None if options.ttl_s is None else math.ceil(options.ttl_s),
        "template": merged(template, options.pod_template),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(spec),
            "labels": {**labels, **({QUEUE_LABEL: options.queue} if options.queue else {})},
            "annotations": annotations,
        },
        "spec": given(job_spec),
    }


def secret_manifest(spec: JobSpec) -> Manifest:
    """The Secret with the job's secret environment variables, of the Job's name."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": job_name(spec), "labels": {_JOB_LABEL: job_name(spec)}},
        "stringData": dict(spec.secrets),
    }


def service_manifest(spec: JobSpec, owner: Manifest) -> Manifest:
    """The headless Service by which the nodes find each other, of the Job's name; it goes with the Job."""
    name = job_name(spec)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {_JOB_LABEL: name}, "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "selector": {_JOB_LABEL: name},
            # The nodes look for each other before any of them is ready.
            "publishNotReadyAddresses": True,
            "ports": [{"name": "master", "port": MASTER_PORT}],
        },
    }


def owner_reference(job: Manifest) -> Manifest:
    """What makes another object disappear with the Job."""
    metadata = job["metadata"]
    return {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}


def merged(ours: Any, theirs: Any, key: str = "") -> Any:
    """``theirs`` laid over ``ours``: mappings and lists of named things are merged, ``None`` removes."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        both = {name: merged(ours.get(name), value, name) for name, value in theirs.items()}
        return given({**ours, **both})
    name = _LIST_KEYS.get(key, "name")
    if _is_named(ours, name) and _is_named(theirs, name):
        ours_by, theirs_by = ({each[name]: each for each in items} for items in (ours, theirs))
        return list({**ours_by, **{at: merged(ours_by.get(at), it) for at, it in theirs_by.items()}}.values())
    return theirs


def quantity(number: int) -> str:
    """Bytes as Kubernetes writes them, in the largest unit that keeps them whole."""
    power = 0
    while number and number % 1024 == 0 and power < len(_UNITS) - 1:
        number, power = number // 1024, power + 1
    return f"{number}{_UNITS[power]}"


def _pod_spec(spec: JobSpec, options: KubernetesOptions) -> Manifest:
    return given(
        {
            "restartPolicy": "Never",
            "containers": [_container(spec, options)],
            "terminationGracePeriodSeconds": math.ceil(options.grace_s),
            # Variables for each Service of the namespace: one called "mlflow" would set MLFLOW_PORT.
            "enableServiceLinks": False,
            "serviceAccountName": options.service_account,
            "automountServiceAccountToken": None if options.service_account else False,
            "subdomain": job_name(spec) if spec.nodes > 1 else None,
            "priorityClassName": options.priority_class,
            "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets] or None,
            "nodeSelector": dict(options.node_selector) or None,
            "tolerations": [dict(each) for each in options.tolerations] or None,
            "volumes": [dict(each) for each in options.volumes] or None,
        }
    )


def _container(spec: JobSpec, options: KubernetesOptions) -> Manifest:
    image = spec.image or options.image
    if not image:
        raise ConfigError(
            "a job on Kubernetes needs an image",
            where=spec.name,
            remedy="Set `image:` of the stack, or of the step",
        )
    sources = [{"secretRef": {"name": name}} for name in options.env_from_secrets]
    sources += [{"configMapRef": {"name": name}} for name in options.env_from_config_maps]
    return given(
        {
            "name": MAIN,
            "image": image,
            "imagePullPolicy": options.image_pull_policy,
            "command": [literal(each) for each in options.command],
            "env": _env(spec, options),
            "envFrom": sources or None,
            "resources": resources(spec.resources, options.gpu_resource),
            "volumeMounts": [dict(each) for each in options.volume_mounts] or None,
        }
    )


def _env(spec: JobSpec, options: KubernetesOptions) -> list[Manifest]:
    own = {"PYTHONUNBUFFERED": "1", "MLRETRAIN_REQUEST_URI": spec.request_uri}
    texts = {**own, **spec.env, **options.env, **_rendezvous(spec)}
    found: dict[str, Manifest] = {name: {"value": literal(text)} for name, text in texts.items()}
    if spec.nodes > 1:
        rank = {"valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{RANK_ANNOTATION}']"}}}
        found |= {"MLRETRAIN_RANK": rank, "RANK": rank}
    for name in spec.secrets.keys() - options.env.keys():
        found[name] = {"valueFrom": {"secretKeyRef": {"name": job_name(spec), "key": name}}}
    return [{"name": name, **found[name]} for name in sorted(found)]


def _rendezvous(spec: JobSpec) -> dict[str, str]:
    if spec.nodes == 1:
        return {}
    name = job_name(spec)
    found = {
        "WORLD_SIZE": str(spec.nodes),
        "MASTER_ADDR": f"{name}-0.{name}",
        "MASTER_PORT": str(MASTER_PORT),
    }
    return {**found, **{f"MLRETRAIN_{key}": value for key, value in found.items()}}


def resources(wanted: Resources, gpu_resource: str) -> Manifest | None:
    """What a container asks for and may use; ``None`` if that is nobody's wish."""
    limits: Manifest = {}
    if wanted.memory is not None:
        # A request below the limit would only make the job the first to be evicted.
        limits["memory"] = quantity(wanted.memory)
    if wanted.gpu:
        limits[gpu_resource] = str(wanted.gpu)
    requests = {**limits, **({} if wanted.cpu is None else {"cpu": _cores(wanted.cpu)})}
    return given({"requests": requests or None, "limits": limits or None}) or None


def _cores(cpu: float) -> str:
    milli = max(1, math.ceil(round(cpu * 1000, 6)))
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def _labels(spec: JobSpec, options: KubernetesOptions) -> dict[str, str]:
    own = {f"mlretrain/{_label_name(key)}": label_value(value) for key, value in spec.labels.items()}
    manager = {"app.kubernetes.io/managed-by": "mlretrain"}
    return {**manager, **own, **options.labels, _JOB_LABEL: job_name(spec)}


def _annotations(spec: JobSpec, options: KubernetesOptions) -> dict[str, str]:
    own = {f"mlretrain/{_label_name(key)}": value for key, value in spec.labels.items()}
    uri = {"mlretrain/request-uri": spec.request_uri}
    return {**own, **options.annotations, **uri, NAME_ANNOTATION: spec.name}


def _label_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", key).strip("-")[:63].strip("-") or "label"


def label_value(value: str) -> str:
    """``value`` if it may be a label's, else cleaned and told apart by a digest."""
    if _LABEL_VALUE.fullmatch(value):
        return value
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", value)[:54].strip("-._")
    return f"{cleaned}-{wire.digest(value, 8)}".lstrip("-")


def literal(text: str) -> str:
    """``text`` so that Kubernetes leaves every ``$(NAME)`` in it as it is."""
    return text.replace("$", "$$")


def given(values: Mapping[str, Any]) -> Manifest:
    """``values`` without what is ``None``."""
    return {key: value for key, value in values.items() if value is not None}


def _is_named(value: Any, name: str) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) and name in each for each in value)
