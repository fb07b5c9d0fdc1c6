"""Where a champion came from, for OpenLineage: data → snapshot → run → model version → deployment.

Each task tells what it read and made from what it was given and what it returned; what one task made and the
next one read has the same name. Nothing here runs unless Airflow's OpenLineage provider is installed and has
a transport.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlretrain_provider.assets import SCHEME
from mlretrain_provider.hooks.mlflow import MLflowHook

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Asset
    from openlineage.client.event_v2 import Dataset

FILE, MODEL, DEPLOYMENT = "FILE", "MODEL", "DEPLOYMENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something that tasks read or make: a dataset, as OpenLineage calls all of them.

    :param version: the content's digest, or the model version.
    :param kind: ``FILE``, ``MODEL`` or ``DEPLOYMENT``.
    :param facts: what else there is to know, plain JSON: the facet ``mlretrain``.
    :param columns: ``{name, type}`` of each.
    """

    namespace: str
    name: str
    version: str | None = None
    kind: str = FILE
    facts: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one task read, and what it made of it."""

    inputs: tuple[Place, ...] = ()
    outputs: tuple[Place, ...] = ()


class Traced:
    """Mixed into operators: OpenLineage asks it what the task has read and made.

    An operator's ``execute`` keeps in ``returned`` what it returns.
    """

    returned: Any = None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """What Airflow's OpenLineage provider asks for; ``None`` if the task has come to no result."""
        trace = trace_of(self, self.returned)
        return told(trace) if trace is not None else None


def trace_of(operator: Any, returned: Any) -> Trace | None:
    """The trace of a task by its operator and its result; ``None`` where there is nothing to tell."""
    names = (each.__name__ for each in type(operator).__mro__)
    of = next((TRACES[name] for name in names if name in TRACES), None)
    return of(operator, returned) if of is not None and isinstance(returned, Mapping) else None


def data(uri: str, version: Any = None, **facts: Any) -> Place:
    """Files, named as Airflow's own providers name them."""
    parts = urlsplit(uri)
    facts = {name: value for name, value in facts.items() if value is not None}
    if parts.scheme in ("", "file"):
        return Place(namespace="file", name=parts.path, version=version, facts=facts)
    name = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return Place(
        namespace=f"{parts.scheme}://{parts.netloc}", name=name.lstrip("/"), version=version, facts=facts
    )


def mlflow_run(operator: Any, run_id: str, **facts: Any) -> Place:
    """The model that a run has trained."""
    return Place(namespace=_mlflow(operator), name=f"runs/{run_id}", version=run_id, kind=MODEL, facts=facts)


def model_version(operator: Any, version: str, **facts: Any) -> Place:
    """A version of the pipeline's registered model."""
    name = f"models/{operator.pipeline}/{version}"
    return Place(namespace=_mlflow(operator), name=name, version=version, kind=MODEL, facts=facts)


def champion(pipeline: str, version: str | None = None) -> Place:
    """What :func:`~mlretrain_provider.assets.champion_asset` stands for."""
    return Place(namespace=f"{SCHEME}://{pipeline}", name="champion", version=version, kind=MODEL)


def deployment(pipeline: str, weights: Mapping[str, int], **facts: Any) -> Place:
    """Who answers the requests, percentages by version."""
    return Place(
        namespace=f"{SCHEME}://{pipeline}",
        name="deployment",
        kind=DEPLOYMENT,
        facts={"weights": dict(weights), **facts},
    )


def _mlflow(operator: Any) -> str:
    parts = urlsplit(MLflowHook(operator.mlflow_conn_id).rest.uri)
    return f"mlflow://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


def _resolved(operator: Any, found: Mapping[str, Any]) -> Trace:
    size = {name: found.get(name) for name in ("rows", "files", "bytes", "start", "end")}
    fingerprint = found["fingerprint"]
    snapshot = data(found["dataset_uri"], fingerprint, **size)
    return Trace(inputs=(data(operator.uri, fingerprint),), outputs=(snapshot,))


def _validated(operator: Any, found: Mapping[str, Any]) -> Trace:
    result = data(found["result_uri"], passed=found.get("passed"))
    return Trace(inputs=(data(found["dataset_uri"]),), outputs=(result,))


def _trained(operator: Any, found: Mapping[str, Any]) -> Trace:
    given = operator.dataset
    uri = given if isinstance(given, str) else str(given["dataset_uri"])
    facts = {"model_uri": found.get("model_uri"), "model_sha256": found.get("model_sha256")}
    return Trace(
        inputs=(data(uri, found.get("dataset_fingerprint")),),
        outputs=(
            mlflow_run(operator, found["mlflow_run_id"], **facts),
            data(found["holdout_uri"], found.get("holdout_sha256")),
        ),
    )


