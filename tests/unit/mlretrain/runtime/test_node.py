"""Which of several copies a process is, as our variables, an Indexed Job or SageMaker's file tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain.runtime import node
from mlretrain.runtime.node import MASTER_PORT, Node

ABSENT = Path("/nonexistent/resourceconfig.json")


@pytest.mark.parametrize(
    ("env", "node"),
    [
        ({}, Node()),
        ({"JOB_COMPLETION_INDEX": "3"}, Node()),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Node()),
        (
            {"MLRETRAIN_RANK": "1", "MLRETRAIN_WORLD_SIZE": "2", "MLRETRAIN_MASTER_ADDR": "a"},
            Node(rank=1, world_size=2, master_addr="a", master_port=MASTER_PORT),
        ),
        (
            {"JOB_COMPLETION_INDEX": "3", "MLRETRAIN_WORLD_SIZE": "4", "MLRETRAIN_MASTER_PORT": "7"},
            Node(rank=3, world_size=4, master_port=7),
        ),
    ],
)
def test_the_environment_says_which_node_it_is(env: dict[str, str], node: Node) -> None:
    assert Node.of(env, resource_config=ABSENT) == node


def test_a_node_is_found_again_in_its_own_environment() -> None:
    node = Node(rank=1, world_size=2, master_addr="job-0.job", master_port=1234)
    assert Node.of(node.env(), resource_config=ABSENT) == node
    assert node.env()["RANK"] == "1"


def test_sagemaker_lists_the_hosts(tmp_path: Path) -> None:
    config = tmp_path / "resourceconfig.json"
    config.write_text(json.dumps({"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]}))
    assert Node.of({}, resource_config=config) == Node(rank=1, world_size=2, master_addr="algo-1")


def test_training_and_processing_jobs_keep_the_list_in_different_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "resourceconfig.json"
    config.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}))
    monkeypatch.setattr(node, "_SAGEMAKER", (ABSENT, config))
    assert Node.of({}).world_size == 2


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"MLRETRAIN_RANK": "2", "MLRETRAIN_WORLD_SIZE": "2"}, "rank 2 of 2"),
        ({"MLRETRAIN_RANK": "one", "MLRETRAIN_WORLD_SIZE": "2"}, "MLRETRAIN_RANK: not a number"),
        ({"MLRETRAIN_WORLD_SIZE": "many"}, "MLRETRAIN_WORLD_SIZE: not a number"),
    ],
)
def test_a_node_that_cannot_be(env: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Node.of(env, resource_config=ABSENT)
