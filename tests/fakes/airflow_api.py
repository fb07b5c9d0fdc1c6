"""The part of Airflow's API v2 that starts runs and follows them, in this process."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ADMIN = "everybody's"
Answer = tuple[int, dict[str, Any]]


@dataclass
class Run:
    """One DAG run; it is in each of ``states`` for one look, in the last one for ever."""

    conf: dict[str, Any]
    states: list[str]

    @property
    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@dataclass
class FakeAirflow:
    """Answers as Airflow 3.3 does.

    :param users: passwords by name; none: everybody is admin.
    :param states: what a new run goes through.
    :param result: what the task ``roll_back`` returns.
    """

    dags: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    states: tuple[str, ...] = ("queued", "running", "success")
    result: Any = None
    runs: dict[str, Run] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, url: str, token: str | None, body: Any) -> Answer:
        path = unquote(urlsplit(url).path)
        if path == "/auth/token":
            return self._sign_in(method, body)
        if token not in {ADMIN if not self.users else None, *(f"token of {name}" for name in self.users)}:
            return 401, {"detail": "Not authenticated"}
        found = re.fullmatch(r"/api/v2/dags/([^/]+)(?:/dagRuns(?:/([^/]+)(/.*)?)?)?", path)
        if found is None or found[1] not in self.dags:
            return 404, {"detail": f"The Dag with ID: `{found and found[1]}` was not found"}
        if "/dagRuns" not in path:
            return 200, {"is_paused": False, "is_stale": False, "has_import_errors": False} | self.dags[
                found[1]
            ]
        if method == "POST":
            return self._trigger(body)
        return self._look(found[2], found[3] or "", parse_qs(urlsplit(url).query))

    def _sign_in(self, method: str, body: Any) -> Answer:
        if method == "GET":
            return (403, {"detail": "no"}) if self.users else (201, {"access_token": ADMIN})
        known = self.users.get(body["username"]) == body["password"]
        return (201, {"access_token": f"token of {body['username']}"}) if known else (401, {"detail": "no"})

    def _trigger(self, body: Any) -> Answer:
        if body["dag_run_id"] in self.runs:
            return 409, {"detail": "DagRun already exists"}
        self.posted.append(body)
        self.runs[body["dag_run_id"]] = Run(body["conf"], list(self.states))
        return 200, {"dag_run_id": body["dag_run_id"], "state": "queued"}

    def _look(self, run_id: str | None, rest: str, query: dict[str, list[str]]) -> Answer:
        if run_id is None:
            prefix = query["run_id_pattern"][0].rstrip("%")
            runs = [{"dag_run_id": key, "state": run.states[0]} for key, run in self.runs.items()]
            runs = [each for each in runs if each["dag_run_id"].startswith(prefix)]
            return 200, {"dag_runs": runs, "total_entries": len(runs)}
        if rest.endswith("/xcomEntries/return_value"):
            return (200, {"value": self.result}) if self.result else (404, {"detail": "XCom not found"})
        if rest.startswith("/taskInstances"):
            tasks = [{"task_id": "roll_back", "state": "failed"}, {"task_id": "record", "state": "success"}]
            return 200, {"task_instances": tasks}
        return 200, {"dag_run_id": run_id, "state": self.runs[run_id].state}


@contextmanager
def fake_airflow(**settings: Any) -> Iterator[FakeAirflow]:
    """An Airflow that runs as long as the block."""
    airflow = FakeAirflow(**settings)

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            body = json.loads(text) if text else None
            status, found = airflow.answer(self.command, self.path, token, body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def log_message(self, *args: object) -> None:
            """Nothing: tests look at ``posted``."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        airflow.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield airflow
        finally:
            server.shutdown()
            thread.join()
