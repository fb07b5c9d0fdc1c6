"""What a file inherits: ``defaults.yaml`` up the folder tree, ``extends:``, and ``stacks/<name>.yaml``."""

from __future__ import annotations

import os
from pathlib import Path

from mlretrain_factory.errors import SpecError, SpecErrors, nearest
from mlretrain_factory.source_map import Node, read_source

DEFAULTS = "defaults.yaml"
STACKS = "stacks"
_PROJECT_MARKS = (".git", "pyproject.toml", "airflow.cfg")


def inherited(path: Path, root: Path | None) -> Node:
    """The pipeline's mapping over its bases; the nearer file wins, lists are replaced as a whole."""
    merged = _with_bases(path, root, ())
    for folder in search_path(path.parent, root):
        if (folder / DEFAULTS).is_file():
            merged = merge(_with_bases(folder / DEFAULTS, root, ()), merged)
    return merged


def search_path(folder: Path, root: Path | None) -> list[Path]:
    """``folder`` and its parents, nearest first, up to ``root``; without one, up to the project's folder."""
    folders = []
    for each in (folder, *folder.parents):
        folders.append(each)
        if each == root if root else any((each / mark).exists() for mark in _PROJECT_MARKS):
            break
    return folders


def merge(base: Node, override: Node) -> Node:
    """``override`` over ``base``: mappings key by key, everything else as a whole."""
    if not (isinstance(base.value, dict) and isinstance(override.value, dict)):
        return override
    merged = dict(base.value)
    for key, node in override.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return override._replace(value=merged)


def find_stack(name: Node, path: Path, root: Path | None) -> Path:
    """The nearest ``stacks/<name>.yaml``. Raises :class:`SpecErrors` with the names there are."""
    folders = search_path(path.parent, root)
    for folder in folders:
        stack = folder / STACKS / f"{name.value}.yaml"
        if stack.is_file():
            return stack
    known = sorted({each.stem for folder in folders for each in (folder / STACKS).glob("*.yaml")})
    raise _fault(
        name,
        "stack",
        "there is no such stack",
        nearest(str(name.value), known, f"Create `stacks/{name.value}.yaml`."),
        found=f"'{name.value}'",
        allowed=", ".join(known) or None,
    )


def _with_bases(path: Path, root: Path | None, chain: tuple[Path, ...]) -> Node:
    node = read_source(path)
    extends = node.get("extends")
    if extends is None or not isinstance(extends.value, str):
        return node
    limit = search_path(path.parent, root)[-1]
    base = Path(os.path.normpath(path.parent / extends.value))
    found = f"'{extends.value}'"
    if not base.is_relative_to(limit):
        raise _fault(extends, "extends", "outside of the DAGs folder", "Move the file inside.", found=found)
    if base in (*chain, path):
        cycle = " → ".join(each.name for each in (*chain, path, base))
        raise _fault(extends, "extends", "files extend each other in a circle", "Break it.", found=cycle)
    if not base.is_file():
        raise _fault(extends, "extends", "there is no such file", "Correct the path.", found=found)
    return merge(_with_bases(base, root, (*chain, path)), node)


def _fault(node: Node, path: str, message: str, remedy: str, **details: str | None) -> SpecErrors:
    return SpecErrors(
        [SpecError(position=node.position, path=path, message=message, remedy=remedy, **details)]
    )
