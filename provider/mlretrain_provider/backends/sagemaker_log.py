"""What SageMaker jobs wrote, from CloudWatch: each line once, in order, wherever reading stopped."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any

from mlretrain_provider.backends.aws import AwsCaller, is_absent, is_denied

EVENTS_AT_ONCE = 10_000
DENIED = "denied"
_FIRST_HOST = "algo-1"
_DENIED_LINE = (
    "The job's log is not shown: AWS denies logs:DescribeLogStreams or logs:GetLogEvents on {group}. "
    "Let the identity of the Airflow connection {conn_id!r} do both.\n"
)


class _Denied(Exception):
    """CloudWatch may not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchLog:
    """The streams of one job: ``<job>/algo-<n>-<start>``, one for each instance and each start of it.

    :param hook: an ``AwsLogsHook``.
    """

    hook: Any
    call: AwsCaller
    group: str
    job: str

    def since(self, cursor: str) -> tuple[str, str]:
        """The lines after ``cursor`` and the next one.

        A cursor holds for each stream the time in milliseconds of the last event and how many events of that
        millisecond were read. CloudWatch's own tokens would be shorter, but are worth nothing a day later.
        Lines of other hosts than ``algo-1`` begin with the host's name.
        """
        read = {} if cursor in ("", DENIED) else json.loads(cursor)
        batches = []
        try:
            for stream in self._streams():
                last, count = read.get(stream, (0, 0))
                events = self._events(stream, last, count)
                if events:
                    read[stream] = _position(events, last, count)
                    batches.append((stream, events))
        except _Denied:
            line = _DENIED_LINE.format(group=self.group, conn_id=self.call.conn_id)
            return ("", cursor) if cursor else (line, DENIED)
        if not batches:
            return "", cursor
        return "".join(f"{line}\n" for line in _lines(batches)), json.dumps(read, sort_keys=True)

    def tail(self, lines: int) -> list[str]:
        """The last lines of all hosts together; none where they may not be read."""
        try:
            batches = [(stream, self._last_events(stream, lines)) for stream in self._streams()]
        except _Denied:
            return []
        return list(_lines(batches))[-lines:]

    def _streams(self) -> list[str]:
        """The names of the job's streams, the first host's first."""
        pages = self.call(
            lambda: list(
                self.hook.conn.get_paginator("describe_log_streams").paginate(
                    logGroupName=self.group, logStreamNamePrefix=f"{self.job}/"
                )
            ),
            where=self._where,
            unless=_not_there,
        )
        names = [each["logStreamName"] for page in pages or () for each in page["logStreams"]]
        return sorted(names, key=lambda name: (_host_number(name), name))

    def _events(self, stream: str, last: int, count: int) -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            events = self.hook.get_log_events(self.group, stream, start_time=last, skip=count)
            return list(islice(events, EVENTS_AT_ONCE))

        return self.call(read, where=self._where, unless=_not_there) or []

    def _last_events(self, stream: str, lines: int) -> list[dict[str, Any]]:
        answer = self.call(
            lambda: self.hook.conn.get_log_events(
                logGroupName=self.group, logStreamName=stream, limit=lines, startFromHead=False
            ),
            where=self._where,
            unless=_not_there,
        )
        return list(answer["events"]) if answer else []

    @property
    def _where(self) -> str:
        return f"CloudWatch {self.group}/{self.job}"


def _not_there(error: Any) -> bool:
    if is_denied(error):
        raise _Denied
    return is_absent(error)


def _position(events: Sequence[dict[str, Any]], last: int, count: int) -> tuple[int, int]:
    time = events[-1]["timestamp"]
    same = sum(1 for event in events if event["timestamp"] == time)
    return time, same + (count if time == last else 0)


def _lines(batches: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> Iterable[str]:
    marked = (_marked(stream, events) for stream, events in batches)
    return (line for _, line in heapq.merge(*marked, key=itemgetter(0)))


def _marked(stream: str, events: Sequence[dict[str, Any]]) -> Iterable[tuple[int, str]]:
    host = f"algo-{_host_number(stream)}"
    mark = "" if host == _FIRST_HOST else f"[{host}] "
    return ((event["timestamp"], mark + event["message"].rstrip("\r\n")) for event in events)


def _host_number(stream: str) -> int:
    found = re.search(r"/algo-(\d+)", stream)
    return int(found.group(1)) if found else 1
