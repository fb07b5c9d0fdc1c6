"""``mlretrain verify``, ``history`` and ``card`` on a real MLflow and a real model server."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest

from mlretrain.ledger import Ledger
from mlretrain.ports import Traffic
from mlretrain.registry.mlflow import MlflowRegistry
from mlretrain.registry.rest import MlflowRest
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import file_uri, open_store
from mlretrain.serving.target import LocalTarget
from mlretrain_factory.cli import main
from tests.fixtures_mlflow import mlflow_server
from tests.fixtures_serving import model_server

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

MODELS = """
import sys, mlflow, pandas as pd
from mlflow.models import infer_signature
class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [0.5] * len(model_input)
mlflow.set_tracking_uri(sys.argv[1])
rows = pd.DataFrame({"distance": [1.0]})
info = mlflow.pyfunc.log_model(
    name="model", python_model=Constant(), signature=infer_signature(rows, [0.5]), pip_requirements=["pandas"]
)
for _ in range(2):
    mlflow.register_model(info.model_uri, "flights")
"""
COMMAND = "import sys; from mlretrain_factory.cli import main; sys.exit(main())"
MONTHS = {version: datetime(2013, int(version), 1, tzinfo=UTC) for version in ("1", "2")}
PIPELINE = """\
version: 1
pipeline: flights
stack: local
data:
  training: {uri: "file:///nowhere/*.parquet", time_column: at, window: 30d}
  target: late
train: {entrypoint: "train:train"}
evaluate: {metrics: [roc_auc]}
promote: {gates: [{metric: roc_auc, min: 0.5}]}
deploy: {strategy: direct}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A pipeline of two versions, of which the second one serves."""

    folder: Path
    registry: MlflowRegistry
    target: LocalTarget
    env: dict[str, str]

    @property
    def ledger(self) -> Ledger:
        return Ledger(open_store(file_uri(self.folder / "artifacts")), "flights", self.registry)

    def promote(self, version: str, champion: str | None) -> None:
        Rollout(
            pipeline="flights", run_id=f"run-{version}", window_end=MONTHS[version],
            ledger=self.ledger, registry=self.registry, target=self.target,
        ).promote(version, champion=champion, reason=f"month {version}")  # fmt: skip

    def ask(self, command: str, *arguments: str) -> tuple[int, str]:
        """The status of the command, and what it says."""
        said = io.StringIO()
        with mock.patch.dict(os.environ, self.env), redirect_stdout(said), redirect_stderr(said):
            status = main([command, "flights", "--dags", str(self.folder), *arguments])
        return status, said.getvalue()

    def ask_from_outside(self, command: str) -> subprocess.CompletedProcess[str]:
        """The command in a process of its own, as it runs on anybody's machine."""
        return subprocess.run(
            [sys.executable, "-c", COMMAND, command, "flights"],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "stacks").mkdir()
    stack = f"version: 1\nartifacts_uri: {file_uri(folder / 'artifacts')}\nserving: {{conn_id: models}}\n"
    (folder / "stacks" / "local.yaml").write_text(stack)
    (folder / "flights.pipeline.yaml").write_text(PIPELINE)
    with mlflow_server(folder) as uri:
        made = subprocess.run(
            [sys.executable, "-c", MODELS, uri], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        with model_server(folder, uri) as server:
            connections = {
                "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", "host": uri}),
                "AIRFLOW_CONN_MODELS": json.dumps(
                    {"conn_type": "mlretrain_model_server", "host": server.url, "password": "s3cret"}
                ),
                "AIRFLOW_HOME": str(folder / "airflow"),
            }
            started = Stage(
                folder=folder,
                registry=MlflowRegistry(rest=MlflowRest(uri=uri)),
                target=LocalTarget(server.url),
                env={**os.environ, **connections},
            )
            started.promote("1", None)
            started.promote("2", "1")
            yield started


def test_everything_that_may_be_lost_is_found_and_mended(stage: Stage) -> None:
    agreed = stage.ask_from_outside("verify")
    said = "flights: ledger, registry and what is served agree\n"
    assert (agreed.returncode, agreed.stdout, agreed.stderr) == (0, said, "")

    forged = stage.folder / "artifacts" / stage.ledger.chain_path(2)
    true = forged.read_bytes()
    forged.write_bytes(true.replace(b"month 1", b"month 9"))
    stage.registry.set_alias("flights", "champion", None)
    stage.target.apply("flights", Traffic(weights={"1": 100}))
    status, found = stage.ask("verify")
    assert status == 1
    assert f"{stage.ledger.chain_path(2)} has been changed: promoted version 1" in found
    assert "the alias champion points to none, the ledger says version 2" in found
    assert "version 1 100 % is served, the ledger says version 2 100 % is served" in found
    assert "3 things differ" in found

    status, mended = stage.ask("verify", "--repair")
    assert (status, mended.count("(mended)")) == (0, 3)
    assert forged.read_bytes() == true
    champion = stage.registry.version("flights", "@champion")
    assert champion is not None
    assert champion.version == "2"
    assert stage.target.current("flights").served == {"2": 100}
    assert "s3cret" not in found + mended


def test_the_past_is_told_by_the_data(stage: Stage) -> None:
    _, told = stage.ask("history", "--clock", "data", "--at", "2013-01-20")
    assert "v1 answered all requests" in told
    assert "mlretrain rollback flights --to v1 --reason" in told


def test_the_card_is_on_one_page(stage: Stage) -> None:
    assert stage.ask("card")[1].startswith("# flights, version 2\n")
