"""How the jobs of a pipeline run: what all share, and what one step has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.options import plain, written
from mlretrain_factory.spec.resources import (
    DEFAULT_CLASS,
    ResourceClassSpec,
    ResourcesSpec,
    TrainingResourcesSpec,
)


def shared_by_jobs(source: PipelineSource) -> dict[str, Any]:
    """Arguments of every step's operator: the backend, its options, the image, how it is waited for."""
    stack = source.stack
    options, image = _backend(source, ResourceClassSpec())
    return {
        "backend": stack.backend,
        **_unless_empty("backend_options", options),
        **rules.optional("image", image),
        **rules.optional("deferrable", stack.deferrable),
        **rules.optional("poll_s", stack.poll and stack.poll.total_seconds()),
    }


def job(source: PipelineSource, asked: ResourcesSpec | None) -> dict[str, Any]:
    """Arguments of one step's operator: what it may use, and where its class differs from the stack."""
    name = asked.name if asked and asked.name else DEFAULT_CLASS
    chosen = source.stack.resources.get(name, ResourceClassSpec())
    options, image = _backend(source, chosen)
    shared_options, shared_image = _backend(source, ResourceClassSpec())
    return {
        **_unless_empty("job_resources", _quantities(chosen, asked)),
        **({"backend_options": options} if options != shared_options else {}),
        **({"image": image} if image != shared_image else {}),
    }


def training_job(source: PipelineSource, asked: TrainingResourcesSpec | None) -> dict[str, Any]:
    """The same for a training: its own packages and image, and its nodes."""
    return {
        **evaluation_job(source, asked),
        **({"nodes": asked.nodes} if asked and asked.nodes > 1 else {}),
    }


def evaluation_job(source: PipelineSource, asked: ResourcesSpec | None) -> dict[str, Any]:
    """The same for a step that loads what a training made: in the training's packages and image."""
    environment = source.spec.train.environment
    if environment is None:
        return job(source, asked)
    image = environment.image if source.stack.backend != "local" else None
    return {
        **job(source, asked),
        **rules.optional("image", image),
        **_unless_empty("requirements", list(environment.requirements)),
    }


def _quantities(chosen: ResourceClassSpec, asked: ResourcesSpec | None) -> dict[str, Any]:
    """Cores, bytes and accelerators; what the step itself asks for wins over its class."""
    return {
        name: value
        for section in (chosen, asked)
        for name in ("cpu", "memory", "gpu")
        if (value := getattr(section, name, None)) is not None
    }


def _backend(source: PipelineSource, chosen: ResourceClassSpec) -> tuple[dict[str, Any], str | None]:
    """The backend's options and the image of the jobs of a resource class."""
    stack = source.stack
    if stack.section is None:
        return laid_over(stack.options, chosen.options), _image(source, None)
    own = getattr(chosen, stack.backend)
    options = laid_over(written(stack.section), written(own) if own else {})
    image = options.pop("image", None)
    return plain(options), _image(source, image)


def _image(source: PipelineSource, own: str | None) -> str | None:
    environment = source.spec.train.environment
    if source.stack.backend == "local":
        return None
    return own or source.stack.image or (environment.image if environment else None)


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on ``base``: mappings key by key, everything else as a whole."""
    both = {
        key: laid_over(base[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **over, **both}


def _unless_empty(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}
