"""Files to specs: read, inherit, substitute, validate; one broken file never hides another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlretrain.governance import Policy
from mlretrain_factory.agreement import check_agreement
from mlretrain_factory.errors import Position, SpecError, SpecErrors
from mlretrain_factory.faults import validate
from mlretrain_factory.inheritance import inherited, merge
from mlretrain_factory.placement import find_placement
from mlretrain_factory.policies import policies_of
from mlretrain_factory.source_map import Node
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.stack import StackSpec
from mlretrain_factory.substitution import Substitution
from mlretrain_factory.suite import read_suite

SUFFIXES = (".pipeline.yaml", ".pipeline.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSource:
    """A pipeline as written: what, where, the suite file's content, and the platform's policies on it."""

    path: Path
    spec: PipelineSpec
    stack: StackSpec
    suite: Mapping[str, Any] | None = None
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What a folder holds: good pipelines by path, and one report for each broken file."""

    sources: tuple[PipelineSource, ...]
    errors: Mapping[Path, SpecErrors]


def load_folder(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    files: Sequence[Path] | None = None,
    root: Path | None = None,
) -> LoadResult:
    """Every ``*.pipeline.yaml`` below ``folder``, in the order of their paths; or only ``files`` of it.

    :param root: the highest folder that is searched for defaults, stacks and policies; none: ``folder``.
    """
    sources: dict[str, PipelineSource] = {}
    errors: dict[Path, SpecErrors] = {}
    for path in pipeline_files(folder) if files is None else files:
        try:
            source = load_source(path, environ, root or folder)
            _refuse_second(source, sources)
        except SpecErrors as problem:
            errors[path] = problem
        else:
            sources[source.spec.pipeline] = source
    return LoadResult(sources=tuple(sources.values()), errors=errors)


def pipeline_files(folder: Path, name: str = "*") -> list[Path]:
    """The pipeline files below ``folder``, sorted; hidden folders are left out."""
    found = [path for suffix in SUFFIXES for path in folder.rglob(f"{name}{suffix}")]
    return sorted(
        path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)
    )


def pipeline_name(path: Path) -> str:
    """The name that the file's name gives its pipeline; the whole path if it has another suffix."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.as_posix()


def load_source(
    path: Path,
    environ: Mapping[str, str] | None = None,
    root: Path | None = None,
    changes: Node | None = None,
) -> PipelineSource:
    """The pipeline in the file ``path``. Raises :class:`SpecErrors` with everything that is wrong with it.

    :param environ: the environment that allow-listed ``${env.NAME}`` read, and that may name a folder of
        policies; none: the process's.
    :param root: the highest folder that is searched for defaults, stacks and policies.
    :param changes: a mapping that goes over what is written.
    """
    written = inherited(path, root)
    if changes is not None:
        written = merge(written, changes)
    environ = os.environ if environ is None else environ
    placement, errors = find_placement(written, path, environ, root)
    substitution = placement.substitution if placement else None
    resolved = substitution.apply(written) if substitution else written
    stack_node = placement.as_written() if placement else None
    errors += substitution.errors if substitution else []
    spec: PipelineSpec | None = _collect(errors, PipelineSpec, resolved, substitution)
    stack: StackSpec | None = _collect(errors, StackSpec, stack_node, substitution) if stack_node else None
    if placement and placement.team and stack_node and stack:
        stack_node = placement.effective(stack_node)
        stack = _collect(errors, StackSpec, stack_node, substitution)
    if spec is None:
        raise SpecErrors(dict.fromkeys(errors))
    errors += _check_name(spec, resolved, path)
    suite = _read_suite(resolved, errors)
    policies, unmet = policies_of(spec, resolved, path, root, environ)
    errors += unmet
    if stack is not None and stack_node is not None:
        errors += check_agreement(spec, stack, resolved, stack_node)
    if errors or stack is None:
        raise SpecErrors(dict.fromkeys(errors))
    return PipelineSource(path=path, spec=spec, stack=stack, suite=suite, policies=policies)


def _collect(errors: list[SpecError], model: type[Any], node: Node, substitution: Substitution | None) -> Any:
    """The validated model. A value whose reference could not be replaced is no further fault."""
    try:
        return validate(model, node)
    except SpecErrors as problem:
        known = {error.position for error in errors} | (substitution.unresolved if substitution else set())
        errors += [
            error
            for error in problem.errors
            if error.position not in known and not (substitution is None and "${" in (error.found or ""))
        ]
        return None


def _check_name(spec: PipelineSpec, node: Node, path: Path) -> list[SpecError]:
    name = node.get("pipeline")
    expected = pipeline_name(path)
    if not path.name.endswith(SUFFIXES) or spec.pipeline == expected:
        return []
    fault = SpecError(
        position=name.position if name else Position(str(path)),
        path="pipeline",
        message="the pipeline is not named like its file",
        found=f"'{spec.pipeline}'",
        allowed=f"'{expected}'",
        remedy=f"Rename the file to `{spec.pipeline}{SUFFIXES[0]}`, or the pipeline.",
    )
    return [fault]


def _refuse_second(source: PipelineSource, sources: Mapping[str, PipelineSource]) -> None:
    first = sources.get(source.spec.pipeline)
    if first is not None:
        raise SpecErrors(
            [
                SpecError(
                    position=Position(str(source.path)),
                    path="pipeline",
                    message=f"a second pipeline named `{source.spec.pipeline}`",
                    found=f"the first in {first.path}",
                    remedy="Rename one.",
                )
            ]
        )


def _read_suite(node: Node, errors: list[SpecError]) -> Mapping[str, Any] | None:
    written = node.get("validate", "suite")
    if written is None or written.value is None:
        return None
    try:
        return read_suite(written)
    except SpecErrors as problem:
        errors += problem.errors
        return None
