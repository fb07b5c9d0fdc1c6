"""Which of several copies of a job this process is, and where they meet.

The variables are those of ``torchrun`` with and without the prefix ``MLRETRAIN_``; a platform's own names for
the same facts are understood too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlretrain.errors import ConfigError

MASTER_PORT = 29500
"""Where rank 0 listens unless told otherwise, as for ``torchrun``."""
_SAGEMAKER = (
    Path("/opt/ml/input/config/resourceconfig.json"),  # of a training job
    Path("/opt/ml/config/resourceconfig.json"),  # of a processing job
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One of ``world_size`` copies of a job.

    :param rank: from 0; rank 0 keeps the model and writes the report.
    :param master_addr: the host of rank 0, as the others can reach it.
    :param master_port: the port there that is free for the user's own rendezvous.
    """

    rank: int = 0
    world_size: int = 1
    master_addr: str = "127.0.0.1"
    master_port: int = MASTER_PORT

    @classmethod
    def of(cls, env: Mapping[str, str], *, resource_config: Path | None = None) -> Node:
        """The node that ``env`` describes; without any description the only one there is.

        Known are our own variables, the rank also as ``JOB_COMPLETION_INDEX`` of an Indexed Job, and
        the file in which SageMaker lists the hosts of a job.

        :raises ConfigError: a value is no number, or the rank is not below the world size.
        """
        if not env.get("MLRETRAIN_WORLD_SIZE"):
            files = _SAGEMAKER if resource_config is None else (resource_config,)
            found = next((each for each in files if each.is_file()), None)
            return _of_sagemaker(found) if found else cls()
        node = cls(
            rank=_number(env, "MLRETRAIN_RANK", "JOB_COMPLETION_INDEX", default=0),
            world_size=_number(env, "MLRETRAIN_WORLD_SIZE", default=1),
            master_addr=env.get("MLRETRAIN_MASTER_ADDR") or "127.0.0.1",
            master_port=_number(env, "MLRETRAIN_MASTER_PORT", default=MASTER_PORT),
        )
        if node.rank >= node.world_size:
            raise ConfigError(
                "the rank is not below the number of nodes",
                where="MLRETRAIN_RANK",
                found=f"rank {node.rank} of {node.world_size}",
            )
        return node

    def env(self) -> dict[str, str]:
        """The node in the words of ``torchrun``, which most libraries for distributed training read."""
        facts = {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "MASTER_ADDR": self.master_addr,
            "MASTER_PORT": str(self.master_port),
        }
        return {**facts, **{f"MLRETRAIN_{name}": value for name, value in facts.items()}}


def _number(env: Mapping[str, str], *names: str, default: int) -> int:
    name = next((each for each in names if env.get(each)), None)
    if name is None:
        return default
    if not env[name].isdecimal():
        raise ConfigError("not a number", where=name, found=repr(env[name]), allowed="0, 1, 2, …")
    return int(env[name])


def _of_sagemaker(path: Path) -> Node:
    """Hosts are ranked by name; every host has the same list."""
    config = json.loads(path.read_bytes())
    hosts = sorted(config["hosts"])
    return Node(rank=hosts.index(config["current_host"]), world_size=len(hosts), master_addr=hosts[0])
