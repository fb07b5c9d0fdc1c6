"""Where a pipeline runs: its stack's file, with what its team has of its own laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlretrain_factory.errors import SpecError, SpecErrors, nearest
from mlretrain_factory.inheritance import find_stack, merge
from mlretrain_factory.source_map import Node, read_source
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
    team, errors = _team(pipeline, stack, f"stacks/{file.name}")
    allowed = stack.get("env")
    substitution = Substitution(
        [_variables(pipeline), _variables(_without_teams(stack, team))],
        allowed=[each for each in allowed.data if isinstance(each, str)]
        if allowed and isinstance(allowed.value, list)
        else [],
        environ=environ,
        stack_file=f"stacks/{file.name}",
    )
    written = _only_team(stack, team)
    return Placement(written=written, substitution=substitution, team=team), errors


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
    shared = stack._replace(value={key: node for key, node in stack.value.items() if key != "teams"})
    return merge(shared, own) if own and isinstance(own.value, dict) else shared


def _variables(node: Node) -> Mapping[str, Node]:
    found = node.get("vars")
    return found.value if found and isinstance(found.value, dict) else {}
