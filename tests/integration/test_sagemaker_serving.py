"""From MLflow's registry to the answer of a SageMaker container, as far as it goes without a cloud.

What is real: MLflow's server and registry, a scikit-learn model, its download and check, the package in S3
(moto), MLflow's own entry for containers of SageMaker (``mlflow.models.container``) on the package unpacked.

What is fake: the endpoint (:mod:`tests.fixtures_endpoints`), and of the container all but its process. The
model is in a folder instead of ``/opt/ml/model``, the port is free instead of 8080, nginx, which only passes
requests on, is switched off, and the model's environment is this one instead of one made at the start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

pytest.importorskip("airflow.providers.amazon")
pytest.importorskip("mlflow")

from mlretrain.errors import InvalidInput
from mlretrain.ports import Traffic
from mlretrain.registry.mlflow import MlflowRegistry
from mlretrain.registry.rest import MlflowRest
from mlretrain.runtime.fingerprint import MODEL_TAG, fingerprint
from mlretrain.runtime.package import fetch
from mlretrain_provider.targets import Surroundings, open_target
from tests.fixtures_endpoints import IMAGE, PIPELINE, FakeEndpoints, fake_endpoints
from tests.fixtures_mlflow import mlflow_server
from tests.fixtures_sagemaker import BUCKET, CONN_ID, ROLE_ARN
from tests.fixtures_serving import wait_for
from tests.free_port import free_port

pytestmark = [pytest.mark.integration, pytest.mark.airflow]

MODEL = "flight-delay"
ROWS = [[0.0, 10.0], [3.0, -2.0]]
SERVE = """
import mlflow.models.container as container, sys
container.MODEL_PATH, container.DEFAULT_INFERENCE_SERVER_PORT = sys.argv[1], int(sys.argv[2])
container._init("serve", "local")
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[MlflowRegistry]:
    """One version, tagged as the pipeline tags it."""
    with mlflow_server() as uri, patch.dict(os.environ, {"MLFLOW_TRACKING_URI": uri}):
        registered = MlflowRegistry(rest=MlflowRest(uri=uri))
        train()
        registered.tag(MODEL, "1", {MODEL_TAG: digest()})
        connection = json.dumps({"conn_type": "mlflow", "host": uri})
        with patch.dict(os.environ, {"AIRFLOW_CONN_MLFLOW_DEFAULT": connection}):
            yield registered


def train() -> None:
    """In a process of its own, which takes its warnings and MLflow's state with it."""
    script = f"""
import mlflow, pandas as pd
from sklearn.linear_model import LinearRegression
rows = pd.DataFrame({ROWS!r} * 5, columns=["distance", "delay"])
with mlflow.start_run():
    mlflow.sklearn.log_model(
        LinearRegression().fit(rows, rows["distance"] + 2 * rows["delay"]),
        name="model", input_example=rows.head(2), registered_model_name={MODEL!r},
        pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
    )
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def digest() -> str:
    """Of the version's files, as an own download has them."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return fingerprint(fetch(f"models:/{MODEL}/1", folder))


@pytest.fixture
def aws() -> Iterator[FakeEndpoints]:
    with fake_endpoints() as fake:
        yield fake


def serve(aws: FakeEndpoints, order: Traffic) -> None:
    serving = {
        "target": "sagemaker",
        "conn_id": CONN_ID,
        "role_arn": ROLE_ARN,
        "image": IMAGE,
        "instance_type": "ml.m5.large",
        "sleep": lambda _seconds: None,
    }
    around = Surroundings(pipeline=PIPELINE, artifacts_uri=aws.artifacts_uri, storage_conn_id=CONN_ID)
    open_target(serving, around).apply(MODEL, order)


@contextmanager
def container(folder: Path) -> Iterator[str]:
    """The address of what the image runs, on the model in ``folder``."""
    port = free_port()
    env = {**os.environ, "DISABLE_NGINX": "true", "MLFLOW_DISABLE_ENV_CREATION": "true"}
    env |= {"MLFLOW_MODELS_WORKERS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", SERVE, str(folder), str(port)]
    with (folder.parent / "container.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/ping", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def invoke(url: str, body: str, content_type: str) -> Any:
    """As SageMaker passes InvokeEndpoint on."""
    request = urllib.request.Request(
        f"{url}/invocations", data=body.encode(), headers={"Content-Type": content_type}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_a_registered_version_answers_in_the_container(
    registry: MlflowRegistry, aws: FakeEndpoints, tmp_path: Path
) -> None:
    serve(aws, Traffic(weights={"1": 100}, generation=1))

    [package] = aws.objects()
    answer = aws.client("s3").get_object(Bucket=BUCKET, Key=package)
    with tarfile.open(fileobj=BytesIO(answer["Body"].read())) as tar:
        tar.extractall(tmp_path / "model", filter="data")
    rows: Mapping[str, Any] = {"dataframe_split": {"columns": ["distance", "delay"], "data": ROWS}}
    with container(tmp_path / "model") as url:
        as_json = invoke(url, json.dumps(rows), "application/json")
        as_csv = invoke(url, "distance,delay\n0.0,10.0\n3.0,-2.0\n", "text/csv")
    assert as_json["predictions"] == pytest.approx([20.0, -1.0])
    assert as_csv["predictions"] == pytest.approx([20.0, -1.0])


def test_a_version_that_was_changed_or_never_was_is_not_served(
    registry: MlflowRegistry, aws: FakeEndpoints
) -> None:
    with pytest.raises(InvalidInput, match="no such version"):
        serve(aws, Traffic(weights={"2": 100}, generation=1))
    honest = digest()
    registry.tag(MODEL, "1", {MODEL_TAG: "0" * 64})
    try:
        with pytest.raises(InvalidInput, match="not what was registered"):
            serve(aws, Traffic(weights={"1": 100}, generation=1))
    finally:
        registry.tag(MODEL, "1", {MODEL_TAG: honest})

    assert aws.endpoints == {}
