"""Where a pipeline runs: its stack's file, with what its team has of its own laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlretrain_factory.errors import SpecError, SpecErrors, nearest
from mlretrain_factory.faults import validate
from mlretrain_factory.inheritance import STACKS, find_stack, merge
from mlretrain_factory.source_map import Node, read_source
from mlretrain_factory.spec.stack import StackSpec
from mlretrain_factory.substitution import Substitution


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The stack of a pipeline as written.

    :param written: the file's mapping; of its teams only the pipeline's, for the others' faults are theirs.
    :param team: the pipeline's team, if it has one.
    """

    written: Node
    substitution: Substitution
    team: str | None = None

    def as_written(self) -> Node:
        """The stack with its references replaced; faults are in ``substitution.errors``."""
        return self.substitution.apply(self.written)

    def effective(self, resolved: Node) -> Node:
        """``resolved`` (what :meth:`as_written` returned) with the team's part laid over it."""
        return _without_teams(resolved, self.team)


def find_placement(
    pipeline: Node, path: Path, environ: Mapping[str, str], root: Path | None
) -> tuple[Placement | None, list[SpecError]]:
    """The stack that ``pipeline`` names, and what is wrong with how it names it.

    :param environ: what allow-listed ``${env.NAME}`` read.
    """
    name = pipeline.get("stack")
    if name is None or not isinstance(name.value, str):
        return None, []
    try:
        file = find_stack(name, path, root)
        stack = read_source(file)
    except SpecErrors as problem:
        return None, list(problem.errors)
    team, errors = _team(pipeline, stack, f"{STACKS}/{file.name}")
    substitution = _substitution(file, stack, [_variables(pipeline)], team, environ)
    written = _only_team(stack, team)
    return Placement(written=written, substitution=substitution, team=team), errors


def check_stack(path: Path, environ: Mapping[str, str]) -> None:
    """Check a stack without any pipeline. Raises :class:`SpecErrors` with everything that is wrong with it.

    What a reference stands for may be a pipeline's business, or another machine's: one that cannot be
    replaced here is no fault.
    """
    stack = read_source(path)
    teams = stack.get("teams")
    faults = []
    for team in (None, *(teams.value if teams and isinstance(teams.value, dict) else ())):
        substitution = _substitution(path, stack, [], team, environ)
        for node in (_only_team(stack, team), _without_teams(stack, team)):
            try:
                validate(StackSpec, substitution.apply(node))
            except SpecErrors as problem:
                faults += [each for each in problem.errors if each.position not in substitution.unresolved]
    if faults:
        raise SpecErrors({(each.position, each.message): each for each in reversed(faults)}.values())


def _substitution(
    file: Path, stack: Node, layers: list[Mapping[str, Node]], team: str | None, environ: Mapping[str, str]
) -> Substitution:
    allowed = stack.get("env")
    return Substitution(
        [*layers, _variables(_without_teams(stack, team))],
        allowed=[each for each in allowed.data if isinstance(each, str)]
        if allowed and isinstance(allowed.value, list)
        else [],
        environ=environ,
        stack_file=f"{STACKS}/{file.name}",
    )


def _team(pipeline: Node, stack: Node, file: str) -> tuple[str | None, list[SpecError]]:
    team, teams = pipeline.get("team"), stack.get("teams")
    if team is None or not isinstance(team.value, str):
        return None, []
    known = sorted(teams.value) if teams and isinstance(teams.value, dict) else []
    if team.value in known:
        return team.value, []
    fault = SpecError(
        position=team.position,
        path="team",
        message=f"{file} knows no such team",
        found=f"'{team.value}'",
        allowed=", ".join(known) or None,
        remedy=nearest(team.value, known, "Add it to `teams:` there."),
    )
    return None, [fault]


def _only_team(stack: Node, team: str | None) -> Node:
    teams = stack.get("teams")
    if teams is None or not isinstance(teams.value, dict):
        return stack
    own = {name: node for name, node in teams.value.items() if name == team}
    return stack._replace(value={**stack.value, "teams": teams._replace(value=own)})


def _without_teams(stack: Node, team: str | None) -> Node:
    own = stack.get("teams", team) if team else None
    replaced = {"teams", "serving"} if own and own.get("serving", "target") else {"teams"}
    shared = stack._replace(value={key: node for key, node in stack.value.items() if key not in replaced})
    return merge(shared, own) if own and isinstance(own.value, dict) else shared


def _variables(node: Node) -> Mapping[str, Node]:
    found = node.get("vars")
    return found.value if found and isinstance(found.value, dict) else {}
