"""Jobs as processes of this machine, which survive the worker that started them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime import process, supervisor
from mlretrain.runtime.supervisor import CANCEL, END, LOG, RECORD, End, Record, read_record, write_json
from mlretrain_provider.backends.environment import Environments

KEPT_S = 7 * 24 * 3600.0
"""How long an ended job's folder stays, for whoever comes to read its log."""
_LOCK = ".lock"
_CHUNK = 1 << 20
_MARK = "MLRETRAIN_LOCAL_JOB"
_PACKAGES = Path(supervisor.__file__).parents[2]
_SUPERVISE = (
    f"import sys; sys.path.insert(0, sys.argv[1]);from {supervisor.__name__} import main; main(sys.argv[2])"
)
# Airflow's own variables for the task process; a job that speaks to that supervisor would confuse it.
_NOT_FOR_JOBS = ("_AIRFLOW_", "AIRFLOW_CTX_")
# What the numeric libraries read to know how many threads they may start.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "POLARS_MAX_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
# Seconds that a supervisor gets, beyond the grace period, to record the end.
_AFTERWARDS_S = 5.0
_PAUSE_S = 0.05

logger = logging.getLogger(__name__)


class LocalBackend:
    """Run each job below a supervisor process of its own, in a session of its own.

    A job's folder, keyed by its name, holds its record, log and end: a worker that takes over from one that
    died finds the job there instead of starting a second one.

    ``timeout_s`` holds whether or not anybody looks. ``memory`` is watched four times a second, in all
    processes of the job, which needs no rights; a job that takes all there is faster than that is left to the
    system. ``cpu`` is rounded up: on Linux the job is pinned to that many of the least used processors,
    elsewhere only told. GPUs are not shared out. All ``nodes`` run here. ``image`` is not used: the same
    pipeline runs in a container elsewhere and in a virtual environment, or this interpreter, here.

    :param state_dir: where the jobs' folders are; none: a private folder of this user below the system's
        temporary folder.
    :param grace_s: seconds between asking a job to stop and killing it.
    :param environments_dir: where virtual environments are kept; none: ``mlretrain/environments`` in the
        user's cache folder.
    :param command: the command that runs the step named by ``MLRETRAIN_REQUEST_URI``; none: the runtime.
    """

    remote = False

    def __init__(
        self,
        state_dir: str | Path | None = None,
        *,
        grace_s: float = 10.0,
        environments_dir: str | Path | None = None,
        command: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = Path(state_dir or Path(tempfile.gettempdir()) / f"mlretrain-jobs-{os.getuid()}")
        self._grace_s = grace_s
        self._environments = Environments(environments_dir)
        self._command = command
        self._clock = clock

    def submit(self, spec: JobSpec) -> str:
        """Start the job unless there is one of that name, be it running or ended.

        The first job with ``requirements`` waits until their environment is installed.
        """
        folder = self._folder(spec.name)
        if read_record(folder) is None:
            if spec.image:
                logger.info("The local backend runs %s without its image %s.", spec.name, spec.image)
            python = self._environments.python(spec.requirements) if spec.requirements else None
            try:
                with self._locked():
                    if read_record(folder) is None:
                        self._start(folder, spec, python)
                    self._sweep()
            except OSError as error:
                raise TransientError(
                    "the job cannot be started", where=str(folder), found=str(error)
                ) from error
        return str(folder)

    def status(self, handle: str) -> JobStatus:
        """The state now."""
        folder = Path(handle)
        record = read_record(folder)
        if record is None:
            return JobStatus(state="lost", reason="its folder is gone")
        alive = _is_alive(record)
        end = _read_end(folder)  # after the look, so that none is missed
        if end is None and alive:
            return JobStatus(state="running")
        return JobStatus(**(end or _clear_up(folder)))

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        """Whole lines since byte ``cursor``; bytes that are no UTF-8 show as ``\\xNN``."""
        offset = int(cursor or 0)
        ended = self.status(handle).ended
        try:
            with (Path(handle) / LOG).open("rb") as log:
                log.seek(offset)
                lines = log.readlines(_CHUNK)
        except FileNotFoundError:
            return "", cursor
        if lines and not ended and not lines[-1].endswith(b"\n"):
            lines.pop()  # more of it may come
        data = b"".join(lines)
        return data.decode("utf-8", "backslashreplace"), str(offset + len(data)) if data else cursor

    def cancel(self, handle: str) -> None:
        """SIGTERM to the process of each node; after the grace period SIGKILL to all that they started."""
        folder = Path(handle)
        record = read_record(folder)
        if record is None or self.status(handle).ended:
            return
        write_json(folder / CANCEL, self._grace_s)
        process.kill([record["pid"]], signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s + _AFTERWARDS_S
        while not self.status(handle).ended:
            if time.monotonic() > deadline:
                process.kill([record["pid"]])
            time.sleep(_PAUSE_S)

    def _start(self, folder: Path, spec: JobSpec, python: Path | None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runtime = (str(python or sys.executable), "-P", "-m", "mlretrain.runtime")
        cores = self._cores(spec)
        # -I and -S: what the job's environment does to Python is for the job.
        arguments = [sys.executable, "-I", "-S", "-c", _SUPERVISE, str(_PACKAGES), str(folder)]
        with process.held(sys.executable, arguments, _job_env(spec, folder, python), folder / LOG) as pid:
            record = Record(
                pid=pid,
                started=process.started_at(pid),
                at=self._clock(),
                command=list(self._command or runtime),
                nodes=spec.nodes,
                memory=spec.resources.memory,
                cores=cores,
                timeout_s=spec.timeout_s,
                grace_s=self._grace_s,
            )
            write_json(folder / RECORD, record)

    def _cores(self, spec: JobSpec) -> list[int] | None:
        """The processors that the fewest running jobs are pinned to; none if all are needed."""
        if spec.resources.cpu is None or sys.platform != "linux":
            return None
        allowed, wanted = os.sched_getaffinity(0), spec.nodes * math.ceil(spec.resources.cpu)
        if wanted >= len(allowed):
            return None
        running = [record for folder in self._folders() if (record := _running(folder))]
        used = Counter(core for record in running for core in record["cores"] or ())
        return sorted(sorted(allowed, key=lambda core: (used[core], core))[:wanted])

    def _sweep(self) -> None:
        """Remove the folders of jobs that ended long ago."""
        for folder in self._folders():
            with suppress(FileNotFoundError):  # somebody else removes it
                if self._clock() - folder.stat().st_mtime > KEPT_S and not _running(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return [each for each in self._root.iterdir() if each.name != _LOCK]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._root.lstat().st_uid != os.getuid():
            raise ConfigError(
                "the folder for jobs belongs to somebody else",
                where=str(self._root),
                remedy="Set TMPDIR to a folder of your own.",
            )
        with (self._root / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _folder(self, name: str) -> Path:
        clean = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:80]
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return self._root.absolute() / f"{clean}-{digest}"


def _is_alive(record: Record) -> bool:
    process.reap(record["pid"])
    started = process.started_at(record["pid"])
    return started is not None and started == record["started"]


def _running(folder: Path) -> Record | None:
    record = None if (folder / END).exists() else read_record(folder)
    return record if record is not None and _is_alive(record) else None


def _read_end(folder: Path) -> End | None:
    try:
        end: End = json.loads((folder / END).read_bytes())
    except FileNotFoundError:
        return None
    return end


def _clear_up(folder: Path) -> End:
    """The end of a job whose supervisor has died without a word; what is left of it is killed."""
    while left := process.marked(_MARK, str(folder)):
        process.kill(left)
        time.sleep(_PAUSE_S)
    if (folder / CANCEL).exists():
        end = End(state="cancelled", exit_code=None, reason="cancelled")
    else:
        end = End(state="failed", exit_code=None, reason="the job vanished without leaving an exit status")
    with suppress(FileNotFoundError):  # somebody has removed the folder
        write_json(folder / END, end)
    return end


def _job_env(spec: JobSpec, folder: Path, python: Path | None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_JOBS)}
    if python is not None:  # its own packages, and no others
        for name in ("PYTHONPATH", "PYTHONHOME"):
            env.pop(name, None)
        env["VIRTUAL_ENV"] = str(python.parents[1])
        env["PATH"] = os.pathsep.join((str(python.parent), env.get("PATH", os.defpath)))
    if spec.resources.cpu is not None:
        env.update(dict.fromkeys(_THREADS, str(math.ceil(spec.resources.cpu))))
    own = {"PYTHONUNBUFFERED": "1", "MLRETRAIN_REQUEST_URI": spec.request_uri, _MARK: str(folder)}
    return {**env, **own, **spec.env, **spec.secrets}
