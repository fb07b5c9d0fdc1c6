"""A real model server for tests, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """A running ``mlretrain serve``; its folders are ``predictions`` and ``state`` below ``folder``."""

    url: str
    folder: Path
    process: subprocess.Popen[str]

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def wait_ready(self) -> None:
        """Returns once ``/ready`` is 200."""
        try:
            wait_for(f"{self.url}/ready", self.process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}:\n{(self.folder / 'server.log').read_text()[-4000:]}") from None


def wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    """Returns once ``url`` answers with 200. Raises ``RuntimeError`` if it does not, or the process ends."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"no answer from {url}")


@contextmanager
def model_server(folder: Path, tracking_uri: str, *arguments: str, **env: str) -> Iterator[ModelServer]:
    """The server, ready, for as long as the block."""
    command = [sys.executable, "-m", "mlretrain.serving", "--tracking-uri", tracking_uri, "--port", "0"]
    command += ["--log-dir", str(folder / "predictions"), "--state-dir", str(folder / "state"), *arguments]
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the model server did not start:\n{(folder / 'server.log').read_text()}")
        server = ModelServer(url=line.split()[-1], folder=folder, process=process)
        server.wait_ready()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
