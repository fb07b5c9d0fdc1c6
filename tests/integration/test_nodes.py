"""Training on several nodes at once: real processes that meet where their environment says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.data.split import Holdout
from mlretrain.runtime.contract import StepRequest, report_file
from mlretrain.runtime.node import Node
from mlretrain.steps.train import Config
from mlretrain.wire import pretty, to_wire
from tests.free_port import free_port

pytestmark = pytest.mark.integration

WAIT_S = 120.0
USER_CODE = """
import os
from multiprocessing.connection import Client, Listener
from sklearn.dummy import DummyRegressor

def train(ctx):
    if ctx.rank == ctx.params["fails"]:
        raise ValueError(f"rank {ctx.rank} has had enough")
    share = ctx.train_frame()["y"].iloc[ctx.rank :: ctx.world_size]
    total = all_reduce(ctx, float(share.sum()))
    ctx.save_checkpoint(f"{ctx.rank}.txt", str(total).encode())
    return DummyRegressor(strategy="constant", constant=total).fit([[0]], [total])

def all_reduce(ctx, value):
    # torch.distributed finds its peers by the same variables.
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if int(os.environ["RANK"]) == 0:
        with Listener(where) as listener:
            print("listening", flush=True)
            peers = [listener.accept() for _ in range(int(os.environ["WORLD_SIZE"]) - 1)]
        total = value + sum(peer.recv() for peer in peers)
        for peer in peers:
            peer.send(total)
        return total
    with connected(where) as master:
        master.send(value)
        return master.recv()

def connected(where):
    while True:
        try:
            return Client(where)
        except ConnectionRefusedError:
            pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's code, an MLflow database, and data whose training rows sum up to 36."""
    (tmp_path / "distributed.py").write_text(textwrap.dedent(USER_CODE))
    path = tmp_path / "data.parquet"
    times = pd.date_range("2013-01-01", periods=10, freq="h")
    pd.DataFrame({"time": times, "x": range(10), "y": [float(i + 1) for i in range(10)]}).to_parquet(path)
    write_dataset(resolve(path.as_uri(), time_column="time"), (tmp_path / "data.json").as_uri())
    return tmp_path


class Nodes:
    """One process of the runtime for each rank, all on this machine."""

    def __init__(self, folder: Path, *, size: int, fails: int = -1) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.run_id = self._open_run()
        self._write_request(fails)
        port = free_port()
        nodes = [Node(rank=rank, world_size=size, master_port=port) for rank in range(size)]
        self.processes = [self._start(node) for node in nodes]

    def wait(self, rank: int) -> int:
        return self.processes[rank].wait(WAIT_S)

    def report(self, rank: int) -> dict[str, Any]:
        return dict(json.loads((self.folder / "out" / report_file(rank)).read_bytes()))

    def log(self, rank: int) -> str:
        return (self.folder / f"{rank}.log").read_text()

    def _open_run(self) -> str:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\.")
            from mlflow import MlflowClient

            client = MlflowClient(self.uri)
            experiment = client.create_experiment("e", (self.folder / "artifacts").as_uri())
            return str(client.create_run(experiment).info.run_id)

    def logged_models(self) -> list[str]:
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        experiment = client.get_run(self.run_id).info.experiment_id
        return [each.model_uri for each in client.search_logged_models([experiment])]

    def _write_request(self, fails: int) -> None:
        config = Config(
            dataset_uri=(self.folder / "data.json").as_uri(),
            entrypoint="distributed:train",
            params={"fails": fails},
            target="y",
            holdout=Holdout(by="time", fraction=0.2),
        )
        request = StepRequest(
            step="train",
            pipeline="p",
            run_id="r",
            window_end=datetime(2013, 4, 1, tzinfo=UTC),
            key="k",
            config=dict(to_wire(config)),
            frozen={"mlflow_run_id": self.run_id},
            output_uri=(self.folder / "out").as_uri(),
        )
        (self.folder / "request.json").write_bytes(pretty(request))

    def _start(self, node: Node) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            **{name: value for name, value in node.env().items() if name.startswith("MLRETRAIN_")},
            "MLFLOW_TRACKING_URI": self.uri,
            "MLRETRAIN_CODE_PATHS": str(self.folder),
            "MLRETRAIN_REQUEST_URI": (self.folder / "request.json").as_uri(),
        }
        with (self.folder / f"{node.rank}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "mlretrain.runtime"], env=env, stdout=log, stderr=log
            )


@pytest.fixture
def started() -> Iterator[list[Nodes]]:
    """Where a test puts what it starts: nothing outlives it."""
    found: list[Nodes] = []
    yield found
    for nodes in found:
        for process in nodes.processes:
            process.kill()
            process.wait()


def test_the_nodes_train_one_model_together(folder: Path, started: list[Nodes]) -> None:
    nodes = Nodes(folder, size=3)
    started.append(nodes)

    assert [nodes.wait(rank) for rank in range(3)] == [0, 0, 0], nodes.log(0)

    report, other = nodes.report(0), nodes.report(1)
    assert report["status"] == other["status"] == "succeeded"
    assert [report["result"]["model_uri"]] == nodes.logged_models()
    assert (other["result"], other["outputs"]) == ({}, {})
    # Each has summed up its own third of the training rows: 1 + … + 8.
    kept = [(folder / "out/checkpoints" / f"{rank}.txt").read_text() for rank in range(3)]
    assert kept == ["36.0"] * 3


def test_a_node_that_fails_is_named_by_the_one_that_was_stopped_for_it(
    folder: Path, started: list[Nodes]
) -> None:
    nodes = Nodes(folder, size=2, fails=1)
    started.append(nodes)

    assert nodes.wait(1) == 10, nodes.log(1)
    deadline = time.monotonic() + WAIT_S
    while "listening" not in nodes.log(0):
        assert time.monotonic() < deadline, nodes.log(0)
        time.sleep(0.05)
    nodes.processes[0].terminate()  # as a platform does when one of the nodes has failed

    assert nodes.wait(0) == 10
    error = nodes.report(0)["error"]
    assert error["message"] == "ValueError: rank 1 has had enough"
    assert error["where"].startswith("rank 1: ")
    assert error["where"].endswith("distributed.py:8")