def _evaluated(operator: Any, found: Mapping[str, Any]) -> Trace:
    training, rival = operator.training, found.get("champion_version")
    return Trace(
        inputs=(
            mlflow_run(operator, training["mlflow_run_id"]),
            data(training["holdout_uri"], training.get("holdout_sha256")),
            *((model_version(operator, str(rival)),) if rival else ()),
        ),
        outputs=(data(found["evaluation_uri"], metrics=found.get("metrics")),),
    )


def _registered(operator: Any, found: Mapping[str, Any]) -> Trace:
    evaluation_uri = (operator.evaluation or {}).get("evaluation_uri")
    digest = operator.training.get("model_sha256") if isinstance(operator.training, Mapping) else None
    return Trace(
        inputs=(
            mlflow_run(operator, found["mlflow_run_id"]),
            *((data(evaluation_uri),) if evaluation_uri else ()),
        ),
        outputs=(model_version(operator, str(found["version"]), model_sha256=digest),),
    )


def _gated(operator: Any, found: Mapping[str, Any]) -> Trace:
    verdict = data(found["checks_uri"], verdict=found.get("verdict"), reason=found.get("reason"))
    return Trace(inputs=(data(operator.evaluation["evaluation_uri"]),), outputs=(verdict,))


def _shifted(operator: Any, found: Mapping[str, Any]) -> Trace:
    weights, mirrored = found.get("weights") or {}, found.get("mirrored") or {}
    facts = {"mirrored": dict(mirrored), "strategy": found.get("strategy"), "since": found.get("since")}
    return Trace(
        inputs=tuple(model_version(operator, version) for version in sorted({*weights, *mirrored})),
        outputs=(deployment(operator.pipeline, weights, **facts),),
    )


def _crowned(operator: Any, found: Mapping[str, Any]) -> Trace | None:
    version = found.get("version")
    if not version:
        return None
    served = (deployment(operator.pipeline, {version: 100}),) if operator.serving else ()
    return Trace(
        inputs=(model_version(operator, str(version)),),
        outputs=(champion(operator.pipeline, str(version)), *served),
    )


def _scored(operator: Any, found: Mapping[str, Any]) -> Trace | None:
    if "output_uri" not in found:
        return None
    given = operator.dataset
    uri = given if isinstance(given, str) else str(given["dataset_uri"])
    size = {name: found[name] for name in ("rows", "partitions", "generation", "versions")}
    scores = data(found["output_uri"], found["dataset_fingerprint"], **size)
    return Trace(
        inputs=(
            data(uri, found["dataset_fingerprint"]),
            *(model_version(operator, version) for version in found["versions"]),
        ),
        outputs=(replace(scores, columns=found["schema"]),),
    )


TRACES: Mapping[str, Callable[[Any, Mapping[str, Any]], Trace | None]] = {
    "ResolveDataOperator": _resolved,
    "ValidateDataOperator": _validated,
    "TrainModelOperator": _trained,
    "EvaluateModelOperator": _evaluated,
    "RegisterModelOperator": _registered,
    "PromotionGateOperator": _gated,
    "DeployModelOperator": _shifted,
    "PromoteModelOperator": _crowned,
    "RollBackModelOperator": _crowned,
    "ScoreDataOperator": _scored,
}
"""What is told of each operator, and of those made of it."""


def told(trace: Trace) -> OperatorLineage[Any, Any]:
    """The trace in OpenLineage's words."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[_dataset(place) for place in trace.inputs],
        outputs=[_dataset(place) for place in trace.outputs],
    )


def asset_place(asset: Asset, lineage_context: Any) -> Dataset:
    """A champion's asset as OpenLineage knows it; for Airflow, which asks about inlets and outlets."""
    return _dataset(champion(urlsplit(asset.uri).netloc))


def _dataset(place: Place) -> Dataset:
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.facet_v2 import (
        DatasetFacet,
        dataset_type_dataset,
        dataset_version_dataset,
        schema_dataset,
    )

    facets: dict[str, Any] = {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=place.kind)
    }
    if place.version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(
            datasetVersion=str(place.version)
        )
    if place.columns:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=each["name"], type=each["type"])
            for each in place.columns
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    facts = {name: value for name, value in place.facts.items() if value is not None}
    if facts:
        facets["mlretrain"] = DatasetFacet().with_additional_properties(**facts)
    return Dataset(namespace=place.namespace, name=place.name, facets=facets)
