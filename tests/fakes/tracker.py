"""A run tracker in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlretrain.errors import NotFound


@dataclass(slots=True)
class FakeRun:
    """One run, as a test wants to look at it."""

    experiment: str
    name: str
    tags: dict[str, str]
    params: dict[str, object] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    datasets: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    description: str = ""
    status: str = "RUNNING"


class FakeTracker:
    """An :class:`mlretrain.ports.RunTracker`; ``runs`` by id."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}

    def open_run(self, experiment: str, key: str, name: str, tags: Mapping[str, str]) -> str:
        for run_id, run in self.runs.items():
            if run.experiment == experiment and run.tags["mlretrain.key"] == key:
                return run_id
        run_id = f"run{len(self.runs) + 1}"
        self.runs[run_id] = FakeRun(experiment=experiment, name=name, tags={**tags, "mlretrain.key": key})
        return run_id

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        run = self.runs[run_id]
        run.params.update(params or {})
        run.metrics.update(metrics or {})
        run.tags.update(tags or {})

    def log_dataset(self, run_id: str, *, name: str, digest: str, uri: str, context: str) -> None:
        entry = {"name": name, "digest": digest, "uri": uri, "context": context}
        if entry not in self.runs[run_id].datasets:
            self.runs[run_id].datasets.append(entry)

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        if run_id not in self.runs:
            raise NotFound("there is no such run", found=run_id)
        self.runs[run_id].files[path] = data

    def describe(self, run_id: str, text: str) -> None:
        self.runs[run_id].description = text

    def close_run(self, run_id: str, status: Literal["FINISHED", "FAILED"]) -> None:
        self.runs[run_id].status = status
