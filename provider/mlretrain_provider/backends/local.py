"""Jobs as processes of this machine, which survive the worker that started them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, cast

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain_provider.backends import process

# The shell starts the job once its starter has put it on record; a starter that dies before starts nothing.
# It waits for the job, also when the whole group is asked to stop, so that its end is on record even if
# nobody is there to see it.
_RECORD_END = """read go || exit 125
trap : TERM INT HUP
exit_file=$1
shift
"$@" < /dev/null
code=$?
echo $code > "$exit_file.new" && mv "$exit_file.new" "$exit_file"
"""
_LOCK = ".lock"
# Airflow's own variables for the task process; a job that speaks to that supervisor would confuse it.
_NOT_FOR_JOBS = ("_AIRFLOW_", "AIRFLOW_CTX_")
CANCELLED = "cancelled"
_CHUNK = 1 << 20
KEPT_S = 7 * 24 * 3600.0
"""How long an ended job's folder stays, for whoever comes to read its log."""


class _Job(TypedDict):
    """``job.json``: which process it is, when it was started, how many seconds it may take."""

    pid: int
    started: str | None
    at: float
    timeout_s: float | None


class LocalBackend:
    """Run each job as a subprocess in a process group of its own.

    A job's folder, keyed by its name, holds its process, log and exit status: a worker that takes over from
    one that died finds the job there instead of starting a second one.

    :param state_dir: where the jobs' folders are; none: a private folder of this user below the system's
        temporary folder.
    :param grace_s: seconds between asking a job to stop and killing it.
    :param command: the command that runs the step named by ``MLRETRAIN_REQUEST_URI``.
    """

    remote = False

    def __init__(
        self,
        state_dir: str | Path | None = None,
        *,
        grace_s: float = 10.0,
        command: Sequence[str] = (sys.executable, "-P", "-m", "mlretrain.runtime"),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = Path(state_dir or Path(tempfile.gettempdir()) / f"mlretrain-{os.getuid()}" / "jobs")
        self._grace_s = grace_s
        self._command = command
        self._clock = clock

    def submit(self, spec: JobSpec) -> str:
        """Start the job unless there is one of that name, be it running or ended."""
        folder = self._folder(spec.name)
        with _locked(_lock_of(folder)):
            if _read_job(folder) is None:
                self._start(folder, spec)
        self._sweep()
        return str(folder)

    def status(self, handle: str) -> JobStatus:
        """The state now. A job past its ``timeout_s`` is cancelled by whoever looks."""
        folder = Path(handle)
        job = _read_job(folder)
        if job is None:
            return JobStatus(state="lost", reason="its folder is gone")
        if not self._is_alive(folder):
            return _ended(folder)
        timeout_s = job["timeout_s"]
        if timeout_s is not None and self._clock() - job["at"] > timeout_s:
            self._end(folder, job, f"timed out after {timeout_s:g} s")
            return _ended(folder)
        return JobStatus(state="running")

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        """Text since byte ``cursor``; bytes that are no UTF-8 show as ``\\xNN``."""
        offset = int(cursor or 0)
        ended = not self._is_alive(Path(handle))
        try:
            with (Path(handle) / "log").open("rb") as log:
                log.seek(offset)
                data = log.read(_CHUNK)
        except FileNotFoundError:
            return "", cursor
        if not ended or len(data) == _CHUNK:
            data = _without_partial_character(data)
        return data.decode("utf-8", "backslashreplace"), str(offset + len(data)) if data else cursor

    def cancel(self, handle: str) -> None:
        """SIGTERM to the job's whole group, after the grace period SIGKILL."""
        folder = Path(handle)
        job = _read_job(folder)
        if job is not None and self._is_alive(folder):
            self._end(folder, job, CANCELLED)

    def _start(self, folder: Path, spec: JobSpec) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        command = ["sh", "-c", _RECORD_END, "mlretrain-job", str(folder / "exit"), *self._command]
        env = {**_job_env(spec), "MLRETRAIN_REQUEST_URI": spec.request_uri}
        with process.held(command, env, folder / "log") as pid:
            job = _Job(pid=pid, started=process.started_at(pid), at=self._clock(), timeout_s=spec.timeout_s)
            _write(folder / "job.json", json.dumps(job))

    def _sweep(self) -> None:
        """Remove the folders of jobs that ended long ago."""
        for folder in self._root.iterdir():
            if folder.suffix == _LOCK or self._clock() - _changed_at(folder) < KEPT_S:
                continue
            with _locked(_lock_of(folder)):
                if not self._is_alive(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def _end(self, folder: Path, job: _Job, why: str) -> None:
        _write(folder / "why", why)
        process.end_group(job["pid"], lambda: self._is_alive(folder), grace_s=self._grace_s)

    def _is_alive(self, folder: Path) -> bool:
        job = _read_job(folder)
        if job is None:
            return False
        process.reap(job["pid"])
        started = process.started_at(job["pid"])
        return started is not None and started == job["started"]

    def _folder(self, name: str) -> Path:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._root.stat().st_uid != os.getuid():
            raise ConfigError(
                "the folder for jobs belongs to somebody else",
                where=str(self._root),
                remedy="Set TMPDIR to a folder of your own.",
            )
        clean = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:80]
        return self._root / f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _changed_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another worker was quicker
        return math.inf


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _job_env(spec: JobSpec) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_JOBS)}
    return {**kept, "PYTHONUNBUFFERED": "1", **spec.env, **spec.secrets}


def _read_job(folder: Path) -> _Job | None:
    try:
        return cast("_Job", json.loads((folder / "job.json").read_bytes()))
    except FileNotFoundError:
        return None


def _ended(folder: Path) -> JobStatus:
    exit_code = int(_text(folder / "exit") or -1)
    why = _text(folder / "why")
    if exit_code == 0:
        return JobStatus(state="succeeded", exit_code=0)
    if why == CANCELLED:
        return JobStatus(state="cancelled", exit_code=exit_code, reason=why)
    if exit_code == -1:
        return JobStatus(state="failed", reason=why or "the job vanished without leaving an exit status")
    return JobStatus(state="failed", exit_code=exit_code, reason=why or _explain(exit_code))


def _explain(exit_code: int) -> str:
    if exit_code <= 128:
        return f"the job exited with status {exit_code}"
    number = exit_code - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"the job was ended by {name}{hint}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _without_partial_character(data: bytes) -> bytes:
    """``data`` up to its last whole UTF-8 character; bytes that can never be one are kept."""
    for length in range(1, min(4, len(data)) + 1):
        lead = data[-length]
        if lead & 0b1100_0000 != 0b1000_0000:
            needed = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
            return data[:-length] if needed > length else data
    return data
