"""What changes between two plans, down to the single argument."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mlretrain import wire
from mlretrain_factory.plan.model import Plan


def diff(old: Plan, new: Plan) -> list[str]:
    """One line for each difference: ``+`` added, ``-`` removed, ``~`` changed."""
    before, after = dict(_facts(old)), dict(_facts(new))
    return [
        _line(name, before, after) for name in _ordered(before, after) if before.get(name) != after.get(name)
    ]


def _line(name: str, before: dict[str, str], after: dict[str, str]) -> str:
    if name not in before:
        return f"+ {name}: {after[name]}"
    if name not in after:
        return f"- {name}: {before[name]}"
    return f"~ {name}: {before[name]} → {after[name]}"


def _ordered(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [*before, *(name for name in after if name not in before)]


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    for dag in plan.dags:
        data = wire.to_wire(dag)
        tasks = data.pop("tasks")
        yield from _flatten(data, dag.dag_id)
        for task in tasks:
            yield from _flatten(task, f"{dag.dag_id}/{task.pop('task_id')}")


def _flatten(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _flatten(value[key], f"{name}.{key}")
    elif isinstance(value, list) and value:
        for i, each in enumerate(value):
            yield from _flatten(each, f"{name}[{i}]")
    else:
        yield name, json.dumps(value, ensure_ascii=False)
