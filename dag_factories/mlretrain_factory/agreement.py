"""What a pipeline asks for, and whether its stack has it."""

from __future__ import annotations

from collections.abc import Iterator

from mlretrain_factory.errors import SpecError, nearest
from mlretrain_factory.faults import fault_at
from mlretrain_factory.source_map import Node
from mlretrain_factory.spec.backend import OURS, KubernetesSpec, SagemakerSpec
from mlretrain_factory.spec.guard import COMPARED
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.resources import DEFAULT_CLASS, ResourceClassSpec, ResourcesSpec
from mlretrain_factory.spec.serving import (
    BatchServingSpec,
    ClusterServingSpec,
    KserveServingSpec,
    KubernetesServingSpec,
    LocalServingSpec,
    OtherServingSpec,
    ServingSpec,
)
from mlretrain_factory.spec.stack import StackSpec

_ON_THE_NETWORK = "Write `s3://…`"


def check_agreement(spec: PipelineSpec, stack: StackSpec, pipeline: Node, place: Node) -> Iterator[SpecError]:
    """Every point in which pipeline and stack do not fit.

    :param pipeline: the pipeline as written, for positions.
    :param place: the stack as written, with its team's part.
    """
    yield from _check_serving(spec, stack, pipeline, place)
    yield from _check_classes(spec, stack, pipeline)
    match stack.section:
        case KubernetesSpec() as section:
            yield from _check_image(spec, stack, section.image, place)
            if not section.volumes:
                remedy = f"{_ON_THE_NETWORK}, or give `kubernetes.volumes` that hold the folder."
                yield from _check_places(spec, stack, pipeline, place, remedy)
        case SagemakerSpec() as section:
            yield from _check_image(spec, stack, section.image, place)
            yield from _check_places(spec, stack, pipeline, place, f"{_ON_THE_NETWORK}.")
            yield from _check_sagemaker(spec, stack, section, place)
    if stack.options and stack.backend in OURS:
        yield fault_at(
            place,
            ("options",),
            "`options` are for a third party's backend",
            f"Write them below `{stack.backend}:`.",
        )


def _check_serving(spec: PipelineSpec, stack: StackSpec, pipeline: Node, place: Node) -> Iterator[SpecError]:
    if spec.deploy.strategy == "none":
        return
    if stack.serving is None:
        yield fault_at(
            pipeline,
            ("deploy", "strategy"),
            f"the stack `{spec.stack}` serves nothing",
            f"Add `serving: {{target: local, conn_id: …}}` to stacks/{spec.stack}.yaml.",
            found=f"'{spec.deploy.strategy}'",
            allowed="none",
        )
    elif isinstance(stack.serving, ClusterServingSpec) and not (stack.image or stack.serving.image):
        message = f"models served on `{stack.serving.target}` need an image"
        yield fault_at(place, ("serving", "target"), message, "Add `image: …`, here or to the stack.")
    else:
        yield from _check_mirroring(spec, stack.serving, pipeline)


def _check_mirroring(spec: PipelineSpec, serving: ServingSpec, pipeline: Node) -> Iterator[SpecError]:
    """Copies of requests, and who compares their answers."""
    if spec.deploy.strategy != "shadow" or isinstance(serving, OtherServingSpec):
        return
    if isinstance(serving, KserveServingSpec):
        yield fault_at(
            pipeline,
            ("deploy", "strategy"),
            "`kserve` copies no requests",
            "Choose another strategy, or `target: kubernetes` with a gateway.",
            found="'shadow'",
        )
    elif isinstance(serving, KubernetesServingSpec) and serving.gateway is None:
        yield fault_at(
            pipeline,
            ("deploy", "strategy"),
            "without a gateway nobody copies requests on `kubernetes`",
            f"Add `gateway: …` to `serving` in stacks/{spec.stack}.yaml, or choose another strategy.",
            found="'shadow'",
        )
    elif not isinstance(serving, (LocalServingSpec, BatchServingSpec)):
        yield from _check_comparison(spec, serving, pipeline)


def _check_comparison(spec: PipelineSpec, serving: ServingSpec, pipeline: Node) -> Iterator[SpecError]:
    for i, guard in enumerate(spec.deploy.guards):
        if guard.metric in COMPARED:
            yield fault_at(
                pipeline,
                ("deploy", "guards", i, "metric"),
                f"nobody compares the answers to mirrored requests on `{serving.target}`",
                "Use `prediction_shift`, which reads the prediction log.",
                found=f"'{guard.metric}'",
            )


