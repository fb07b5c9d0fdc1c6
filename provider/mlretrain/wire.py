"""Values on the wire: frozen dataclasses to plain JSON and back, canonical bytes, digests.

JSON has no NaN and no time: non-finite floats travel as ``"nan"``, ``"inf"`` and ``"-inf"``, instants as
ISO 8601 in UTC, durations as seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from mlretrain.errors import ContractError

T = TypeVar("T")


def to_wire(value: Any) -> Any:
    """``value`` as plain JSON; dataclasses become objects, tuples become arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_wire(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_wire(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [to_wire(each) for each in items]
    return _scalar_to_wire(value)


def _scalar_to_wire(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return utc(value).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "item"):  # a numpy scalar
        return _scalar_to_wire(value.item())
    raise ContractError(f"a {type(value).__name__} cannot travel as JSON", found=repr(value)[:80])


def from_wire(cls: type[T], data: Any) -> T:
    """The ``cls`` that ``to_wire`` described. Unknown and missing fields raise :class:`ContractError`."""
    return typing.cast(T, _read(cls, data, cls.__name__))


def _read(kind: Any, data: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin is typing.Literal:
        return _expect(data in args, data, where, data)
    if origin in (types.UnionType, typing.Union):
        return None if data is None and type(None) in args else _read_union(args, data, where)
    if origin is tuple:
        return _read_tuple(args, data, where)
    if origin is list:
        return [_read(args[0], each, f"{where}[{i}]") for i, each in enumerate(data)]
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        _expect(isinstance(data, Mapping), data, where, data)
        return {str(key): _read(args[1], each, f"{where}.{key}") for key, each in data.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, where)
    return _read_scalar(kind, data, where)


def _read_union(args: tuple[Any, ...], data: Any, where: str) -> Any:
    error: ContractError | None = None
    for each in args:
        if each is type(None):
            continue
        try:
            return _read(each, data, where)
        except ContractError as mismatch:
            error = error or mismatch
    raise error or ContractError("no type of the union fits", where=where, found=repr(data)[:80])


def _read_tuple(args: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list), data, where, data)
    kinds = [args[0]] * len(data) if len(args) == 2 and args[1] is Ellipsis else list(args)
    _expect(len(kinds) == len(data), data, where, data)
    return tuple(
        _read(kind, each, f"{where}[{i}]") for i, (kind, each) in enumerate(zip(kinds, data, strict=True))
    )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read_dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), data, where, data)
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ContractError(
            "unknown fields", where=where, found=", ".join(unknown), allowed=", ".join(fields)
        )
    missing = [
        name
        for name, field in fields.items()
        if name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ContractError(
            "missing fields", where=where, found=", ".join(sorted(data)), allowed=", ".join(fields)
        )
    return kind(**{name: _read(hints[name], each, f"{where}.{name}") for name, each in data.items()})


def _read_scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is datetime:
        return parse_time(_expect(isinstance(data, str), data, where, data), where)
    if kind is timedelta:
        return timedelta(seconds=float(data))
    if kind is float:
        is_number = isinstance(data, (int, float)) and not isinstance(data, bool)
        _expect(is_number or data in ("nan", "inf", "-inf"), data, where, data)
        return float(data)
    if kind is int:
        return _expect(isinstance(data, int) and not isinstance(data, bool), data, where, data)
    return _expect(isinstance(data, kind), data, where, data)


def _expect(holds: bool, data: Any, where: str, value: T) -> T:
    if not holds:
        raise ContractError("not of the expected type", where=where, found=repr(data)[:80])
    return value


def utc(time: datetime) -> datetime:
    """``time`` in UTC; a naive time is taken to be UTC already."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def parse_time(text: str, where: str | None = None) -> datetime:
    """An ISO 8601 instant, in UTC. Raises :class:`ContractError` if it is none."""
    try:
        return utc(datetime.fromisoformat(text))
    except ValueError:
        raise ContractError("not an ISO 8601 time", where=where, found=repr(text)) from None


def canonical(value: Any) -> bytes:
    """``value`` as JSON bytes that depend on nothing but the value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(
        to_wire(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def pretty(value: Any) -> bytes:
    """``value`` as JSON for people, with a final newline."""
    return (
        json.dumps(to_wire(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def digest(value: Any, length: int = 64) -> str:
    """The first ``length`` hex digits of the SHA-256 of :func:`canonical`."""
    return hashlib.sha256(canonical(value)).hexdigest()[:length]
