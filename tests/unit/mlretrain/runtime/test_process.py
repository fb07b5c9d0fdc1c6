"""What is known of other processes: from ``/proc``, and from ``ps`` where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mlretrain.runtime import process

MIB = 1 << 20
FAMILY = """
import os, time
kept = bytearray(64 << 20)
if os.fork() == 0:
    if os.fork() != 0:
        os.wait()
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["proc", "ps"])
def _source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ps":
        monkeypatch.setattr(process, "_has_proc", lambda: False)


@pytest.fixture
def family() -> Iterator[int]:
    """The pid of a process with a child and a grandchild, which share its 64 MiB."""
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdout=subprocess.PIPE,
        env={**os.environ, "WHOSE": "the test's"},
        start_new_session=True,
    ) as first:
        assert first.stdout is not None
        for _ in range(2):
            first.stdout.readline()
        yield first.pid
        os.killpg(first.pid, signal.SIGKILL)


@pytest.mark.usefixtures("_source")
def test_a_process_is_known_by_its_start(family: int) -> None:
    started = process.started_at(family)
    assert started is not None
    assert process.started_at(family) == started
    assert process.started_at(1) != started
    process.kill([family])
    os.waitid(os.P_PID, family, os.WEXITED | os.WNOWAIT)
    assert process.started_at(family) is None  # a zombie
    process.reap(family)
    process.reap(family)
    assert process.started_at(family) is None


@pytest.mark.usefixtures("_source")
def test_descendants_are_children_and_theirs(family: int) -> None:
    found = process.descendants(family)
    assert len(found) == 2
    assert process.descendants(found[-1]) == []
    assert set(found) <= set(process.descendants(os.getpid()))


@pytest.mark.usefixtures("_source")
def test_memory_is_what_no_file_holds(family: int) -> None:
    pids = [family, *process.descendants(family)]
    assert 64 * MIB < process.memory_of([family]) < 96 * MIB
    assert process.memory_of(pids) > 3 * 64 * MIB
    assert process.memory_of([999_999_999]) == 0


def test_memory_that_is_shared_is_counted_once(family: int) -> None:
    assert 64 * MIB < process.own_memory_of([family, *process.descendants(family)]) < 96 * MIB


def test_processes_are_found_by_their_environment(family: int) -> None:
    assert sorted(process.marked("WHOSE", "the test's")) == sorted([family, *process.descendants(family)])
    assert process.marked("WHOSE", "nobody's") == []


def test_killing_what_is_gone_is_no_error(family: int) -> None:
    process.kill([999_999_999, family])
    os.waitid(os.P_PID, family, os.WEXITED | os.WNOWAIT)
