"""Checks of files before anything runs: pipelines, and stacks and policies on their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlretrain_factory.errors import SpecError, SpecErrors
from mlretrain_factory.inheritance import STACKS, search_path
from mlretrain_factory.loader import load_folder, load_source
from mlretrain_factory.placement import check_stack
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.policies import FOLDER, policy_files, read_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How many files of each kind were looked at, and what is wrong with those that are broken."""

    pipelines: int = 0
    stacks: int = 0
    policies: int = 0
    problems: tuple[SpecErrors, ...] = ()

    @property
    def broken(self) -> int:
        """How many files have faults."""
        return len(self.problems)

    @property
    def faults(self) -> list[SpecError]:
        """Each once, though every pipeline of a stack or under a policy has its faults."""
        return list(dict.fromkeys(fault for problem in self.problems for fault in problem.errors))

    def __str__(self) -> str:
        others = {"stacks": self.stacks, "policies": self.policies}
        counts = [f"{kind}: {count}" for kind, count in others.items() if count]
        return ", ".join([f"pipelines: {self.pipelines}", *counts, f"broken: {self.broken}"])


def lint(paths: Iterable[Path]) -> Checked:
    """What is wrong with files, or with those in folders."""
    return _sum([_folder(path.absolute()) if path.is_dir() else _file(path.absolute()) for path in paths])


def _folder(folder: Path) -> Checked:
    # A part of a project is under the policies of the whole.
    result = load_folder(folder, root=search_path(folder, None)[-1])
    for source in result.sources:
        build_plan(source)
    pipelines = Checked(
        pipelines=len(result.sources) + len(result.errors), problems=tuple(result.errors.values())
    )
    return _sum([pipelines, *(_file(path) for path in _of_the_platform(folder))])


def _of_the_platform(folder: Path) -> Iterator[Path]:
    """Stacks and policies below ``folder``, or in it if it is itself a folder of them."""
    own = [folder] if folder.name in (STACKS, FOLDER) else []
    for each in sorted({*own, *folder.rglob(STACKS), *folder.rglob(FOLDER)}):
        if each.is_dir() and not any(part[0] == "." for part in each.relative_to(folder).parts):
            yield from policy_files(each)


def _file(path: Path) -> Checked:
    try:
        match path.parent.name:
            case "stacks":
                counted = Checked(stacks=1)
                check_stack(path, os.environ)
            case "policies":
                counted = Checked(policies=1)
                read_policy(path)
            case _:
                counted = Checked(pipelines=1)
                build_plan(load_source(path))
    except SpecErrors as problem:
        return replace(counted, problems=(problem,))
    return counted


def _sum(parts: Sequence[Checked]) -> Checked:
    return Checked(
        pipelines=sum(part.pipelines for part in parts),
        stacks=sum(part.stacks for part in parts),
        policies=sum(part.policies for part in parts),
        problems=tuple(problem for part in parts for problem in part.problems),
    )
