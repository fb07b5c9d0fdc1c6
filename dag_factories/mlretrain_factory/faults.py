"""Nodes to specs: pydantic's findings, each at its line and in words that help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, Tag, ValidationError

from mlretrain_factory.errors import Position, SpecError, SpecErrors, nearest
from mlretrain_factory.source_map import Node

Spec = TypeVar("Spec", bound=BaseModel)

_TYPES = {
    "string_type": ("not text", "Write text, in quotes if it looks like a number."),
    "int_type": ("not a whole number", "Write a number such as `3`."),
    "int_from_float": ("not a whole number", "Write a number such as `3`."),
    "float_type": ("not a number", "Write a number such as `0.3`."),
    "bool_type": ("not true or false", "Write `true` or `false`."),
    "tuple_type": ("not a list", "Write `[first, second]`, or lines that start with a dash."),
    "dict_type": ("not a mapping", "Write `{key: value}`, or indented keys."),
    "model_type": ("not a mapping", "Write `{key: value}`, or indented keys."),
    "too_short": ("an empty list", "Add an item."),
    "string_too_short": ("an empty text", "Write something."),
}
_RANGES = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def validate(model: type[Spec], node: Node) -> Spec:
    """The spec that ``node`` describes. Raises :class:`SpecErrors` with everything that is wrong in it."""
    try:
        return model.model_validate_json(json.dumps(node.data))
    except ValidationError as problem:
        findings = problem.errors(include_url=False, include_input=False)
        raise SpecErrors(
            _translate(model, node, dict(each)) for each in findings if not _is_echo(node, dict(each))
        ) from None


def _is_echo(root: Node, finding: dict[str, Any]) -> bool:
    """Whether pydantic calls a list too short only because of the faulty items that it left out."""
    node, _ = _descend(root, finding["loc"])
    return finding["type"] == "too_short" and bool(node.value)


def _translate(model: type[BaseModel], root: Node, finding: dict[str, Any]) -> SpecError:
    context = finding.get("ctx", {})
    node, path = _descend(root, (*finding["loc"], *context.get("at", ())))
    kind = str(finding["type"])
    name = str(finding["loc"][-1]) if finding["loc"] else ""
    if kind == "missing":
        return SpecError(
            position=node.key or node.position,
            path=dotted((*path, name)),
            message=f"`{name}` is missing",
            remedy=_how_to_add(model, finding["loc"]),
        )
    if kind == "extra_forbidden":
        known = _known_keys(model, finding["loc"][:-1])
        return SpecError(
            position=node.key or node.position,
            path=dotted(path),
            message=f"unknown key `{name}`",
            allowed=", ".join(known),
            remedy=nearest(name, known, "Remove it."),
        )
    message, remedy, found, allowed = _words(kind, finding, context, node)
    return SpecError(
        position=_place(node),
        path=dotted(path),
        message=message,
        remedy=remedy,
        found=f"'{node.raw}'" if node.raw and not context.get("secret") else found,
        allowed=allowed,
    )


def _words(
    kind: str, finding: dict[str, Any], context: dict[str, Any], node: Node
) -> tuple[str, str, str | None, str | None]:
    if kind == "fault":
        return context["message"], context["remedy"], context["found"], context["allowed"]
    found = show(node)
    if kind == "literal_error":
        allowed = str(context["expected"]).replace(" or ", ", ").replace("'", "")
        remedy = nearest(str(node.value), allowed.split(", "), "Choose one of these.")
        return "not a known value", remedy, found, allowed
    if kind in _RANGES:
        limit, words = _RANGES[kind]
        return "out of range", "Correct the number.", found, f"{words} {context[limit]}"
    message, remedy = _TYPES.get(kind, (str(finding["msg"]), "Correct the value."))
    return message, remedy, found, None


def fault_at(
    root: Node,
    path: tuple[str | int, ...],
    message: str,
    remedy: str,
    *,
    key: str | None = None,
    found: str | None = None,
    allowed: str | None = None,
) -> SpecError:
    """A fault at ``path``, or at the nearest key above it that is written.

    :param key: the path of a key that is missing; none: ``path``.
    """
    written = (root.get(*path[:depth]) for depth in range(len(path), 0, -1))
    node = next((each for each in written if each), root)
    is_container = isinstance(node.value, (dict, list))
    return SpecError(
        position=(node.key or Position(node.position.file)) if is_container else node.position,
        path=key or dotted(path),
        message=message,
        remedy=remedy,
        found=f"'{node.raw}'" if node.raw else found,
        allowed=allowed,
    )


def show(node: Node) -> str:
    """A value for a message: short, and never the value of an environment variable."""
    if node.raw is not None:
        return f"'{node.raw}'"
    if isinstance(node.value, (dict, list)):
        return "a mapping" if isinstance(node.value, dict) else "a list"
    if isinstance(node.value, str):
        return f"'{node.value[:60]}…'" if len(node.value) > 60 else f"'{node.value}'"
    return json.dumps(node.value)


def _descend(root: Node, steps: tuple[str | int, ...]) -> tuple[Node, tuple[str | int, ...]]:
    node, path = root, []
    for step in steps:
        child = node.get(step)
        if child is not None:
            node = child
            path.append(step)
    return node, tuple(path)


def _place(node: Node) -> Position:
    is_container = isinstance(node.value, (dict, list))
    return node.key if is_container and node.key else node.position


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as it is shown: ``promote.gates[0].min``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    section = _section(model, path)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _how_to_add(model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    section = _section(model, path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    return f"Add `{path[-1]}: …`{f': {field.description}' if field and field.description else '.'}"


def _section(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The section at ``path``, in which pydantic names the member of a union by its tag."""
    annotation: Any = model
    for step in path:
        if (section := next(_models(annotation), None)) is None or isinstance(step, int):
            continue
        by_key = {field.alias or name: field for name, field in section.model_fields.items()}
        if (member := _tagged(annotation, step)) is not None:
            annotation = member
        elif step in by_key:
            annotation = by_key[step].annotation
    return next(_models(annotation), None)


def _tagged(annotation: Any, tag: str) -> Any:
    """The member of a union that has ``tag``."""
    if any(isinstance(each, Tag) and each.tag == tag for each in getattr(annotation, "__metadata__", ())):
        return annotation
    found = (_tagged(each, tag) for each in getattr(annotation, "__args__", ()))
    return next((each for each in found if each is not None), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
