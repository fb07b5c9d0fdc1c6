"""A small airline for tests: its pipelines, its thinned flights, and every place where its state is kept."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from demo.flights import lay_out
from demo.services import Services, call
from demo.traffic import Traffic
from mlretrain.serving.target import LocalTarget

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = Path(__file__).parents[2] / "example_dags"
FLIGHTS, GUARDED, BY_HAND = "flight-delay", "guarded", "flights-by-hand"
FIRST_END = "2013-04-01T04:00:00+00:00"  # midnight in New York
LIVE_FROM = "2013-07-01T04:00:00+00:00"
EVERY = 10
LIVE_REQUESTS_PER_S = 5.0
WAIT_S = 120.0

# The example with the numbers of a tenth of its flights.
SMALLER = {
    "min_value: 5000": "min_value: 5000, max_value: 9000",
    "max_iter: 100": "max_iter: 20",
    "stages: [{traffic: 25, bake: 3s}, {traffic: 50, bake: 3s}]": "stages: [{traffic: 50, bake: 1s}]",
    "min_requests: 10": "min_requests: 3",
    "latency_p95_ms, max: 500": "latency_p95_ms, max: 5000",
    "min_rows: 1000": "min_rows: 300",
    "share: 0.15 ": "share: 0.05 ",
    "min_new_rows: 10000": "min_new_rows: 1000",
}
GUARDED_YAML = """\
version: 1
pipeline: guarded
stack: local
data:
  training: {uri: "${data_uri}/data/flights/*.parquet", time_column: sched_dep_time, window: 30d}
  target: late
  features: {exclude: [flight_id]}
train:
  entrypoint: flights.train:train
  params: {max_depth: 3, max_iter: 10}
  prediction_method: predict_proba
evaluate: {metrics: [roc_auc]}
promote:
  gates: [{metric: roc_auc, min: 0.55}]
  smoke_test: job
deploy:
  strategy: canary
  stages: [{traffic: 50, bake: 1s}]
  guards: [{metric: latency_p95_ms, max: 0.001}]
  min_requests: 3
"""


def furnish(dags: Path) -> None:
    """A DAGs folder with the example made smaller, a pipeline no model can pass, and the DAG by hand."""
    for folder in ("stacks", "flights"):
        shutil.copytree(EXAMPLES / folder, dags / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLES / "flights_by_hand.py", dags)
    example = (EXAMPLES / f"{FLIGHTS}.pipeline.yaml").read_text()
    for whole, small in SMALLER.items():
        assert example.count(whole) == 1, f"the example does not say {whole!r} once"
        example = example.replace(whole, small)
    (dags / f"{FLIGHTS}.pipeline.yaml").write_text(example)
    (dags / f"{GUARDED}.pipeline.yaml").write_text(GUARDED_YAML)


def until(what: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
    """The first truthy answer of ``what``."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a pipeline keeps outside Airflow, as it is at one moment."""

    aliases: Mapping[str, str]
    versions: Mapping[str, Mapping[str, str]]
    weights: Mapping[str, int]
    ledger: Mapping[str, Any]


