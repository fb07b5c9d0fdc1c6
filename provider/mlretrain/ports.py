"""The kernel's ports: what it needs from stores, registries, servers and backends.

Ports are small; the adapters name the vendors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

CHAMPION = "champion"
CHALLENGER = "challenger"

JobState = Literal["pending", "running", "succeeded", "failed", "cancelled", "lost"]


class ArtifactStore(Protocol):
    """A flat, durable key-value store below one root URI; paths are relative and use ``/``."""

    root_uri: str

    def read(self, path: str) -> bytes:
        """The object's bytes. Raises :class:`~mlretrain.errors.NotFound`."""

    def write(self, path: str, data: bytes) -> None:
        """Replace the object as a whole: a reader sees the old bytes or the new ones, nothing between."""

    def create(self, path: str, data: bytes) -> bool:
        """Write the object unless it exists; of several writers exactly one gets ``True``."""

    def list(self, prefix: str) -> list[str]:
        """Every path that starts with ``prefix``, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: str
    run_id: str | None = None
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_uri(self) -> str:
        """What every MLflow client can load."""
        return f"models:/{self.name}/{self.version}"


class ModelRegistry(Protocol):
    """Versions, aliases and tags. ``register`` is get-or-create; the other writes are idempotent."""

    def register(self, name: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version made from ``run_id``, created if there is none."""

    def version(self, name: str, ref: str) -> ModelVersion | None:
        """The version by number (``"7"``) or alias (``"@champion"``); ``None`` if there is none."""

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version, oldest first."""

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Point ``alias`` at ``version``; ``None`` removes it."""

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""

    def describe_version(self, name: str, version: str, text: str) -> None:
        """Say in Markdown what a version is; replaces what was said before."""


class RunTracker(Protocol):
    """Runs of an experiment. ``open_run`` is get-or-create by ``key``."""

    def open_run(self, experiment: str, key: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run tagged ``mlretrain.key=key``, created if there is none."""

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in one call each; the same values twice are logged once."""

    def log_dataset(self, run_id: str, *, name: str, digest: str, uri: str, context: str) -> None:
        """Record a dataset as the run's input."""

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """Keep a file for people with the run. What stands against it for good is logged, not raised."""

    def describe(self, run_id: str, text: str) -> None:
        """Say in plain text, in paragraphs, what the run is about; replaces what was said before."""

    def close_run(self, run_id: str, status: Literal["FINISHED", "FAILED"]) -> None:
        """End the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Who answers a model's requests.

    :param weights: percentages by version, summing to 100; one of 0 is a standby: loaded and ready, unserved.
        Empty: nothing is served.
    :param mirrored: versions that get copies of so many percent of the requests; nobody sees their answers.
    :param generation: the number of the ledger's link that ordered this, by which a target knows an order
        that comes too late; 0: nobody's order.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    mirrored: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0

    @property
    def served(self) -> dict[str, int]:
        """The versions that answer requests."""
        return {version: weight for version, weight in self.weights.items() if weight}

    def same(self, other: Traffic) -> bool:
        """Whether the same versions get the same requests, whoever ordered it."""
        return (dict(self.weights), dict(self.mirrored)) == (dict(other.weights), dict(other.mirrored))


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStats:
    """What one version did in a time span; latencies in milliseconds, ``None`` without requests.

    :param compared: rows of a mirrored version that were compared with the answer that was served.
    :param disagreement: the share of them that differ; numbers: by more than 1e-6 of their size.
    :param difference_p95: the difference, in the prediction's own unit, that 95 % of them do not exceed.
    """

    requests: int = 0
    errors: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    compared: int = 0
    disagreement: float | None = None
    difference_p95: float | None = None


class ServingTarget(Protocol):
    """Where models are served; declarative, so that a repeated act changes nothing."""

    def apply(self, model: str, traffic: Traffic) -> None:
        """Serve exactly this; returns once it is so.

        :raises Superseded: a later generation is in force.
        :raises InvalidInput: it can never be so; what was served is served still.
        :raises TransientError: the platform does not answer.
        """

    def current(self, model: str) -> Traffic:
        """What is in force, as the platform has it; empty if nothing is served."""

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        """Statistics per version since an instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one node of a job may use; ``None`` is the backend's own default.

    :param cpu: cores, such as 0.5.
    :param memory: bytes.
    :param gpu: number of accelerators.
    """

    cpu: float | None = None
    memory: int | None = None
    gpu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job of one step: everything a backend needs to start it.

    :param name: names the job for good: the same name is the same job, whoever asks for it.
    :param env: environment variables that everybody may read where the job is described.
    :param secrets: environment variables that must not be readable there.
    :param timeout_s: seconds after which the platform itself stops the job.
    :param nodes: how many copies run together; see :mod:`mlretrain.runtime.node`.
    :param image: the container image; none: the backend's own.
    :param requirements: packages of the job's own environment, as pip writes them; none: the backend's own.
    :param checkpoint_uri: the job's folder for checkpoints, the same on every try.
    :param labels: where the job comes from: ``pipeline``, ``step``, ``run_id``, ``dag_id``, ``task_id``.
    """

    name: str
    request_uri: str
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    resources: Resources = Resources()
    nodes: int = 1
    image: str | None = None
    requirements: tuple[str, ...] = ()
    checkpoint_uri: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The state of a job: why it does not run yet, or why it has ended."""

    state: JobState
    exit_code: int | None = None
    reason: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state not in ("pending", "running")


class Backend(Protocol):
    """Where jobs run.

    A call that fails because the platform does not answer raises
    :class:`~mlretrain.errors.TransientError`; the job may be well.
    """

    remote: bool
    """Whether a job runs without its worker, on a machine that does not have the worker's files."""

    def submit(self, spec: JobSpec) -> str:
        """The handle of the job of that name, started if there is none; an ended one is not repeated."""

    def status(self, handle: str) -> JobStatus:
        """The job's state now; ``lost`` if nobody knows it."""

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        """Whole lines written since ``cursor`` and the next cursor; ``""`` is the beginning.

        A cursor is opaque, and good in another process too. One that does not move means that there is no
        more for now. Only the last line of a job that has ended may lack its end.
        """

    def cancel(self, handle: str) -> None:
        """Ask the job to stop, kill it after a grace period; one that has ended or is lost is left alone."""
