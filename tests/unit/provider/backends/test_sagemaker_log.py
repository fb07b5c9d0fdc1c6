"""Lines from CloudWatch: each once, in order, wherever reading stopped and whoever goes on."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from mlretrain_provider.backends import sagemaker_log
from mlretrain_provider.backends.aws import AwsCaller
from mlretrain_provider.backends.sagemaker_log import DENIED, CloudWatchLog
from tests.fixtures_sagemaker import CONN_ID, FakeSagemaker, fake_sagemaker

pytest.importorskip("airflow.providers.amazon")
pytestmark = pytest.mark.airflow

GROUP = "/aws/sagemaker/TrainingJobs"
NOW = int(time.time() * 1000)


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeSagemaker]:
    logs_hook.cache_clear()
    with fake_sagemaker() as fake:
        yield fake


@cache
def logs_hook() -> Any:
    from airflow.providers.amazon.aws.hooks.logs import AwsLogsHook

    make: Any = AwsLogsHook
    return make(aws_conn_id=CONN_ID)


@pytest.fixture
def job() -> str:
    return f"job-{uuid.uuid4().hex}"


def log_of(job: str, hook: Any = None) -> CloudWatchLog:
    """The log as a process that has just been started opens it: all that it knows is the cursor."""
    call = AwsCaller(conn_id=CONN_ID, sleep=lambda _: None, jitter=lambda: 0.0)
    return CloudWatchLog(hook=hook or logs_hook(), call=call, group=GROUP, job=job)


def put(cloud: FakeSagemaker, job: str, host: str, *lines: tuple[int, str]) -> None:
    """Write lines at milliseconds after now to a stream of ``job``."""
    cloud.put_lines(GROUP, f"{job}/{host}", [(NOW + at, line) for at, line in lines])


def test_there_is_nothing_before_the_stream_is_there(cloud: FakeSagemaker, job: str) -> None:
    assert log_of(job).since("") == ("", "")
    put(cloud, job, "algo-1-1", (0, "first"))
    text, cursor = log_of(job).since("")
    assert text == "first\n"
    assert log_of(job).since(cursor) == ("", cursor)


def test_lines_of_one_millisecond_are_told_apart(cloud: FakeSagemaker, job: str) -> None:
    put(cloud, job, "algo-1-1", (0, "a"), (5, "b"), (5, "c"))
    text, cursor = log_of(job).since("")
    put(cloud, job, "algo-1-1", (5, "d"), (5, "e"))
    more, cursor = log_of(job).since(cursor)
    put(cloud, job, "algo-1-1", (5, "f"), (6, "g"))
    last, cursor = log_of(job).since(cursor)
    assert (text, more, last) == ("a\nb\nc\n", "d\ne\n", "f\ng\n")


def test_hosts_are_merged_by_time_and_the_first_goes_first(cloud: FakeSagemaker, job: str) -> None:
    put(cloud, job, "algo-10-1", (1, "ten"))
    put(cloud, job, "algo-2-1", (0, "two"), (3, "two again"))
    put(cloud, job, "algo-1-1", (0, "one"), (2, "one again"))
    text, _ = log_of(job).since("")
    assert text.splitlines() == ["one", "[algo-2] two", "[algo-10] ten", "one again", "[algo-2] two again"]


def test_a_stream_that_appears_later_is_read_from_its_beginning(cloud: FakeSagemaker, job: str) -> None:
    put(cloud, job, "algo-1-1", (100, "before"))
    _, cursor = log_of(job).since("")
    put(cloud, job, "algo-2-1", (50, "was slow"))
    put(cloud, job, "algo-1-2", (200, "on another instance"))
    text, _ = log_of(job).since(cursor)
    assert text == "[algo-2] was slow\non another instance\n"


def test_another_job_is_not_read(cloud: FakeSagemaker, job: str) -> None:
    put(cloud, f"{job}0", "algo-1-1", (0, "another's"))
    assert log_of(job).since("") == ("", "")


def test_long_logs_come_in_parts(cloud: FakeSagemaker, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sagemaker_log, "EVENTS_AT_ONCE", 7)
    lines = [f"line {number}" for number in range(40)]
    put(cloud, job, "algo-1-1", *((number // 9, line) for number, line in enumerate(lines)))
    assert read_all(job) == lines


def read_all(job: str, cursor: str = "") -> list[str]:
    lines: list[str] = []
    while True:
        text, after = log_of(job).since(cursor)
        if after == cursor:
            return lines
        lines, cursor = lines + text.splitlines(), after


@pytest.mark.parametrize("seed", range(5))
def test_no_line_is_lost_or_repeated(cloud: FakeSagemaker, job: str, seed: int) -> None:
    """Writers with clocks of their own, ties, new streams; a reader that is replaced after every look."""
    dice = random.Random(seed)
    hosts = ["algo-1-1", "algo-2-1", "algo-3-1", "algo-1-2"]
    clocks = dict.fromkeys(hosts, 0)
    written: dict[str, list[str]] = {host: [] for host in hosts}
    read: list[str] = []
    cursor = ""
    for number in range(60):
        host = dice.choice(hosts[: 1 + number // 15])
        clocks[host] += dice.choice([0, 0, 1, 7])
        line = f"{host} {number}"
        put(cloud, job, host, (clocks[host], line))
        written[host].append(line)
        if dice.random() < 0.3:
            text, cursor = log_of(job).since(cursor)
            read += text.splitlines()
    read += read_all(job, cursor)
    found = [line.rpartition("] ")[2] for line in read]
    assert {host: [line for line in found if line.startswith(host)] for host in hosts} == written
    assert len(found) == 60


def test_the_tail_is_of_all_hosts_together(cloud: FakeSagemaker, job: str) -> None:
    put(cloud, job, "algo-1-1", *((number, f"one {number}") for number in range(10)))
    put(cloud, job, "algo-2-1", (8, "two"))
    assert log_of(job).tail(3) == ["one 8", "[algo-2] two", "one 9"]
    assert log_of("nobody").tail(3) == []


@pytest.mark.parametrize("denied", ["describe_log_streams", "get_log_events"])
def test_a_log_that_may_not_be_read_is_said_once_and_read_as_soon_as_it_may(
    cloud: FakeSagemaker, job: str, denied: str
) -> None:
    put(cloud, job, "algo-1-1", (0, "there"))
    with denying(cloud, denied, job) as hook:
        text, cursor = log_of(job, hook).since("")
        assert text.startswith("The job's log is not shown: AWS denies logs:DescribeLogStreams")
        assert cursor == DENIED
        assert log_of(job, hook).since(cursor) == ("", cursor)
        assert log_of(job, hook).tail(3) == []
    assert log_of(job).since(cursor)[0] == "there\n"


@contextmanager
def denying(cloud: FakeSagemaker, operation: str, job: str) -> Iterator[Any]:
    """A hook that may not do ``operation``, three times."""
    from airflow.providers.amazon.aws.hooks.logs import AwsLogsHook
    from botocore.stub import Stubber

    make: Any = AwsLogsHook
    hook = make(aws_conn_id=CONN_ID)
    with Stubber(hook.conn) as stub:
        for _ in range(3):
            if operation == "get_log_events":
                stub.add_response(
                    "describe_log_streams", {"logStreams": [{"logStreamName": f"{job}/algo-1-1"}]}
                )
            stub.add_client_error(operation, "AccessDeniedException")
        yield hook
