"""A pod's log read in pieces, each line once, whatever happened between two readings.

The API can begin a log at a second, so what is known of a second is read again and skipped. The second before
it, too: two streams written side by side may bear times that go back a little.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_LONGEST_STAMP = 36
_FRAGMENT = 16384
"""Bytes after which container runtimes split a line; older kubelets put a timestamp before each part."""

Instant = tuple[int, int]
"""Seconds since the epoch and nanoseconds."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a log has been read.

    :param pod: the UID of the pod it is of.
    :param at: the latest timestamp read; ``None``: nothing.
    :param counts: how many lines (or fragments) of the second before it, and of its own, have been read.
    :param rest: the first bytes of a character whose others were not there yet.
    """

    pod: str
    at: Instant | None = None
    counts: tuple[int, int] = (0, 0)
    rest: bytes = b""

    @classmethod
    def parse(cls, text: str, pod: str) -> Cursor:
        """The cursor that :meth:`__str__` wrote; the beginning if there is none, or it is another pod's."""
        uid, _, position = text.partition("/")
        if uid != pod or not position:
            return cls(pod)
        *numbers, rest = position.split(":")
        second, nanos, before, own = map(int, numbers)
        return cls(pod, (second, nanos), (before, own), bytes.fromhex(rest))

    def __str__(self) -> str:
        if self.at is None:
            return ""
        return f"{self.pod}/{':'.join(map(str, (*self.at, *self.counts)))}:{self.rest.hex()}"

    @property
    def since(self) -> str | None:
        """The second to read from (RFC 3339)."""
        if self.at is None:
            return None
        return f"{datetime.fromtimestamp(self.at[0] - 1, UTC):%Y-%m-%dT%H:%M:%SZ}"


def read(chunks: Iterable[bytes], cursor: Cursor, *, limit: int, ended: bool) -> tuple[str, Cursor]:
    """The text after ``cursor`` and the cursor after it.

    :param chunks: the log since ``cursor.since``, with timestamps, in pieces of any size.
    :param limit: bytes after which to stop, at the end of a line or fragment.
    :param ended: whether nothing will be added to the log: then its last line counts without an end, too.
    """
    data, at, skipped = bytearray(cursor.rest), cursor.at or (0, 0), 0
    seen = Counter({at[0] - 1: cursor.counts[0], at[0]: cursor.counts[1]})
    for stamp, line in _lines(chunks, ended=ended):
        if stamp <= (cursor.at or (0, 0)) and skipped < sum(cursor.counts):
            skipped += 1
            continue
        if len(data) > len(cursor.rest) and len(data) + len(line) > limit:
            break
        data += line
        at = max(at, stamp)
        seen[stamp[0]] += 1
    else:
        if ended:
            return _text(data), _moved(cursor, at, seen, b"")
    whole = len(data) - _partial_character(data)
    return _text(data[:whole]), _moved(cursor, at, seen, bytes(data[whole:]))


def _moved(cursor: Cursor, at: Instant, seen: Counter[int], rest: bytes) -> Cursor:
    return Cursor(cursor.pod, at, (seen[at[0] - 1], seen[at[0]]), rest) if any(at) else cursor


def _lines(chunks: Iterable[bytes], *, ended: bool) -> Iterator[tuple[Instant, bytes]]:
    """Lines with their ends, long ones in fragments; each with its timestamp and without it."""
    buffer = bytearray()
    stamp: Instant | None = None
    for chunk in chunks:
        buffer += chunk
        while (taken := _take(buffer, stamp)) is not None:
            yield taken
            stamp = None if taken[1].endswith(b"\n") else taken[0]
    if ended and buffer:
        found = _STAMP.match(buffer)
        last = _instant(found) if found else stamp
        if last is not None:
            yield last, bytes(buffer[found.end() if found else 0 :])


def _take(buffer: bytearray, stamp: Instant | None) -> tuple[Instant, bytes] | None:
    """The first line or fragment, taken from ``buffer``; ``None`` if more bytes are needed to tell.

    :param stamp: the timestamp of the line that the buffer begins in the middle of.
    """
    found = _STAMP.match(buffer)
    while (
        found is None and stamp is None and b"\n" in buffer
    ):  # the runtime's own complaints have no timestamp
        del buffer[: buffer.index(b"\n") + 1]
        found = _STAMP.match(buffer)
    begin = found.end() if found else 0
    end = buffer.find(b"\n", begin, begin + _FRAGMENT + 1) + 1
    if not end and len(buffer) >= begin + max(_FRAGMENT, _LONGEST_STAMP):
        end = begin + _FRAGMENT
    at = _instant(found) if found else stamp
    if not end or at is None:
        return None
    line = bytes(buffer[begin:end])
    del buffer[:end]
    return at, line


def _instant(stamp: re.Match[bytes]) -> Instant:
    clock, nanos, zone = (part.decode() if part else "" for part in stamp.groups())
    return int(datetime.fromisoformat(clock + zone).timestamp()), int(nanos.ljust(9, "0") or 0)


def _partial_character(data: bytearray) -> int:
    """How many bytes at the end are the beginning of a UTF-8 character that is not whole."""
    for length in range(1, min(3, len(data)) + 1):
        lead = data[-length]
        if lead & 0b1100_0000 != 0b1000_0000:
            needed = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
            return length if needed > length else 0
    return 0


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "backslashreplace")
