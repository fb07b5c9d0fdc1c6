"""Virtual environments of the neighbours' own, made once with uv and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PYTHON = "3.11"


class Unavailable(Exception):
    """An environment that cannot be made here; the message says why in one line."""


def cache() -> Path:
    """Where environments and data are kept: ``MLRETRAIN_BENCHMARKS``, or below the user's cache folder."""
    given = os.environ.get("MLRETRAIN_BENCHMARKS")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else home / "mlretrain-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with exactly these requirements.

    :raises Unavailable: uv or the packages cannot be had.
    """
    digest = hashlib.sha256("\n".join([PYTHON, *requirements]).encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        _uv("venv", "--quiet", "--clear", "--python", PYTHON, str(folder))
        _uv("pip", "install", "--quiet", "--python", str(python), *requirements)
        (folder / "ready").touch()
    return python


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    command = [str(beside) if beside.exists() else "uv", *arguments]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    except FileNotFoundError:
        raise Unavailable("uv is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"uv {arguments[0]} took more than 15 minutes") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        raise Unavailable(lines[-1].strip() if lines else f"uv {arguments[0]} failed") from None
