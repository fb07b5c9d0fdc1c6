"""YAML as a tree in which every value knows its file, line and column.

Only data is read: a tag, a merge key, a second document or a duplicate key is an error. Scalars follow YAML
1.2's core schema, so ``on`` and ``no`` are text and ``1e-3`` is a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mlretrain_factory.errors import Position, SpecError, SpecErrors

MAX_BYTES = 256 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 32

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_CONSTANTS |= {text.title(): value for text, value in _CONSTANTS.items()}
_CONSTANTS |= {text.upper(): value for text, value in _CONSTANTS.items()}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Node(NamedTuple):
    """A value and its place; ``key`` is the place of its key, ``raw`` the text before substitution."""

    value: Any
    position: Position
    key: Position | None = None
    raw: str | None = None

    @property
    def data(self) -> Any:
        """The plain value: dicts, lists, text, numbers, booleans and ``None``."""
        if isinstance(self.value, dict):
            return {key: node.data for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.data for node in self.value]
        return self.value

    def get(self, *path: str | int) -> Node | None:
        """The node at ``path``, or ``None``."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(node.value, dict):
                node = node.value.get(step)
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node


def read_source(path: Path) -> Node:
    """The mapping that the file holds. Raises :class:`SpecErrors` with the first fault of its syntax."""
    try:
        status = path.stat()
    except OSError as problem:
        raise _fault(Position(str(path)), f"cannot be read: {problem.strerror}", "Check the path.") from None
    return _read_cached(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _read_cached(path: Path, _mtime_ns: int, size: int) -> Node:
    if size > MAX_BYTES:
        raise _fault(
            Position(str(path)),
            "the file is too large",
            "Split it: one pipeline per file.",
            found=f"{size} bytes",
            allowed=f"{MAX_BYTES} bytes",
        )
    return parse(_decode(path.read_bytes(), str(path)), str(path))


def parse(text: str, file: str) -> Node:
    """The mapping that ``text`` holds; ``file`` is its name in positions."""
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        raise _fault(
            _place(text[: unprintable.start()], file),
            "a control character",
            "Remove it.",
            found=repr(unprintable.group()),
        )
    try:
        return _Builder(file, yaml.parse(text, Loader=_Loader)).document()
    except yaml.MarkedYAMLError as problem:
        raise _syntax_fault(problem, text, file) from None


def _decode(data: bytes, file: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise _fault(
            Position(file), "the file starts with a byte order mark", "Save it as UTF-8 without BOM."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        before = data[: problem.start].decode("utf-8")
        raise _fault(
            _place(before, file),
            "not UTF-8",
            "Save the file as UTF-8.",
            found=f"byte 0x{data[problem.start]:02x}",
        ) from None


def _place(before: str, file: str) -> Position:
    lines = before.split("\n")
    return Position(file, len(lines), len(lines[-1]) + 1)


def _fault(position: Position, message: str, remedy: str, **details: str) -> SpecErrors:
    return SpecErrors([SpecError(position=position, message=message, remedy=remedy, **details)])


def _syntax_fault(problem: yaml.MarkedYAMLError, text: str, file: str) -> SpecErrors:
    mark = problem.problem_mark or problem.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.split("\n")
    rest = lines[line][column:] if line < len(lines) else ""
    position = Position(file, line + 1, column + 1)
    if rest.startswith("\t"):
        return _fault(position, "a tab where YAML wants spaces", "Indent with spaces.")
    reason = problem.problem or "cannot be parsed"
    context = f" {problem.context}" if problem.context else ""
    remedy = "Check indentation, quotes and brackets here."
    if "flow mapping" in context:
        remedy = "Check indentation, quotes and brackets here; quote `${…}` inside of braces."
    return _fault(position, f"not YAML: {reason}{context}", remedy)


class _Builder:
    """Builds nodes from the parser's events, which never construct an object."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self.file = file
        self.events = events
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.nodes = 0

    def document(self) -> Node:
        next(self.events)  # the stream's start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            raise _fault(Position(self.file), "the file is empty", "Start with `version: 1`.")
        root = self.node(next(self.events), 0)
        next(self.events)  # the document's end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.fault(event, "a second document", "Put each pipeline into a file of its own.")
        if not isinstance(root.value, dict):
            found = "a list" if isinstance(root.value, list) else repr(root.value)
            remedy = "Start with `version: 1`."
            raise _fault(root.position, "the file does not hold a mapping", remedy, found=found)
        return root

    def node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if depth > MAX_DEPTH:
            raise self.fault(event, f"nested deeper than {MAX_DEPTH} levels", "Flatten it.")
        if event.tag is not None:
            found = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.fault(
                event, "tags are not allowed", "Remove the tag and write plain data.", found=found
            )
        before = self.nodes
        self.count(event, 1)
        position = self.position(event)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(_scalar(event.value) if event.implicit[0] else event.value, position)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(self.sequence(depth), position)
        else:
            node = Node(self.mapping(depth), position)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.nodes - before)
        return node

    def alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            raise self.fault(
                event,
                "an alias without an anchor before it",
                "Write the value out.",
                found=f"*{event.anchor}",
            )
        node, size = self.anchors[event.anchor]
        self.count(event, size)
        return node

    def sequence(self, depth: int) -> list[Node]:
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        return items

    def mapping(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event)
            if key in entries:
                first = entries[key].key
                remedy = f"Remove one; the first is in line {first.line if first else '?'}."
                raise self.fault(event, f"duplicate key `{key}`", remedy)
            node = self.node(next(self.events), depth + 1)
            entries[key] = node._replace(key=self.position(event))
        return entries

    def key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self.fault(event, "a key that is no plain text", "Write a name before the colon.")
        if event.tag is not None:
            raise self.fault(event, "tags are not allowed", "Remove the tag.", found=event.tag)
        if event.value == "<<" and event.implicit[0]:
            raise self.fault(
                event, "merge keys are not allowed", "Put what is shared into `defaults.yaml`.", found="`<<`"
            )
        return str(event.value)

    def count(self, event: Any, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise self.fault(
                event, f"aliases expand to more than {MAX_NODES} values", "Write the values out."
            )

    def position(self, event: Any) -> Position:
        mark = event.start_mark
        return Position(self.file, mark.line + 1, mark.column + 1)

    def fault(self, event: Any, message: str, remedy: str, **details: str) -> SpecErrors:
        return _fault(self.position(event), message, remedy, **details)


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
