"""The reason of a failure where the platform itself shows it, for whoever does not see the report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FAILURE_FILE = "MLRETRAIN_FAILURE_FILE"
"""The environment variable that names the file, such as ``/opt/ml/output/failure`` on SageMaker."""
LONGEST = 1000
"""Bytes; SageMaker shows a kilobyte of it."""


def tell_platform(reason: str, env: Mapping[str, str]) -> None:
    """Write ``reason`` to the file, if the platform reads one; if it cannot be written, it is not."""
    path = env.get(FAILURE_FILE)
    if path:
        data = reason.encode("utf-8", "replace")[:LONGEST]
        with suppress(OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(data.decode("utf-8", "ignore").encode())
