"""The flights pipeline on the stack, and what a retraining leaves behind outside Airflow."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stack import ROOT, Stack, StackError, call, until

from mlretrain.runtime.store import open_store

PIPELINE = "flight-delay"
DAG = f"{PIPELINE}.retrain"
ARTIFACTS = "s3://mlretrain/artifacts"
LOGGED_S = 25.0
"""Seconds until an answered request is in S3: the server flushes in 10, the copy looks every 10."""

ONCE = ("registered", "gated", "concluded")
"""What the ledger must say of a finished run, each exactly once."""

FLIGHT = {
    "flight_id": 1, "sched_dep_time": "2013-06-01 14:00:00+00:00", "sched_hour": 10, "day_of_week": 5,
    "carrier": "UA", "origin": "EWR", "dest": "ORD", "distance": 719, "temp": 70.0, "dewp": 55.0,
    "humid": 60.0, "wind_speed": 8.0, "precip": 0.0, "visib": 10.0, "pressure": 1015.0,
}  # fmt: skip


def furnish(folder: Path) -> None:
    """The example with ``stack: compose`` in its place, and a guard that a busy machine does not trip."""
    for source in (ROOT / "example_dags").rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            target = folder / source.relative_to(ROOT / "example_dags")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    file = folder / f"{PIPELINE}.pipeline.yaml"
    text = file.read_text().replace("stack: local", "stack: compose")
    file.write_text(text.replace("latency_p95_ms, max: 500", "latency_p95_ms, max: 5000"))
    for other in folder.glob("*.py"):
        other.unlink()


def upload(stack: Stack, every: int) -> int:
    """Write the flights to S3 and return the number of files."""
    made = stack.compose(
        "--profile", "example", "run", "--rm", "flights", "s3://mlretrain/data/flights", str(every)
    )
    return made.count(".parquet")


def conditional_writes(stack: Stack, writers: int = 8) -> int:
    """How many of several writers of one object at once are told that they made it."""
    store = open_store(f"{ARTIFACTS}/check", stack.s3_env)
    with ThreadPoolExecutor(writers) as pool:
        return sum(pool.map(lambda each: store.create("once", str(each).encode()), range(writers)))


def start(stack: Stack, run_id: str, window_end: str) -> str:
    """Start a retraining as a person does, and return its state."""
    stack.airflow(f"dags/{DAG}", {"is_paused": False}, method="PATCH")
    conf = {"window_end": window_end, "reason": "compose check"}
    run = stack.airflow(f"dags/{DAG}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})
    return str(run["state"])


def wait_for_task(stack: Stack, run_id: str, task: str) -> None:
    """Return while ``task`` runs; raises if the run ends before."""

    def runs() -> bool:
        tasks = stack.tasks(DAG, run_id)
        state = tasks.get(task, {}).get("state")
        if state in ("success", "failed", "skipped"):
            raise RuntimeError(f"{task} of {run_id} was {state} before it was seen running")
        return bool(state == "running")

    until(runs, f"{task} of {run_id} runs")


def end(stack: Stack, run_id: str, dag_id: str = DAG) -> str:
    """The state in which a run ended."""

    def state() -> str | None:
        told = stack.airflow(f"dags/{dag_id}/dagRuns/{run_id}")["state"]
        return str(told) if told in ("success", "failed") else None

    return str(until(state, f"{run_id} ends"))


def data_docs(stack: Stack, run_id: str) -> int:
    """The size of the validation page of a run, as Airflow's server shows it from S3."""
    path = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/validate_data/links"
    links = stack.airflow(path)["extra_links"]
    address = next(url for name, url in links.items() if name == "Data Docs")
    return len(stack.page(address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a run left behind.

    :param versions: versions registered by it.
    :param mlflow_runs: MLflow runs that say they are of it.
    :param events: how often each kind of event is in the ledger.
    :param outcome: what the ledger concluded.
    :param retried: tasks that took more than one try, and how many.
    """

    versions: int
    mlflow_runs: int
    events: Counter[str]
    outcome: str
    retried: dict[str, int]

    @property
    def faults(self) -> list[str]:
        """What is lost or doubled."""
        found = [f"{self.events[kind]} × {kind} in the ledger" for kind in ONCE if self.events[kind] != 1]
        if self.versions != 1:
            found.append(f"{self.versions} model versions")
        if self.mlflow_runs != 1:
            found.append(f"{self.mlflow_runs} MLflow runs")
        return found


def left_by(stack: Stack, run_id: str) -> Left:
    """Count what is in MLflow and in the ledger."""
    experiment = stack.mlflow(f"experiments/get-by-name?experiment_name={PIPELINE}")["experiment"]
    asked = {
        "experiment_ids": [experiment["experiment_id"]],
        "filter": f"tags.`mlretrain.run_id` = '{run_id}'",
    }
    runs = {each["info"]["run_id"] for each in stack.mlflow("runs/search", asked).get("runs", [])}
    query = f"model-versions/search?max_results=1000&filter=name%3D'{PIPELINE}'"
    versions = [each for each in stack.mlflow(query).get("model_versions", []) if each.get("run_id") in runs]
    events = _events(stack, run_id)
    tasks = stack.tasks(DAG, run_id).items()
    return Left(
        versions=len(versions),
        mlflow_runs=len(runs),
        events=Counter(kind for kind, _ in events),
        outcome=" ".join(outcome for kind, outcome in events if kind == "concluded"),
        retried={task: told["try_number"] for task, told in tasks if told["try_number"] > 1},
    )


def _events(stack: Stack, run_id: str) -> list[tuple[str, str]]:
    from mlretrain.ledger import Ledger

    ledger = Ledger(open_store(ARTIFACTS, stack.s3_env), PIPELINE)
    return [(event.kind, event.outcome or "") for event in ledger.events() if event.run_id == run_id]


def predictions(stack: Stack) -> tuple[int, int]:
    """Files and rows of the prediction log in S3, once no more come."""
    import io

    import pyarrow.parquet as pq

    store = open_store("s3://mlretrain/predictions", stack.s3_env)
    names: list[str] = []
    while not names or names != store.list(f"{PIPELINE}/"):
        names = store.list(f"{PIPELINE}/")
        time.sleep(LOGGED_S)
    return len(names), sum(pq.read_metadata(io.BytesIO(store.read(name))).num_rows for name in names)


def monitor(stack: Stack) -> str:
    """What the monitoring pipeline finds in the predictions in S3."""
    dag_id, run_id = f"{PIPELINE}.monitor", "check"
    stack.airflow(f"dags/{dag_id}", {"is_paused": False}, method="PATCH")
    conf = {"window_end": "2013-06-02T04:00:00+00:00"}
    stack.airflow(f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})
    state = end(stack, run_id, dag_id)
    path = (
        f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/detect_drift/xcomEntries/return_value?deserialize=true"
    )
    found = stack.airflow(path)["value"]
    if state != "success":
        raise StackError(f"monitoring: {state}, {found}")
    return f"monitoring {state}: {found['verdict']}, {found['rows']} rows"


@contextlib.contextmanager
def passengers(stack: Stack, requests_per_s: float = 3.0) -> Iterator[Counter[str]]:
    """Requests to the model server all the time; counts those ``answered`` and ``refused``."""
    told: Counter[str] = Counter()
    over = threading.Event()
    url = f"{stack.url('MODELS_PORT')}/models/{PIPELINE}/invocations"
    body = {"dataframe_split": {"columns": list(FLIGHT), "data": [list(FLIGHT.values())]}}

    def ask() -> None:
        while not over.wait(1 / requests_per_s):
            try:
                call(url, body)
                told["answered"] += 1
            except (OSError, StackError):
                told["refused"] += 1

    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask)
        try:
            yield told
        finally:
            over.set()
