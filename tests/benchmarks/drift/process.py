"""One child process: how long it took, and the most memory that it held."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
MEMORY = 16_000_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Wall and CPU seconds from start to exit, and the peak of resident memory in bytes.

    :param failure: why there is no result, in a few words; empty if there is one.
    :param output: what the process printed.
    """

    wall_s: float
    cpu_s: float
    peak: int
    failure: str = ""
    output: str = ""


def measure(command: Sequence[str], *, memory: int = MEMORY, timeout_s: float = 3_600) -> Cost:
    """Run a command to its end, or until it holds more than ``memory`` bytes or takes too long.

    Linux counts what a parent holds at the fork as its child's peak, so the caller should hold little.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=errors)
        failure = ""
        while True:
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            wall = time.perf_counter() - started
            if pid:
                break
            if not failure and (_resident(child.pid) > memory or wall > timeout_s):
                failure = f"over {timeout_s:.0f} s" if wall > timeout_s else f"over {memory / 1e9:g} GB"
                child.kill()
            time.sleep(POLL_S if wall > 1 else POLL_S / 10)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said = errors.read().strip().splitlines()
        failure = failure or (
            (said[-1] if said else f"exit code {child.returncode}") if child.returncode else ""
        )
        return Cost(
            wall_s=wall,
            cpu_s=used.ru_utime + used.ru_stime,
            peak=used.ru_maxrss * 1024,
            failure=failure,
            output=output.read(),
        )


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
