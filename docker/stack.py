"""The stack of ``docker-compose.yml`` on an engine, with what a check asks of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONDITION_S = 600.0


class StackError(RuntimeError):
    """The stack did not do what it should."""


def until(what: Callable[[], Any], told: str, timeout_s: float = CONDITION_S) -> Any:
    """The first truthy answer of ``what``; a service that is down meanwhile is no answer."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except (OSError, StackError) as error:
            last = error
        time.sleep(0.3)
    raise StackError(f"{told}: not within {timeout_s:g} s ({last})")


def run(*command: str, log: Path | None = None) -> str:
    """What a command prints; raises :class:`StackError` with the end of its output."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode(errors="replace")
    if log:
        log.write_text(output)
    if done.returncode:
        raise StackError(f"{' '.join(command)}: status {done.returncode}\n{output[-3000:]}")
    return output


def engine() -> str | None:
    """The version of the engine that answers, if one does."""
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None if asked.returncode == 0 else None


@dataclass(kw_only=True)
class Stack:
    """One project of compose.

    :param env_file: its ``.env``.
    """

    env_file: Path
    project: str = "mlretrain-check"
    settings: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        lines = self.env_file.read_text().splitlines()
        self.settings = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
        self._token: str | None = None

    def compose(self, *command: str) -> str:
        """Run ``docker compose``."""
        return run(
            "docker", "compose", "--project-name", self.project, "--env-file", str(self.env_file), *command
        )

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows about the container of each service."""
        ids = self.compose("ps", "--all", "--quiet").split()
        told = json.loads(run("docker", "inspect", *ids)) if ids else []
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in told}

    def kill(self, service: str) -> None:
        """End a service as a crash does, so that its restart policy is what brings it back."""
        container = self.containers()[service]
        number = container["State"]["Pid"]
        with contextlib.suppress(OSError):
            if container["Id"] in Path(f"/proc/{number}/cgroup").read_text():
                os.kill(number, signal.SIGKILL)
                return
        # The engine is on another machine, and takes its own command for a wish that it stays down.
        run("docker", "kill", container["Id"])
        run("docker", "start", container["Id"])

    def is_healthy(self, service: str) -> bool:
        """Whether a service is up and well."""
        state = self.containers()[service]["State"]
        return bool(state["Running"]) and state.get("Health", {}).get("Status") == "healthy"

    def url(self, port: str) -> str:
        """The address of a published port, by the name of its setting."""
        return f"http://127.0.0.1:{self.settings[port]}"

    @property
    def s3_env(self) -> dict[str, str]:
        """The variables that open the stack's S3 from here."""
        return {
            "AWS_ENDPOINT_URL": self.url("S3_PORT"),
            "AWS_ACCESS_KEY_ID": self.settings["S3_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": self.settings["S3_SECRET_KEY"],
            "AWS_REGION": "us-east-1",
        }

    def airflow(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Call Airflow's REST API, logged in with the password of ``.env``."""
        base = self.url("AIRFLOW_PORT")
        if self._token is None:
            login = {"username": self.settings["AIRFLOW_USER"], "password": self.settings["AIRFLOW_PASSWORD"]}
            self._token = call(f"{base}/auth/token", login)["access_token"]
        return call(f"{base}/api/v2/{path}", body, method=method, token=self._token)

    def page(self, path: str) -> bytes:
        """A page of Airflow's server, as somebody who is logged in sees it."""
        request = urllib.request.Request(self.url("AIRFLOW_PORT") + path)
        request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def mlflow(self, path: str, body: Any = None) -> Any:
        """Call MLflow's REST API."""
        return call(f"{self.url('MLFLOW_PORT')}/api/2.0/mlflow/{path}", body)

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """The tasks of a run."""
        path = f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances?limit=200"
        return {task["task_id"]: task for task in self.airflow(path)["task_instances"]}


def call(url: str, body: Any = None, *, method: str | None = None, token: str | None = None) -> Any:
    """The JSON that ``url`` answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise StackError(f"{url}: {error.code} {error.read().decode(errors='replace')[:300]}") from error


def say(text: str = "") -> None:
    """One line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
