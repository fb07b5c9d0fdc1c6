"""Processes that outlive the one that started them: identity, life and end of a process group."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def started_at(pid: int) -> str | None:
    """When the process started, as the system writes it; ``None`` if there is none (a zombie is none).

    Together with the pid it names a process for good: pids are used again, start times are not.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return _started_at_by_ps(pid)
    try:
        # Field 2 is the command in parentheses and may hold anything; see proc(5).
        fields = stat.read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _started_at_by_ps(pid: int) -> str | None:
    line = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return None if not line or line.startswith("Z") else line.split(maxsplit=1)[1]


def reap(pid: int) -> None:
    """Let go of the process if it is an ended child of ours; others are not ours to wait for."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def held(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[int]:
    """The pid of a new shell, head of a process group of its own, that may go on once the block ends well.

    It gets one line on its standard input then, and the end of it otherwise, also if this process dies within
    the block. What it writes goes to ``log``.
    """
    waits, goes = os.pipe()
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # Not subprocess.Popen: it wants to be waited for, and this process may outlive us.
        pid = os.posix_spawn(
            "/bin/sh",
            list(arguments),
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, each, to) for to, each in enumerate((waits, written, written))
            ],
            setsid=True,
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
        )
        yield pid
        os.write(goes, b"go\n")
    finally:
        for each in (waits, goes, written):
            os.close(each)


def end_group(
    group: int,
    is_alive: Callable[[], bool],
    *,
    grace_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ask every process of the group to stop; after ``grace_s`` seconds, kill what is left of it."""
    _signal(group, signal.SIGTERM)
    deadline = clock() + grace_s
    while is_alive() and clock() < deadline:
        sleep(0.05)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
