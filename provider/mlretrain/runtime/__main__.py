"""``python -m mlretrain.runtime [REQUEST_URI]``: one step as one process; the exit code says how it ended.

Environment: ``MLRETRAIN_REQUEST_URI`` (unless given as argument), ``MLRETRAIN_ATTEMPT`` (default 1),
``MLRETRAIN_CODE_PATHS`` (folders with the user's code, as in ``PATH``), and what
:mod:`mlretrain.runtime.node`, :mod:`mlretrain.runtime.secrets` and :mod:`mlretrain.runtime.failure` say.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mlretrain.errors import ConfigError, MlretrainError, from_wire
from mlretrain.runtime.failure import tell_platform
from mlretrain.runtime.node import Node
from mlretrain.runtime.runner import redact, run_step
from mlretrain.runtime.secrets import fetch_secrets

GC_THRESHOLD = 500_000
"""Objects allocated before garbage is looked for. A job is short-lived and begins by importing a million
objects that stay: at Python's default of 700 the collector takes a fifth of the time of such an import."""


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the step and return its exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    try:
        found = fetch_secrets(env)
        node = Node.of(env)
        if node.world_size > 1:  # what the user's libraries look for, whatever the platform calls it
            found |= node.env()
        os.environ.update(found)
        env = {**env, **found}
        report = run_step(_request_uri(argv, env), attempt=_attempt(env), env=env)
    except MlretrainError as error:
        logging.getLogger("mlretrain").error("%s", redact(str(error), env))
        tell_platform(_reason(error, env), env)
        return error.exit_code
    if report.error is not None:
        tell_platform(_reason(from_wire(report.error), env), env)
    return report.exit_code


def _reason(error: MlretrainError, env: Mapping[str, str]) -> str:
    return redact(f"{type(error).__name__}: {error} (exit code {error.exit_code})", env)


def _request_uri(argv: Sequence[str], env: Mapping[str, str]) -> str:
    given = [*argv, *([env["MLRETRAIN_REQUEST_URI"]] if env.get("MLRETRAIN_REQUEST_URI") else [])]
    if not given or len(argv) > 1:
        raise ConfigError(
            "one request is needed",
            found=f"{len(argv)} arguments",
            remedy="Run python -m mlretrain.runtime <request-uri>, or set MLRETRAIN_REQUEST_URI.",
        )
    return given[0]


def _attempt(env: Mapping[str, str]) -> int:
    text = env.get("MLRETRAIN_ATTEMPT") or "1"
    if not text.isdecimal():
        raise ConfigError("not a number", where="MLRETRAIN_ATTEMPT", found=repr(text), allowed="1, 2, …")
    return int(text)


def leave(code: int) -> NoReturn:
    """End the process as ``sys.exit`` does, without taking a million imported objects apart first.

    What the interpreter promises at its end is kept: threads are waited for, exit functions run, streams are
    flushed (``Py_FinalizeEx`` does the same in this order).
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    os.environ.setdefault(
        "GIT_PYTHON_REFRESH", "quiet"
    )  # else MLflow's GitPython tells images without git so
    gc.set_threshold(GC_THRESHOLD)
    sys.path[:0] = [path for path in os.environ.get("MLRETRAIN_CODE_PATHS", "").split(os.pathsep) if path]
    leave(main(sys.argv[1:], os.environ))
