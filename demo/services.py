"""Airflow, MLflow and the model server as processes on this machine, bound to loopback.

Everything they write stays below one folder; leaving the ``with`` block stops every process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

LOOPBACK = "127.0.0.1"
AIRFLOW_PARTS = {
    "api-server": ["api-server", "--host", LOOPBACK, "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
STOP_GRACE_S = 10


class ServiceError(RuntimeError):
    """A process did not come up or answered with an error."""


def free_port(preferred: int | None = None) -> int:
    """``preferred`` if nothing listens there, else a port that the system chose."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise ServiceError("no free port on loopback")


def call(
    url: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30,
) -> Any:
    """The JSON that ``url`` answers; raises :class:`ServiceError` with the body of an error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            text = answer.read().decode()
            return json.loads(text) if text.startswith(("{", "[")) else text
    except urllib.error.HTTPError as error:
        raise ServiceError(f"{url}: {error.code} {error.read().decode()[:500]}") from error


@dataclass(kw_only=True)
class Process:
    """One server in its own process group, with its output in a file."""

    name: str
    argv: list[str]
    env: Mapping[str, str]
    log: Path
    health_url: str | None = None
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.argv, env=dict(self.env), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_healthy(self, timeout_s: float = 120) -> None:
        """Return once the health URL answers; raises :class:`ServiceError` with the end of the log."""
        deadline = time.monotonic() + timeout_s
        while self.health_url and time.monotonic() < deadline:
            if self.running and self.running.poll() is not None:
                break
            with contextlib.suppress(ServiceError, OSError):
                call(self.health_url, timeout_s=2)
                return
            time.sleep(0.2)
        if self.health_url:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise ServiceError(f"{self.name} did not come up; the end of {self.log}:\n{tail}")

    def stop(self, *, kill: bool = False) -> None:
        """SIGTERM to the group, SIGKILL to what is left after a grace period (at once with ``kill``)."""
        if self.running is None:
            return
        group, self.running = self.running, None
        if not kill:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                group.wait(STOP_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group.pid, signal.SIGKILL)
        group.wait()


@dataclass(kw_only=True)
class Services:
    """The whole machine room.

    :param home: the folder that holds databases, artifacts, logs and predictions.
    :param dags: the folder with the pipelines.
    :param settings: more environment for Airflow, e.g. another scheduler setting.
    """

    home: Path
    dags: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {"airflow": free_port(8080), "mlflow": free_port(5000), "models": free_port(5002)}
        self.processes: dict[str, Process] = {}
        self.env = self._environment()
        self._token: str | None = None

    @property
    def airflow_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['airflow']}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['mlflow']}"

    @property
    def models_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['models']}"

    @property
    def predictions(self) -> Path:
        return self.home / "predictions"

    def _environment(self) -> dict[str, str]:
        bundle = {
            "name": "pipelines",
            "classpath": "mlretrain_provider.bundles.yaml.YamlDagBundle",
            "kwargs": {"path": str(self.dags), "refresh_interval": 10},
        }
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__API__BASE_URL": self.airflow_url,
            "AIRFLOW__API__PORT": str(self.ports["airflow"]),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "airflow" / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow/airflow.db",
            "AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS": f"file://{self.home}/artifacts",
            # The tasks of a scheduler that was killed are taken over in seconds instead of minutes.
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "3",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", "host": self.mlflow_url}),
            "AIRFLOW_CONN_MODEL_SERVER": json.dumps(
                {"conn_type": "mlretrain_model_server", "host": LOOPBACK, "port": self.ports["models"]}
            ),
            # How long a worker may not notice that its task is over; meanwhile it takes no other.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLRETRAIN_HOME": str(self.home),
            "PYTHONUNBUFFERED": "1",
            **self.settings,
        }

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._start_mlflow()
            self._start_models()
            self._start_airflow()
            for process in self.processes.values():
                process.wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything, what was started last first."""
        for process in reversed(self.processes.values()):
            process.stop()

    def restart(self, name: str, *, kill: bool = False) -> None:
        """Stop one process, by SIGKILL if ``kill``, and start it again."""
        self.processes[name].stop(kill=kill)
        self.processes[name].start()
        self.processes[name].wait_healthy()

    def forget_airflow(self) -> None:
        """Lose Airflow's database, with every run, XCom and connection in it, and start with an empty one."""
        for part in reversed(AIRFLOW_PARTS):
            self.processes[part].stop()
        for file in (self.home / "airflow").glob("airflow.db*"):
            file.unlink()
        self._start_airflow()
        for part in AIRFLOW_PARTS:
            self.processes[part].wait_healthy()

    def _start(self, name: str, argv: list[str], health_url: str | None = None) -> None:
        process = Process(
            name=name, argv=argv, env=self.env, log=self.home / "logs" / f"{name}.log", health_url=health_url
        )
        self.processes[name] = process
        process.start()

    def _start_mlflow(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.home}/mlflow.db"]
        artifacts = ["--artifacts-destination", str(self.home / "mlartifacts")]
        where = ["--host", LOOPBACK, "--port", str(self.ports["mlflow"]), "--workers", "1"]
        server = [sys.executable, "-m", "mlflow", "server"]
        self._start("mlflow", [*server, *store, *artifacts, *where], f"{self.mlflow_url}/health")

    def _start_models(self) -> None:
        folders = ["--log-dir", str(self.predictions), "--state-dir", str(self.home / "serving")]
        where = ["--host", LOOPBACK, "--port", str(self.ports["models"]), "--tracking-uri", self.mlflow_url]
        self._start(
            "model-server",
            [sys.executable, "-m", "mlretrain.serving", *where, *folders],
            f"{self.models_url}/health",
        )

    def _start_airflow(self) -> None:
        (self.home / "airflow").mkdir(parents=True, exist_ok=True)
        log = self.home / "logs" / "db-migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            migrated = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self.env, stdout=out, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if migrated.returncode:
            raise ServiceError(f"airflow db migrate failed; see {log}")
        for part, argv in AIRFLOW_PARTS.items():
            health = f"{self.airflow_url}/api/v2/monitor/health" if part == "api-server" else None
            self._start(part, [sys.executable, "-m", "airflow", *argv], health)

    def api(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        """Call Airflow's REST API (``path`` below ``/api/v2``)."""
        if self._token is None:
            self._token = call(f"{self.airflow_url}/auth/token")["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        return call(f"{self.airflow_url}/api/v2/{path}", body, method=method, headers=headers)

    def wait_for_dags(self, *dag_ids: str, timeout_s: float = 120) -> None:
        """Return once Airflow lists every DAG; raises :class:`ServiceError` with the import errors."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            known = {dag["dag_id"] for dag in self.api("dags?limit=1000")["dags"]}
            if known >= set(dag_ids):
                return
            time.sleep(0.3)
        errors = [error["stack_trace"] for error in self.api("importErrors")["import_errors"]]
        raise ServiceError(f"Airflow does not list {sorted(set(dag_ids) - known)}; import errors: {errors}")

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run as the button in the UI does."""
        body = {"dag_run_id": run_id, "conf": dict(conf), "logical_date": None}
        self.api(f"dags/{dag_id}/dagRuns", body)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """The run as Airflow tells it, or ``None`` if there is none."""
        with contextlib.suppress(ServiceError):
            return dict(self.api(f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}"))
        return None

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of each task of a run."""
        found = self.api(f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances?limit=200")
        return {task["task_id"]: task["state"] for task in found["task_instances"]}

    def wait(self, dag_id: str, run_id: str, timeout_s: float = 300) -> str:
        """The final state of a run."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            run = self.run(dag_id, run_id)
            if run and run["state"] in ("success", "failed"):
                return str(run["state"])
            time.sleep(0.25)
        raise ServiceError(
            f"{dag_id} {run_id} did not end in {timeout_s} s: {self.task_states(dag_id, run_id)}"
        )

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned, or ``None``."""
        task = f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances/{task_id}"
        with contextlib.suppress(ServiceError):
            value = self.api(f"{task}/xcomEntries/return_value?deserialize=false")["value"]
            return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
        return None

    def flush(self, model: str) -> None:
        """Have the model server write its prediction log now."""
        call(f"{self.models_url}/models/{model}/flush", {}, method="POST")

    def runs(self, dag_id: str) -> Iterator[dict[str, Any]]:
        """The runs of a DAG, the oldest first."""
        yield from self.api(f"dags/{dag_id}/dagRuns?limit=1000&order_by=run_after")["dag_runs"]
