"""The demo's pipeline on a real cluster with data and artifacts in S3, by one word in its file.

Beside ``KUBECONFIG`` it needs a way from the pods to this machine: ``MLRETRAIN_TEST_EXPOSE``, a command that
is given ports of 127.0.0.1, and ``MLRETRAIN_TEST_HOST``, the address under which pods then reach them. No
folder of the host is mounted if ``MLRETRAIN_TEST_STEP_IMAGE`` names an image that ``mlretrain image`` made of
the example. ``MLRETRAIN_TEST_TRANSCRIPT`` names a file for what the tasks said.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.__main__ import FIRST_WINDOW_END, PIPELINE, copy_pipelines
from demo.flights import lay_out
from demo.services import Services, free_port
from demo.traffic import Traffic
from mlretrain.runtime.store import open_store
from tests.fixtures_kubernetes import TestCluster, cluster, skip_loudly  # noqa: F401
from tests.fixtures_s3 import s3_env

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.timeout(1500)]

BUCKET = "mlretrain"
RETRAIN, MONITOR = f"{PIPELINE}.retrain", f"{PIPELINE}.monitor"
FIRST_DRIFT, SECOND_DRIFT = "2013-06-10T04:00:00+00:00", "2013-06-24T04:00:00+00:00"
DRIFT_RUN = "drift__20130624T040000Z"
WAIT_S = 600.0
MLRETRAIN = "import sys; from mlretrain_factory.cli import main; sys.exit(main())"
JOBS = {"ValidateDataOperator", "TrainModelOperator", "EvaluateModelOperator", "ProfileDataOperator"}
SAID = re.compile(
    r"Job |Pausing|Trigger fired|\S+ has already succeeded|\d{4}-\d\d-\d\d .* (INFO|ERROR) mlretrain"
)


class ClusterRoom(Services):
    """The demo's services and an S3, within reach of pods."""

    def __post_init__(self) -> None:
        self.s3_port = free_port()
        host = os.environ["MLRETRAIN_TEST_HOST"]
        self.s3_env = s3_env(f"http://127.0.0.1:{self.s3_port}")
        aws = {
            "conn_type": "aws",
            "login": self.s3_env["AWS_ACCESS_KEY_ID"],
            "password": self.s3_env["AWS_SECRET_ACCESS_KEY"],
            "extra": {
                "endpoint_url": self.s3_env["AWS_ENDPOINT_URL"],
                "region_name": self.s3_env["AWS_REGION"],
            },
        }
        self.settings = {
            **self.settings,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS": f"s3://{BUCKET}/artifacts",
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{host}:*,127.0.0.1:*",
        }
        super().__post_init__()
        self.seen_from_pods = {
            "AWS_ENDPOINT_URL": f"http://{host}:{self.s3_port}",
            "MLFLOW_TRACKING_URI": f"http://{host}:{self.ports['mlflow']}",
        }

    def __enter__(self) -> ClusterRoom:
        command = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.s3_port)]
        self._start("s3", [sys.executable, *command], f"http://127.0.0.1:{self.s3_port}/moto-api/data.json")
        self.processes["s3"].wait_healthy()
        expose = shlex.split(os.environ["MLRETRAIN_TEST_EXPOSE"])
        subprocess.run([*expose, str(self.s3_port), str(self.ports["mlflow"])], check=True)
        self.s3.create_bucket(Bucket=BUCKET)
        return super().__enter__()

    @property
    def s3(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.s3_env["AWS_ENDPOINT_URL"],
            region_name=self.s3_env["AWS_REGION"],
            aws_access_key_id=self.s3_env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.s3_env["AWS_SECRET_ACCESS_KEY"],
        )

    def upload(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*.parquet"):
            self.s3.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")

    def transcript(self, *runs: tuple[str, str]) -> str:
        """What the tasks of these runs did, in order: when, for how long, and what they said."""
        lines = []
        for dag_id, run_id in runs:
            lines.append(f"== {dag_id} {run_id}: {self.run(dag_id, run_id)['state']}")  # type: ignore[index]
            found = self.api(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances?order_by=start_date")
            for task in found["task_instances"]:
                took = f"{task['duration']:.1f} s" if task["duration"] is not None else "-"
                lines.append(f"{task['task_id']:24} {task['state'] or '-':10} {took}")
                if task["operator"] in JOBS and task["state"] in ("success", "failed"):
                    log = self.api(f"{self._task(dag_id, run_id, task['task_id'])}/logs/1?full_content=true")
                    events = [each["event"] for each in log["content"] if "event" in each]
                    lines += [f"    {event}" for event in events if SAID.match(event)]
        return "\n".join(lines) + "\n"

    def _task(self, dag_id: str, run_id: str, task_id: str) -> str:
        return f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """All that Airflow shows of a task's try."""
        return json.dumps(
            self.api(f"{self._task(dag_id, run_id, task_id)}/logs/{try_number}?full_content=true")
        )


def stack(room: ClusterRoom, found: TestCluster) -> str:
    """``stacks/kubernetes.yaml``, for this cluster."""
    image = os.environ.get("MLRETRAIN_TEST_STEP_IMAGE")
    options: dict[str, Any] = (
        found.options(room.home) if not image else {"namespace": found.namespace, "image": image}
    )
    options |= {"conn_id": found.options()["conn_id"], "grace": "5s"}
    options.pop("grace_s", None)
    code = {} if image else {"MLRETRAIN_CODE_PATHS": str(room.dags)}
    options["env"] = {**room.seen_from_pods, **code}
    return json.dumps(
        {
            "version": 1,
            "backend": "kubernetes",
            "artifacts_uri": f"s3://{BUCKET}/artifacts",
            "registry": {"conn_id": "mlflow_default"},
            "serving": {"conn_id": "model_server"},
            "storage": {"conn_id": "aws_default"},
            "poll": "10s",
            "kubernetes": options,
            "resources": {"default": {"cpu": 0.2, "memory": "2Gi"}},
            "vars": {"data_uri": f"s3://{BUCKET}"},
        }
    )


@pytest.fixture(scope="module")
def room(
    request: pytest.FixtureRequest,
    cluster: TestCluster,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ClusterRoom]:
    for name in ("MLRETRAIN_TEST_EXPOSE", "MLRETRAIN_TEST_HOST"):
        if not os.environ.get(name):
            skip_loudly(request, f"{name} is not set: pods cannot reach the servers of this machine")
    home = tmp_path_factory.mktemp("cluster")
    copy_pipelines(home / "dags")
    file = home / "dags" / f"{PIPELINE}.pipeline.yaml"
    text = file.read_text()
    assert text.count("stack: local") == 1
    file.write_text(text.replace("stack: local", "stack: kubernetes"))
    settings = {"AIRFLOW__CORE__UNIT_TEST_MODE": "False", **cluster.env}
    room = ClusterRoom(home=home, dags=home / "dags", settings=settings)
    (home / "dags" / "stacks" / "kubernetes.yaml").write_text(stack(room, cluster))
    with room:
        room.upload_data = lay_out(home / "data" / "flights")  # type: ignore[attr-defined]
        room.upload(home / "data" / "flights", "data/flights")
        room.wait_for_dags(RETRAIN, MONITOR)
        yield room
        if os.environ.get("MLRETRAIN_TEST_TRANSCRIPT"):
            runs = [(dag_id, run["dag_run_id"]) for dag_id in (RETRAIN, MONITOR) for run in room.runs(dag_id)]
            Path(os.environ["MLRETRAIN_TEST_TRANSCRIPT"]).write_text(room.transcript(*runs))


@pytest.fixture(scope="module")
def first(room: ClusterRoom) -> dict[str, Any]:
    """How the first retraining ended."""
    room.trigger(RETRAIN, "first-model", {"window_end": FIRST_WINDOW_END, "reason": "the first model"})
    state = room.wait(RETRAIN, "first-model", WAIT_S)
    assert state == "success", room.task_states(RETRAIN, "first-model")
    return dict(room.xcom(RETRAIN, "first-model", "record"))


def test_the_first_model_is_trained_on_the_cluster_and_promoted(
    room: ClusterRoom, first: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert first["outcome"] == "promoted", first
    log = room.log(RETRAIN, "first-model", "train")
    assert "Pausing task as DEFERRED" in log  # no worker waited
    assert "train succeeded in" in log
    assert log.count("train succeeded in") == 1
    with capsys.disabled():
        print(f"\nfirst-model on Kubernetes: {first['outcome']}: {first['reason']}")


def test_drift_that_pods_measured_retrains_the_model(room: ClusterRoom, first: dict[str, Any]) -> None:
    import pandas as pd

    flights = room.upload_data  # type: ignore[attr-defined]
    live = flights[flights["sched_dep_time"] >= pd.Timestamp(FIRST_WINDOW_END)]
    traffic = Traffic(flights=live, url=f"{room.models_url}/models/{PIPELINE}/invocations")
    verdicts = []
    for window_end in (FIRST_DRIFT, SECOND_DRIFT):
        traffic.send_until(pd.Timestamp(window_end))
        room.flush(PIPELINE)
        room.upload(room.predictions, "predictions")
        run_id = f"window-{window_end[:10]}"
        room.trigger(MONITOR, run_id, {"window_end": window_end})
        with traffic.going_on(10.0):
            assert room.wait(MONITOR, run_id, WAIT_S) == "success", room.task_states(MONITOR, run_id)
            decision = room.xcom(MONITOR, run_id, "decide_retrain")
            verdicts.append(decision["verdict"])
            if decision["verdict"] == "retrain":
                assert room.wait(RETRAIN, decision["run_id"], WAIT_S) == "success"
    assert verdicts == ["keep", "retrain"]
    assert room.xcom(RETRAIN, DRIFT_RUN, "record")["outcome"] in ("promoted", "rejected")


def test_a_step_that_failed_on_the_cluster_is_replayed_on_this_machine(
    room: ClusterRoom, first: dict[str, Any]
) -> None:
    conf = {"window_end": FIRST_WINDOW_END, "params": {"max_depth": -1}, "reason": "a mistake"}
    room.trigger(RETRAIN, "mistake", conf)
    assert room.wait(RETRAIN, "mistake", WAIT_S) == "failed"
    store = open_store(f"s3://{BUCKET}/artifacts", room.s3_env)
    (request,) = [
        path for path in store.list(f"{PIPELINE}/runs/mistake/train-") if path.endswith("request.json")
    ]
    replayed = subprocess.run(
        [sys.executable, "-c", MLRETRAIN, "replay", f"s3://{BUCKET}/artifacts/{request}",
         "--code-path", str(room.dags)],
        env={**os.environ, **room.s3_env, "MLFLOW_TRACKING_URI": room.mlflow_url},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert replayed.returncode == 10, replayed.stderr
    assert "max_depth" in replayed.stderr
    assert "max_depth" in room.log(RETRAIN, "mistake", "train")