class Airline:
    """The services with what a test asks of them."""

    def __init__(self, services: Services, flights: pd.DataFrame) -> None:
        import pandas as pd

        self.services = services
        times = flights["sched_dep_time"]
        self._passengers = self._traffic(FLIGHTS, flights[times >= pd.Timestamp(FIRST_END)])
        live = flights[times >= pd.Timestamp(LIVE_FROM)]
        self._live = {name: self._traffic(name, live) for name in (FLIGHTS, GUARDED)}

    def _traffic(self, model: str, flights: pd.DataFrame) -> Traffic:
        return Traffic(flights=flights, url=f"{self.services.models_url}/models/{model}/invocations")

    def retrain(self, pipeline: str, run_id: str, **conf: Any) -> None:
        """Start a retraining as a person does."""
        self.services.trigger(f"{pipeline}.retrain", run_id, {"window_end": FIRST_END, **conf})

    def outcome(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """How a run ended, by its last task; ``state`` is Airflow's."""
        state = self.services.wait(dag_id, run_id, WAIT_S)
        told = self.services.xcom(dag_id, run_id, "record") or {}
        return {"state": state, "tasks": self.services.task_states(dag_id, run_id), **told}

    def serve_until(self, end: str) -> None:
        """Every flight that leaves before ``end`` is asked about."""
        import pandas as pd

        self._passengers.send_until(pd.Timestamp(end))
        self.services.flush(FLIGHTS)

    @contextmanager
    def live(self, model: str) -> Iterator[None]:
        """Requests all the time, about flights of later months; none may fail."""
        with self._live[model].going_on(LIVE_REQUESTS_PER_S):
            yield

    def monitor(self, run_id: str, window_end: str) -> dict[str, Any]:
        """The decision about a window."""
        dag_id = f"{FLIGHTS}.monitor"
        self.services.trigger(dag_id, run_id, {"window_end": window_end})
        assert self.services.wait(dag_id, run_id, WAIT_S) == "success", self.services.task_states(
            dag_id, run_id
        )
        return dict(self.services.xcom(dag_id, run_id, "decide_retrain"))

    def clear(self, dag_id: str, run_id: str, *tasks: str) -> dict[str, Any]:
        """Clear some tasks of a run, or all, wait for the run to end again and return its :meth:`outcome`."""
        chosen = {"task_ids": list(tasks)} if tasks else {}
        every = {"dry_run": False, "only_failed": False, "reset_dag_runs": True}
        self.services.api(f"dags/{dag_id}/clearTaskInstances", {"dag_run_id": run_id, **every, **chosen})
        return self.outcome(dag_id, run_id)

    def tries(self, dag_id: str, run_id: str) -> dict[str, int]:
        """How often each task of a run has run."""
        found = self.services.api(f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances?limit=200")
        return {task["task_id"]: task["try_number"] for task in found["task_instances"]}

    def links(self, dag_id: str, run_id: str, task: str) -> dict[str, str]:
        """The addresses behind a task's buttons."""
        found = self.services.api(f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task}/links")
        return dict(found["extra_links"])

    def page(self, link: str) -> str:
        """The page that a button opens, asked for by somebody who is logged in."""
        url = link if link.startswith("http") else f"{self.services.airflow_url}{link}"
        token = call(f"{self.services.airflow_url}/auth/token")["access_token"]
        return str(call(url.partition("#")[0], headers={"Authorization": f"Bearer {token}"}))

    def mlflow(self, path: str, body: Any = None) -> dict[str, Any]:
        """Call MLflow's REST API."""
        return dict(call(f"{self.services.mlflow_url}/api/2.0/mlflow/{path}", body))

    def mlflow_runs(self, pipeline: str, run_id: str) -> list[dict[str, Any]]:
        """The MLflow runs of one Airflow run."""
        found = self.mlflow(f"experiments/get-by-name?experiment_name={pipeline}")["experiment"]
        asked = {
            "experiment_ids": [found["experiment_id"]],
            "filter": f"tags.`mlretrain.run_id` = '{run_id}'",
        }
        return list(self.mlflow("runs/search", asked).get("runs", []))

    def state(self, pipeline: str) -> State:
        """What is now in the registry, on the model server and in the ledger."""
        model = self.mlflow(f"registered-models/get?name={pipeline}")["registered_model"]
        versions = self.mlflow(f"model-versions/search?filter=name%3D'{pipeline}'").get("model_versions", [])
        tags = {
            each["version"]: {tag["key"]: tag["value"] for tag in each.get("tags", [])} for each in versions
        }
        folder = self.services.home / "artifacts" / pipeline / "ledger" / "chain"
        return State(
            aliases={each["alias"]: each["version"] for each in model.get("aliases", [])},
            versions=tags,
            weights=LocalTarget(self.services.models_url).current(pipeline).served,
            ledger={
                str(path.relative_to(folder)): json.loads(path.read_text())["event"]
                for path in sorted(folder.rglob("*.json"))
            },
        )

    def events(self, pipeline: str, run_id: str) -> dict[str, dict[str, Any]]:
        """What the ledger says about a run, by kind; the last of each kind."""
        events = [each for each in self.state(pipeline).ledger.values() if each["run_id"] == run_id]
        return {each["kind"]: each for each in events}

    def orders(self, pipeline: str, run_id: str) -> list[dict[str, int]]:
        """The traffic that a run has ordered, in order."""
        events = [each for each in self.state(pipeline).ledger.values() if each["run_id"] == run_id]
        return [each["traffic"]["weights"] for each in events if each["traffic"]]


@contextmanager
def airline(home: Path) -> Iterator[Airline]:
    """Everything up, with the flights laid out, for as long as the block."""
    furnish(home / "dags")
    flights = lay_out(home / "data" / "flights", every=EVERY)
    settings = {"AIRFLOW__CORE__UNIT_TEST_MODE": "False"}
    with Services(home=home, dags=home / "dags", settings=settings) as services:
        yield Airline(services, flights)
