"""Packages in a virtual environment of their own, installed by uv or pip, whichever there is.

Both read their usual configuration and variables, such as ``UV_INDEX_URL``, ``PIP_INDEX_URL``,
``UV_CONSTRAINT``, ``PIP_CONSTRAINT``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mlretrain.errors import TransientError, UnmetRequirements
from mlretrain.runtime.runner import redact

INSTALL_S = 1800.0
"""How long an installation may take."""
WHERE = "train.environment.requirements"
"""Where pipelines say what they require."""

_LAST_LINES = 20
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
# What uv and pip say when the index does not answer, and what the system says when there is no room.
_NOT_THEIR_FAULT = re.compile(
    r"error sending request|dns error|name resolution|failed to establish a new connection|timed out"
    r"|connection (refused|reset|broken)|HTTP status server error"
    r"|permission denied|no space left on device|disk quota exceeded|read-only file system",
    re.IGNORECASE,
)
# Where uv and pip say what the matter is.
_CAUSE = re.compile(r".*(?:cause:|╰─▶|ERROR:)\s*(.*)", re.DOTALL)
_LONGEST_CAUSE = 400


def checked(requirement: str) -> str:
    """The requirement, without spaces around it. Raises :class:`UnmetRequirements` if it names no package."""
    text = requirement.strip()
    if not text or text.startswith(("-", "#")) or "\n" in text:
        raise UnmetRequirements(
            "not a package",
            where=WHERE,
            found=repr(requirement),
            allowed="name, name==1.2.3, name @ https://…",
            remedy="Options of the installer are for its variables, such as PIP_INDEX_URL and UV_INDEX_URL.",
        )
    return text


def install(
    target: Path, packages: Sequence[str], named: Sequence[str], env: Mapping[str, str] = os.environ
) -> Path:
    """The interpreter of a new environment at ``target`` with ``packages`` and what they need.

    :param named: those of the packages that somebody asked for, for the message.
    :param env: the installer's variables.
    :raises UnmetRequirements: it cannot be installed; the message ends with the installer's last lines.
    :raises TransientError: the package index does not answer, or there is no room.
    """
    env = {name: value for name, value in env.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    python, asked = target / "bin" / "python", target / "requirements.txt"
    uv = _uv()
    if uv:
        run([*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(target)], named, env)
        command = [*uv, "pip", "install", "--no-progress", "--color", "never", "--python", str(python)]
    else:
        run([sys.executable, "-m", "venv", str(target)], named, env)
        options = ("--no-input", "--disable-pip-version-check", "--quiet")
        command = [str(python), "-m", "pip", "install", *options]
    asked.write_text("\n".join(packages))
    run([*command, "--requirement", str(asked)], named, env)
    return python


def run(command: Sequence[str], named: Sequence[str], env: Mapping[str, str]) -> None:
    """Run a command of an installation; raises as :func:`install` does."""
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"the requirements were not installed within {INSTALL_S:g} s") from error
    if done.returncode == 0:
        return
    said = _CREDENTIALS.sub("://***@", redact("\n".join(done.stdout.splitlines()[-_LAST_LINES:]), env))
    kind = TransientError if _NOT_THEIR_FAULT.search(done.stdout) else UnmetRequirements
    raise kind(
        "the requirements cannot be installed",
        where=WHERE,
        found=", ".join(named),
        remedy=f"The installer said:\n{said}",
    )


def cause(error: UnmetRequirements) -> str:
    """What the installer gave as the cause, on one line."""
    found = _CAUSE.fullmatch(error.remedy or "")
    return " ".join((found[1] if found else f"{error.message}: {error.found}").split())[:_LONGEST_CAUSE]


def _uv() -> list[str] | None:
    """The command that is uv, on the PATH, beside this interpreter or as a module; ``None`` without it."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    program = shutil.which("uv", path=places)
    if program:
        return [program]
    return [sys.executable, "-m", "uv"] if find_spec("uv") else None
