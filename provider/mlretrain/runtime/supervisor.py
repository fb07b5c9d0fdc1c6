"""The process beside a local job: starts it, keeps it within its limits, and records how it ended.

It needs nobody: the worker that started it may die. Imports only the standard library, to start at once.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypedDict

from mlretrain.runtime import process
from mlretrain.runtime.wakeups import Wakeups

RECORD, LOG, END, CANCEL = "job.json", "log", "end.json", "cancel.json"
LOOK_S = 0.25
"""Seconds between two looks at the job's memory; more where a look takes more than a twentieth of that."""
NEVER = math.inf
_NOT_STARTED = 127  # as a shell says it


class Record(TypedDict):
    """``job.json``: which process supervises the job, and what it was told.

    ``at`` is in seconds since the epoch, ``memory`` in bytes for each node; ``cores`` are the processors that
    all nodes share.
    """

    pid: int
    started: str | None
    at: float
    command: list[str]
    nodes: int
    memory: int | None
    cores: list[int] | None
    timeout_s: float | None
    grace_s: float


class End(TypedDict):
    """``end.json``: how the job ended."""

    state: Literal["succeeded", "failed", "cancelled"]
    exit_code: int | None
    reason: str | None


def main(path: str) -> None:
    """Supervise the job of the folder if it is on record; its starter may have died before it wrote that."""
    sys.stdin.read()  # ends when the record is written
    folder = Path(path)
    record = read_record(folder)
    if record is not None and record["pid"] == os.getpid():
        write_json(folder / END, Supervisor(folder, record).run())


def read_record(folder: Path) -> Record | None:
    """The job of ``folder``; ``None`` if there is none."""
    try:
        record: Record = json.loads((folder / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return record


def write_json(path: Path, content: Record | End | float) -> None:
    """Replace the file as a whole."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(json.dumps(content))
    new.replace(path)


class Supervisor:
    """One job, from its start to its end; times are those of the monotonic clock."""

    def __init__(self, folder: Path, job: Record) -> None:
        self._folder = folder
        self._job = job
        self._running: dict[int, int] = {}  # pid → rank
        self._failed: tuple[int, int] | None = None  # the first one: rank, exit code
        self._why: tuple[Literal["failed", "cancelled"], str] | None = None
        self._deadline = NEVER if job["timeout_s"] is None else time.monotonic() + job["timeout_s"]
        self._kill_at = NEVER
        self._look_at = NEVER if job["memory"] is None else 0.0
        self._wakeups = Wakeups()

    def run(self) -> End:
        """Start the nodes and wait for them; what they leave behind is killed."""
        process.adopt_orphans()
        if self._job["cores"] and sys.platform == "linux":
            os.sched_setaffinity(0, self._job["cores"])
        self._start()
        while self._running:
            self._wakeups.wait(min(self._deadline, self._kill_at, self._look_at))
            self._reap()
            self._check(time.monotonic())
        while left := process.descendants(os.getpid()):
            process.kill(left)
            self._wakeups.wait(time.monotonic() + LOOK_S)
            self._reap()
        self._wakeups.close()
        return self._end()

    def _start(self) -> None:
        nodes, command = self._job["nodes"], self._job["command"]
        port = _free_port() if nodes > 1 else None
        for rank in range(nodes):
            env = dict(os.environ) if port is None else {**os.environ, **_node_env(rank, nodes, port)}
            output = 1 if nodes == 1 else self._wakeups.lines_of(f"[{rank}] ")
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ]
            try:
                pid = os.posix_spawnp(
                    command[0], command, env, file_actions=actions, setsigdef=[signal.SIGPIPE]
                )
            except OSError as error:
                self._stop("failed", f"the command cannot be started: {command[0]}: {error.strerror}", 0.0)
                self._failed = self._failed or (rank, _NOT_STARTED)
            else:
                self._running[pid] = rank
            if nodes > 1:
                os.close(output)

    def _reap(self) -> None:
        """Take note of the nodes that have ended, and let go of orphans that have."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                rank, code = self._running.pop(pid, None), os.waitstatus_to_exitcode(status)
                if rank is not None and code != 0 and self._failed is None:
                    self._failed = rank, code if code > 0 else 128 - code

    def _check(self, now: float) -> None:
        if self._wakeups.told_to_stop and self._why is None:
            try:
                self._stop("cancelled", "cancelled", json.loads((self._folder / CANCEL).read_bytes()))
            except FileNotFoundError:
                self._stop("failed", "the job was told to stop by SIGTERM", self._job["grace_s"])
        if now >= self._deadline:
            self._deadline = NEVER
            self._stop("failed", f"timed out after {self._job['timeout_s']:g} s", self._job["grace_s"])
        if now >= self._look_at:
            self._look(now)
        if self._failed and self._running and self._why is None:
            self._stop("failed", _explain(*self._failed, self._job["nodes"]), self._job["grace_s"])
        if now >= self._kill_at:
            process.kill(process.descendants(os.getpid()))
            self._kill_at = now + LOOK_S  # for what is being started meanwhile

    def _look(self, now: float) -> None:
        """Kill the job if its nodes use more memory than they may.

        The dearer measures come last, and twice: a process that forks between two readings counts double.
        """
        nodes, each = self._job["nodes"], self._job["memory"] or 0
        pids = process.descendants(os.getpid())
        measures = (process.memory_of, process.own_memory_of, process.own_memory_of)
        if all(measure(pids) > nodes * each for measure in measures):
            its = _size(each) if nodes == 1 else f"{nodes} × {_size(each)}"
            self._why = "failed", f"OOMKilled: the job used more than its {its}"
            self._kill_at = now
        self._look_at = now + max(LOOK_S, 20 * (time.monotonic() - now))

    def _stop(self, state: Literal["failed", "cancelled"], reason: str, grace_s: float) -> None:
        """Ask the nodes to end, and no longer than ``grace_s`` seconds from now; the first reason counts.

        Only the nodes' own processes are asked: one whose helpers vanish cannot save its work.
        """
        self._why = self._why or (state, reason)
        process.kill(self._running, signal.SIGTERM)
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)

    def _end(self) -> End:
        if self._failed is None:
            return End(state="succeeded", exit_code=0, reason=None)
        rank, code = self._failed
        state, reason = self._why or ("failed", _explain(rank, code, self._job["nodes"]))
        return End(state=state, exit_code=code, reason=reason)


def _node_env(rank: int, nodes: int, port: int) -> dict[str, str]:
    from mlretrain.runtime.node import Node

    return Node(rank=rank, world_size=nodes, master_port=port).env()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _explain(rank: int, code: int, nodes: int) -> str:
    who = "the job" if nodes == 1 else f"node {rank} of {nodes}"
    if code <= 128:
        return f"{who} exited with status {code}"
    number = code - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"{who} was ended by {name}{hint}"


def _size(count: int) -> str:
    """Bytes as Kubernetes writes them."""
    for unit, one in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if count % one == 0:
            return f"{count // one}{unit}"
    return str(count)
