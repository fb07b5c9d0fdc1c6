"""An existing training script, run unchanged: it reads Parquet and logs a model to ``MLFLOW_RUN_ID``."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlretrain.errors import ConfigError, UserCodeError


def run_command(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Run ``command`` to its end, its output going to this process's as it comes.

    If this step is stopped, so is the command, by SIGTERM; how long it may take to save its work is for the
    platform to say, which kills both. What the command leaves behind is killed.

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
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if status:
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        raise UserCodeError(
            "the command failed",
            where="train.command",
            found=f"{how} of: {line}",
            remedy="Its output is above",
        )
