"""The platform's policies: ``policies/*.yaml`` up the folder tree, and what a pipeline lacks of them.

Every policy in reach holds: one in a nearer folder adds to those above it, and replaces none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlretrain import wire
from mlretrain.governance import Approval, Policy, Terms, applying, violations
from mlretrain_factory.errors import Position, SpecError, SpecErrors
from mlretrain_factory.faults import dotted, fault_at, validate
from mlretrain_factory.inheritance import search_path
from mlretrain_factory.source_map import Node, read_source
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.policy import PolicySpec

FOLDER = "policies"
VARIABLE = "AIRFLOW__MLRETRAIN__POLICIES"
"""The environment variable that names a further folder: Airflow's option ``[mlretrain] policies``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A policy, and where it is written."""

    path: Path
    policy: Policy


def policies_of(
    spec: PipelineSpec, written: Node, path: Path, root: Path | None, environ: Mapping[str, str]
) -> tuple[tuple[Policy, ...], list[SpecError]]:
    """The policies that apply to a pipeline, and everything in which it does not meet them.

    A policy that cannot be read is a fault of every pipeline in its reach: nobody knows what it demands.

    :param written: the pipeline as written, for positions.
    """
    applied, errors = list[Policy](), list[SpecError]()
    tags = spec.dag_tags("retrain")  # a run finds out by them, too
    try:
        files = _in_reach(path, root, environ)
    except SpecErrors as problem:
        return (), list(problem.errors)
    for file in files:
        try:
            found = read_policy(file)
        except SpecErrors as problem:
            errors += problem.errors
            continue
        if applying([found.policy], pipeline=spec.pipeline, tags=tags, owner=spec.owner, tier=spec.tier):
            applied.append(found.policy)
            errors += _unmet(found, spec, written)
    return tuple(applied), errors


def policy_files(folder: Path) -> list[Path]:
    """The policies in ``folder``, sorted."""
    return sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])


def read_policy(path: Path) -> PolicyFile:
    """The policy in a file. Raises :class:`SpecErrors` with everything that is wrong with it."""
    node = read_source(path)
    known = _read_before.get(path)
    if known is None or known[0] is not node:
        known = _read_before[path] = (node, _policy(path, node))
    return known[1]


_read_before: dict[Path, tuple[Node, PolicyFile]] = {}
"""Of each file the last mapping and its policy: every pipeline of a folder asks for the same ones."""


def _policy(path: Path, node: Node) -> PolicyFile:
    spec = validate(PolicySpec, node)
    if spec.policy != path.stem:
        name = node.get("policy")
        fault = SpecError(
            position=name.position if name else node.position,
            path="policy",
            message="the policy is not named like its file",
            found=f"'{spec.policy}'",
            allowed=f"'{path.stem}'",
            remedy=f"Rename the file to `{spec.policy}.yaml`, or the policy.",
        )
        raise SpecErrors([fault])
    said = spec.model_dump(mode="json", exclude_none=True, exclude={"version", "policy"})
    return PolicyFile(path=path, policy=wire.from_wire(Policy, {"name": spec.policy, **said}))


def terms_of(spec: PipelineSpec) -> Terms:
    """On which terms a pipeline promotes."""
    promote, deploy = spec.promote, spec.deploy
    return Terms(
        mode=promote.mode,
        gates=tuple(gate.condition for gate in promote.gates),
        smoke_test=promote.smoke_test,
        approval=Approval(
            required=promote.approval.required,
            assignees=promote.approval.assignees,
            on_timeout=promote.approval.on_timeout,
            reason=promote.approval.reason,
        ),
        strategy=deploy.strategy,
        stages=tuple(stage.traffic for stage in deploy.stages),
        guards=tuple(guard.condition for guard in deploy.guards),
    )


def _in_reach(path: Path, root: Path | None, environ: Mapping[str, str]) -> Sequence[Path]:
    folders = [folder / FOLDER for folder in reversed(search_path(path.parent, root))]
    if environ.get(VARIABLE):
        folders.insert(0, _of_the_platform(Path(environ[VARIABLE]), path))
    return list(dict.fromkeys(file for folder in folders for file in policy_files(folder)))


def _of_the_platform(folder: Path, path: Path) -> Path:
    if folder.is_dir():
        return folder
    fault = SpecError(
        position=Position(str(path)),
        message="the folder of the platform's policies is not there",
        found=f"'{folder}'",
        remedy=f"Correct `[mlretrain] policies` in Airflow's configuration, or `{VARIABLE}`.",
    )
    raise SpecErrors([fault])


def _unmet(file: PolicyFile, spec: PipelineSpec, written: Node) -> Iterator[SpecError]:
    """A fault for each demand, at the line that does not meet it, or at the section that leaves it out."""
    for violation in violations(file.policy, terms_of(spec)):
        section, *_ = violation.path
        yield fault_at(
            written,
            violation.path if written.get(section) else ("promote",),
            f"policy `{violation.policy}` demands {violation.demanded}",
            f"Meet it, or ask who owns {file.path.parent.name}/{file.path.name}.",
            key=dotted(violation.path),
            found=violation.found,
        )
