"""``${name}`` and ``${env.NAME}``: typed values, never code.

A value that is one reference takes the variable's type; inside other text it becomes text. ``$${`` stands for
a literal ``${``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlretrain_factory.errors import Position, SpecError, SpecErrors, nearest
from mlretrain_factory.source_map import Node

_REFERENCE = re.compile(r"\$(?:\$\{|\{([^{}]*)\})")
_WHOLE = re.compile(r"\$\{([^{}]*)\}")
_LONGEST = 8192


class Substitution:
    """Replaces references in nodes and collects what cannot be replaced in ``errors``.

    :param layers: variables, the layer that wins first.
    :param allowed: environment variables that may be read.
    :param stack_file: where the list of allowed ones is kept; named in remedies.
    """

    def __init__(
        self,
        layers: Sequence[Mapping[str, Node]],
        *,
        allowed: Sequence[str],
        environ: Mapping[str, str],
        stack_file: str,
    ) -> None:
        self.variables = {name: node for layer in reversed(layers) for name, node in layer.items()}
        self.allowed = allowed
        self.environ = environ
        self.stack_file = stack_file
        self.errors: list[SpecError] = []
        self.cycles: set[frozenset[str]] = set()
        self.unset: set[str] = set()
        self.unresolved: set[Position] = set()
        self.failures = 0

    def apply(self, node: Node, path: str = "", chain: tuple[str, ...] = ()) -> Node:
        """``node`` with every reference below it replaced."""
        if isinstance(node.value, dict):
            prefix = f"{path}." if path else ""
            return node._replace(
                value={key: self.apply(each, f"{prefix}{key}", chain) for key, each in node.value.items()}
            )
        if isinstance(node.value, list):
            items = [self.apply(each, f"{path}[{i}]", chain) for i, each in enumerate(node.value)]
            return node._replace(value=items)
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        try:
            return node._replace(value=self._replace(node, path, chain), raw=node.value)
        except SpecErrors as problem:
            self.errors.extend(problem.errors)
            self.unresolved.add(node.position)
            self.failures += 1
            return node._replace(raw=node.value)

    def _replace(self, node: Node, path: str, chain: tuple[str, ...]) -> Any:
        whole = _WHOLE.fullmatch(node.value)
        if whole:
            return self._value(whole.group(1).strip(), node, path, chain)
        parts, end = [], 0
        for reference in _REFERENCE.finditer(node.value):
            parts.append(node.value[end : reference.start()])
            name = reference.group(1)
            value = "${" if name is None else self._value(name.strip(), node, path, chain)
            if isinstance(value, list):
                raise _fault(node, path, f"`{name}` is a list and stands inside of text", "Use it alone.")
            parts.append(value if isinstance(value, str) else json.dumps(value))
            end = reference.end()
        text = "".join([*parts, node.value[end:]])
        if len(text) > _LONGEST:
            raise _fault(node, path, f"the text becomes longer than {_LONGEST} characters", "Shorten it.")
        return text

    def _value(self, name: str, node: Node, path: str, chain: tuple[str, ...]) -> Any:
        if name.startswith("env."):
            return self._environment(name.removeprefix("env."), node, path)
        if name in chain:
            members = chain[chain.index(name) :]
            if frozenset(members) in self.cycles:
                raise SpecErrors([])
            self.cycles.add(frozenset(members))
            cycle = " → ".join((*members, name))
            raise _fault(node, path, "variables refer to each other in a circle", "Break it.", found=cycle)
        if name not in self.variables:
            remedy = nearest(name, self.variables, f"Add it to `vars:` here or in {self.stack_file}.")
            allowed = ", ".join(sorted(self.variables)) or None
            raise _fault(node, path, f"unknown variable `{name}`", remedy, allowed=allowed)
        failures = self.failures
        value = self.apply(self.variables[name], f"vars.{name}", (*chain, name))
        if self.failures > failures:
            raise SpecErrors([])
        plain = value.data
        items = plain if isinstance(plain, list) else [plain]
        if any(isinstance(item, (list, dict)) for item in items):
            raise _fault(value, f"vars.{name}", "a variable is one value or a list of values", "Flatten it.")
        return [Node(item, node.position) for item in plain] if isinstance(plain, list) else plain

    def _environment(self, name: str, node: Node, path: str) -> str:
        if name not in self.allowed:
            remedy = f"Add `{name}` to `env:` in {self.stack_file}."
            allowed = ", ".join(self.allowed) or None
            raise _fault(
                node,
                path,
                f"the stack does not allow the environment variable `{name}`",
                remedy,
                allowed=allowed,
            )
        if name in self.unset:
            raise SpecErrors([])
        if name not in self.environ:
            self.unset.add(name)
            raise _fault(node, path, f"the environment variable `{name}` is not set", "Set it for Airflow.")
        return self.environ[name]


def _fault(node: Node, path: str, message: str, remedy: str, **details: str | None) -> SpecErrors:
    return SpecErrors(
        [SpecError(position=node.position, path=path, message=message, remedy=remedy, **details)]
    )
