"""What a step is given: its request, a folder for its outputs, and where to note numbers."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlretrain.errors import ContractError
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.contract import StepOutput, StepRequest
from mlretrain.runtime.store import join_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """One invocation of one step.

    :param store: rooted at the request's ``output_uri``.
    :param env: settings and credentials; never written to a log or report.
    """

    request: StepRequest
    store: ArtifactStore
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
