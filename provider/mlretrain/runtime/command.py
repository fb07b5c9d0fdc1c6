"""An existing training script, run unchanged: it reads Parquet and logs a model to ``MLFLOW_RUN_ID``."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from mlretrain.errors import ConfigError, UserCodeError

GRACE_S = 10.0


def run_command(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Run ``command`` to its end, its output going to this process's as it comes.

    It has a process group of its own, which is ended with it: first by SIGTERM, after ``GRACE_S`` by SIGKILL.

    :raises UserCodeError: it exits with another status than 0.
    :raises ConfigError: it cannot be started.
    """
    sys.stdout.flush()
    line = shlex.join(command)
    try:
        process = subprocess.Popen(list(command), env=dict(env), start_new_session=True)  # noqa: S603
    except OSError as error:
        raise ConfigError(
            f"the command cannot be started: {error.strerror}", where="train.command", found=line
        ) from error
    try:
        status = process.wait()
    finally:
        _end_group(process)
    if status:
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        raise UserCodeError(
            "the command failed",
            where="train.command",
            found=f"{how} of: {line}",
            remedy="Its output is above",
        )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
