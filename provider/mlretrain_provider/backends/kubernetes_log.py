"""A pod's log read in pieces, each line once, whatever happened between two readings.

The API can begin a log at a second, so a second that was read in part is read again and what is known of it
skipped.
"""

from __future__ import annotations

import re
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
    :param count: how many lines (or fragments) of that timestamp's second have been read.
    :param rest: the first bytes of a character whose others were not there yet.
    """

    pod: str
    at: Instant | None = None
    count: int = 0
    rest: bytes = b""

    @classmethod
    def parse(cls, text: str, pod: str) -> Cursor:
        """The cursor that :meth:`__str__` wrote; the beginning if there is none, or it is another pod's."""
        uid, _, position = text.partition("/")
        if uid != pod or not position:
            return cls(pod)
        second, nanos, count, rest = position.split(":")
        return cls(pod, (int(second), int(nanos)), int(count), bytes.fromhex(rest))

    def __str__(self) -> str:
        if self.at is None:
            return ""
        return f"{self.pod}/{self.at[0]}:{self.at[1]}:{self.count}:{self.rest.hex()}"

    @property
    def since(self) -> str | None:
        """The second to read from (RFC 3339)."""
        return None if self.at is None else f"{datetime.fromtimestamp(self.at[0], UTC):%Y-%m-%dT%H:%M:%SZ}"


def read(chunks: Iterable[bytes], cursor: Cursor, *, limit: int, ended: bool) -> tuple[str, Cursor]:
    """The text after ``cursor`` and the cursor after it.

    :param chunks: the log since ``cursor.since``, with timestamps, in pieces of any size.
    :param limit: bytes after which to stop, at the end of a line or fragment.
    :param ended: whether nothing will be added to the log: then its last line counts without an end, too.
    """
    data, at, count, skipped = bytearray(cursor.rest), cursor.at, cursor.count, 0
    for stamp, line in _lines(chunks, ended=ended):
        if cursor.at is not None and stamp <= cursor.at and skipped < cursor.count:
            skipped += 1
            continue
        if data and len(data) + len(line) > limit:
            break
        data += line
        if at is None or stamp[0] > at[0]:
            count = 1
        elif stamp[0] == at[0]:
            count += 1
        at = stamp if at is None else max(at, stamp)
    else:
        if ended:
            return _text(data), Cursor(cursor.pod, at, count)
    whole = len(data) - _partial_character(data)
    return _text(data[:whole]), Cursor(cursor.pod, at, count, bytes(data[whole:]))


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