def _check_classes(spec: PipelineSpec, stack: StackSpec, pipeline: Node) -> Iterator[SpecError]:
    known = {DEFAULT_CLASS, *stack.resources}
    for section, resources in _asked(spec).items():
        if resources is None or resources.name is None or resources.name in known:
            continue
        written = pipeline.get(section, "resources")
        inline = ("class",) if written and isinstance(written.value, dict) else ()
        yield fault_at(
            pipeline,
            (section, "resources", *inline),
            f"stacks/{spec.stack}.yaml has no such resource class",
            nearest(resources.name, known, "Add it to `resources:` there."),
            found=f"'{resources.name}'",
            allowed=", ".join(sorted(known)),
        )


def _asked(spec: PipelineSpec) -> dict[str, ResourcesSpec | None]:
    """What each section with a job asks for."""
    validation = {"validate": spec.validation.resources} if spec.validation else {}
    monitor = {"monitor": spec.monitor.resources} if spec.monitor else {}
    return {"train": spec.train.resources, "evaluate": spec.evaluate.resources, **validation, **monitor}


def _class_of(resources: ResourcesSpec | None) -> str:
    return resources.name if resources and resources.name else DEFAULT_CLASS


def _check_image(spec: PipelineSpec, stack: StackSpec, own: str | None, place: Node) -> Iterator[SpecError]:
    environment = spec.train.environment
    if not (own or stack.image or (environment and environment.image)):
        yield fault_at(
            place,
            ("backend",),
            f"jobs on `{stack.backend}` need an image",
            "Add `image: …`, or `train.environment.image` to the pipeline; `mlretrain image` makes one.",
        )


def _check_places(
    spec: PipelineSpec, stack: StackSpec, pipeline: Node, place: Node, remedy: str
) -> Iterator[SpecError]:
    message = f"a job on `{stack.backend}` cannot read this machine's files"
    places: list[tuple[Node, tuple[str, ...], str]] = [(place, ("artifacts_uri",), stack.artifacts_uri)]
    places.append((pipeline, ("data", "training", "uri"), spec.data.training.uri))
    if spec.monitor and spec.monitor.data.uri:
        places.append((pipeline, ("monitor", "data", "uri"), spec.monitor.data.uri))
    if spec.monitor and spec.monitor.performance:
        labels = ("monitor", "performance", "labels", "uri")
        places.append((pipeline, labels, spec.monitor.performance.labels.uri))
    for node, path, uri in places:
        if uri.startswith("file://"):
            yield fault_at(node, path, message, remedy, found=f"'{uri}'", allowed="s3://…")


def _check_sagemaker(
    spec: PipelineSpec, stack: StackSpec, section: SagemakerSpec, place: Node
) -> Iterator[SpecError]:
    if section.role_arn is None:
        remedy = "Add `sagemaker: {role_arn: …}`: the IAM role of the jobs."
        at = "sagemaker" if place.get("sagemaker") else "backend"
        yield fault_at(place, (at,), "SageMaker needs a role", remedy, key="sagemaker.role_arn")
    if bool(section.subnets) != bool(section.security_group_ids):
        given, other = ("subnets", "security_group_ids")[:: 1 if section.subnets else -1]
        yield fault_at(place, ("sagemaker", given), f"`{given}` need `{other}`", f"Add `{other}`.")
    if section.network_isolation:
        remedy = "Remove it; set `subnets` and `security_group_ids` of a VPC whose only way out is to S3."
        message = "an isolated job cannot reach S3, where its request is"
        yield fault_at(place, ("sagemaker", "network_isolation"), message, remedy)
    for step, resources in _asked(spec).items():
        chosen = stack.resources.get(_class_of(resources), ResourceClassSpec())
        if not (section.instance_type or (chosen.sagemaker and chosen.sagemaker.instance_type)):
            at = "sagemaker" if place.get("sagemaker") else "backend"
            remedy = "Add `instance_type: ml.m5.xlarge`, here or in a resource class."
            message = f"SageMaker needs an instance type for `{step}`"
            yield fault_at(place, (at,), message, remedy, key="sagemaker.instance_type")
            return
