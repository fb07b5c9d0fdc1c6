"""Where models are served: by name, loaded on use; third parties add theirs by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

from mlretrain.errors import ConfigError
from mlretrain.ports import ServingTarget

TARGETS = {
    "local": "mlretrain_provider.targets.local:LocalServerTarget",
    "kubernetes": "mlretrain_provider.targets.kubernetes:KubernetesTarget",
    "kserve": "mlretrain_provider.targets.kserve:KServeTarget",
    "sagemaker": "mlretrain_provider.targets.sagemaker:SageMakerTarget",
    "batch": "mlretrain_provider.targets.batch:BatchTarget",
}
GROUP = "mlretrain.targets"
"""Entry points of further targets: ``name = "module:Class"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a target may need beside its own options: whose models, and where these are kept.

    Connections are ids; they are looked up when they are used.
    """

    pipeline: str
    artifacts_uri: str
    mlflow_conn_id: str = "mlflow_default"
    storage_conn_id: str | None = None


def open_target(serving: Mapping[str, Any], around: Surroundings) -> ServingTarget:
    """The target that ``serving`` describes: ``{target, conn_id, …}``, the rest being its own options.

    A target's class takes ``conn_id``, ``around`` and its options by keyword, and does nothing before its
    first use.

    :raises ConfigError: there is no such target, or it has no such option.
    """
    options = dict(serving)
    name = str(options.pop("target", "local"))
    try:
        target: ServingTarget = _class(name)(conn_id=options.pop("conn_id", None), around=around, **options)
    except TypeError as error:
        raise ConfigError(
            f"the serving target {name!r} does not take these options",
            where=around.pipeline,
            found=", ".join(sorted(options)) or "none",
            allowed=str(error),
        ) from error
    return target


def _class(name: str) -> Any:
    if name in TARGETS:
        return resolve_name(TARGETS[name])
    for each in entry_points(group=GROUP, name=name):
        return each.load()
    known = sorted({*TARGETS, *(each.name for each in entry_points(group=GROUP))})
    raise ConfigError("no such serving target", found=repr(name), allowed=", ".join(known))
