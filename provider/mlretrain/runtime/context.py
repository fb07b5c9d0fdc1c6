"""What a step is given: its request, a folder for its outputs, and where to note numbers."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlretrain.errors import ContractError, NotFound
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.contract import StepOutput, StepRequest
from mlretrain.runtime.node import Node
from mlretrain.runtime.store import join_uri

CHECKPOINTS = "checkpoints"
"""The folder below a request's outputs."""

logger = logging.getLogger("mlretrain")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobContext:
    """What code may do while its job runs: keep what it has so far, find it again, tell how far it is.

    :param store: rooted at the request's ``output_uri``.
    :param node: which of several copies of the job this is. They share the folder of checkpoints: each uses
        names of its own there, or only rank 0 keeps any.
    """

    store: ArtifactStore
    node: Node = field(default_factory=Node)

    @property
    def rank(self) -> int:
        """Which copy of the job this is, from 0; only rank 0's model and report are kept."""
        return self.node.rank

    @property
    def world_size(self) -> int:
        """How many copies of the job run together."""
        return self.node.world_size

    @property
    def checkpoint_uri(self) -> str:
        """The folder of the step's checkpoints, the same on every try of the same run."""
        return join_uri(self.store.root_uri, CHECKPOINTS)

    def save_checkpoint(self, name: str, data: bytes) -> str:
        """Keep ``data`` under ``name``, in place of what was there; a job that dies meanwhile spoils nothing.

        :return: the URI of the object.
        """
        path = f"{CHECKPOINTS}/{name}"
        self.store.write(path, data)
        return join_uri(self.store.root_uri, path)

    def load_checkpoint(self, name: str) -> bytes | None:
        """What this try or an earlier one kept last under ``name``; ``None`` if none did."""
        try:
            return self.store.read(f"{CHECKPOINTS}/{name}")
        except NotFound:
            return None

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Say in the task's log how far the job is: a line such as ``progress: 3 of 10 (30 %), loss 0.21``.

        :param done: how many of ``total`` steps, epochs, rows or whatever is counted are done.
        :param total: 0 if nobody knows.
        """
        share = f" of {total:g} ({100 * done / total:.0f} %)" if total > 0 else ""
        logger.info("progress: %g%s%s", done, share, f", {message}" if message else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext(JobContext):
    """One invocation of one step.

    :param env: settings and credentials; never written to a log or report.
    """

    request: StepRequest
    env: Mapping[str, str]
    outputs: dict[str, StepOutput] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    def write_output(self, name: str, path: str, data: bytes) -> str:
        """Keep ``data`` at ``path`` below the output folder; listed in the report as ``name``.

        :return: the URI of the object.
        """
        self.store.write(path, data)
        uri = self.uri_of(path)
        self.outputs[name] = StepOutput(uri=uri, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        return uri

    def uri_of(self, path: str) -> str:
        """The URI of ``path`` below the output folder."""
        return join_uri(self.store.root_uri, path)

    def log_metric(self, name: str, value: float) -> None:
        """Note a number in the report."""
        if math.isnan(float(value)):
            raise ContractError(f"metric {name} is not a number", where=self.request.step, found="nan")
        self.metrics[name] = float(value)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the seconds spent inside to the report's timings under ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = round(self.timings.get(name, 0.0) + time.perf_counter() - start, 4)
