"""A real MLflow server for tests: SQLite, proxied artifacts, a free port on the loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.free_port import free_port

START_S = 90.0


@contextmanager
def mlflow_server(folder: Path | None = None) -> Iterator[str]:
    """The tracking URI of a server that lives as long as the block; its state is below ``folder``."""
    with tempfile.TemporaryDirectory(prefix="mlretrain-mlflow-") as scratch:
        root = folder or Path(scratch)
        port = free_port()
        log = root / "mlflow.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                _command(root, port),
                env={
                    **os.environ,
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            uri = f"http://127.0.0.1:{port}"
            _wait(server, uri, log)
            yield uri
        finally:
            _stop(server)


def _command(root: Path, port: int) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"),
        *("--artifacts-destination", str(root / "artifacts"), "--serve-artifacts"),
    ]


def _wait(server: subprocess.Popen[bytes], uri: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"no MLflow server at {uri}:\n{log.read_text(errors='replace')[-4000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    server.wait(10)
