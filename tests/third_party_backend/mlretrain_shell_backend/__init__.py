"""A backend in a hundred lines: each job is a shell that runs the step and writes down how it ended.

It shows what a third party has to do, and is installed and held to the conformance suite by the tests. The
shell, ``setsid`` and ``timeout`` do the work.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mlretrain.ports import JobSpec, JobStatus
from mlretrain.runtime.contract import dns_label

_TIMED_OUT = 124  # by timeout(1)
_SCRIPT = """cd "$1" && shift && trap : TERM
echo $$ > pid.new && mv pid.new pid
"$@" > log 2>&1 < /dev/null
echo $? > exit.new && mv exit.new exit
"""


class ShellBackend:
    """Run jobs below ``folder``, which every worker sees.

    :param command: what runs the step named by ``MLRETRAIN_REQUEST_URI``.
    :param grace_s: seconds between SIGTERM and SIGKILL.
    """

    remote = False

    def __init__(
        self,
        folder: str,
        *,
        command: Sequence[str] = (sys.executable, "-P", "-m", "mlretrain.runtime"),
        grace_s: float = 5.0,
    ) -> None:
        self._folder = Path(folder)
        self._command = tuple(command)
        self._grace_s = grace_s

    def submit(self, spec: JobSpec) -> str:
        """Whoever makes the job's folder starts the job."""
        folder = self._folder / dns_label(spec.name, 80)
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir()
            limit_s = spec.timeout_s or 0
            (folder / "limit").write_text(f"{limit_s:g}")
            limited = (
                "timeout",
                "--foreground",
                f"--kill-after={self._grace_s}",
                str(limit_s),
                *self._command,
            )
            env = {**os.environ, "MLRETRAIN_REQUEST_URI": spec.request_uri, **spec.env, **spec.secrets}
            command = ("setsid", "--fork", "sh", "-c", _SCRIPT, "job", str(folder), *limited)
            subprocess.run(command, env=env, check=True)
        return str(folder)

    def status(self, handle: str) -> JobStatus:
        """As the shell has written it down."""
        folder = Path(handle)
        if not folder.exists():
            return JobStatus(state="lost", reason="its folder is gone")
        pid = _read(folder / "pid")
        alive = pid is not None and Path(f"/proc/{pid}").exists()
        code = _read(folder / "exit")  # after the look at the process, so that no end is missed
        if code is None:
            if pid is None:
                return JobStatus(state="pending")
            return JobStatus(state="running") if alive else JobStatus(state="failed", reason="it vanished")
        if code == "0":
            return JobStatus(state="succeeded", exit_code=0)
        if (folder / "cancel").exists():
            return JobStatus(state="cancelled", exit_code=int(code), reason="cancelled")
        if int(code) == _TIMED_OUT:
            return JobStatus(state="failed", reason=f"timed out after {_read(folder / 'limit')} s")
        return JobStatus(state="failed", exit_code=int(code), reason=f"exit status {code}")

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        """Whole lines; the cursor counts bytes."""
        ended = self.status(handle).ended
        try:
            with (Path(handle) / "log").open("rb") as log:
                log.seek(int(cursor or 0))
                lines = log.readlines(1 << 20)
        except FileNotFoundError:
            return "", cursor
        if lines and not ended and not lines[-1].endswith(b"\n"):
            lines.pop()
        data = b"".join(lines)
        return data.decode(errors="backslashreplace"), str(int(cursor or 0) + len(data)) if data else cursor

    def cancel(self, handle: str) -> None:
        """The shell outlives SIGTERM and notes the job's end."""
        folder = Path(handle)
        while self.status(handle).state == "pending":
            time.sleep(0.01)
        if self.status(handle).ended:
            return
        (folder / "cancel").touch()
        group = int(_read(folder / "pid") or 0)
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while not self.status(handle).ended:
            if time.monotonic() > deadline:
                (folder / "exit").write_text("137")
                os.killpg(group, signal.SIGKILL)
            time.sleep(0.05)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
