"""Processes that outlive the one that started them: identity, descendants, memory and end.

Imports only the standard library: a job's supervisor must start at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36


def started_at(pid: int) -> str | None:
    """When the process started, as the system writes it; ``None`` if there is none (a zombie is none).

    Together with the pid it names a process for good: pids are used again, start times are not.
    """
    if not _has_proc():
        line = _ps("state=,lstart=", "-p", str(pid)).strip()
        return None if not line or line.startswith("Z") else line.split(maxsplit=1)[1]
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else f"{_boot()}-{fields[19]}"


def reap(pid: int) -> None:
    """Let go of the process if it is an ended child of ours; others are not ours to wait for."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def held(program: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[int]:
    """The pid of a new process, head of a session of its own, whose standard input ends with the block.

    It also ends if this process dies within the block. What the new process writes goes to ``log``.
    """
    waits, goes = os.pipe()
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        # Not subprocess.Popen: it wants to be waited for, and this process may outlive us.
        yield os.posix_spawn(
            program,
            list(arguments),
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, each, to) for to, each in enumerate((waits, written, written))
            ],
            setsid=True,
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
        )
    finally:
        for each in (waits, goes, written):
            os.close(each)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, where the system can do that (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The living children of the process, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, ()))
    for each in found:
        found += children.get(each, ())
    return found


def memory_of(pids: Iterable[int]) -> int:
    """Bytes that the processes keep in memory and in no file; what several share is counted in each."""
    if not _has_proc():
        return 1024 * sum(int(each) for each in _ps("rss=", "-p", ",".join(map(str, pids))).split())
    return sum(_kilobytes(pid, "status", (b"RssAnon:", b"RssShmem:")) for pid in pids) * 1024


def own_memory_of(pids: Iterable[int]) -> int:
    """The same with what is shared counted once, which takes longer to find out (``PSS``; Linux only)."""
    if not _has_proc():
        return memory_of(pids)
    return sum(_kilobytes(pid, "smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:")) for pid in pids) * 1024


def marked(name: str, value: str) -> list[int]:
    """The processes of this user that were started with this environment variable (Linux only)."""
    wanted = os.fsencode(f"{name}={value}")
    found = []
    for pid in _pids():
        with suppress(OSError):
            if wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Signal each process that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


@cache
def _has_proc() -> bool:
    return (_PROC / "self/stat").exists()


@cache
def _boot() -> str:
    """Which start of the machine this is: start times count from it."""
    return (_PROC / "sys/kernel/random/boot_id").read_text()[:8]


def _pids() -> list[int]:
    return [int(each) for each in os.listdir(_PROC) if each.isdecimal()] if _has_proc() else []


def _parents() -> Iterator[tuple[int, int]]:
    """Each living process and its parent."""
    if not _has_proc():
        lines = (line.split() for line in _ps("pid=,ppid=,state=", "-A").splitlines())
        yield from ((int(pid), int(parent)) for pid, parent, state in lines if not state.startswith("Z"))
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[0] not in "ZX":
            yield pid, int(fields[1])


def _stat(pid: int) -> list[str] | None:
    """``/proc/PID/stat`` from field 3 on; field 2 is the command and may hold anything; see proc(5)."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _kilobytes(pid: int, file: str, names: tuple[bytes, ...]) -> int:
    try:
        lines = (_PROC / str(pid) / file).read_bytes().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


def _ps(columns: str, *which: str) -> str:
    command = ["/bin/ps", "-o", columns, *which]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
