"""The step contract: what a job is asked (request), what it answers (report) and where both are kept.

The protocol has a version of its own, apart from the package's: a job's image may be older or newer than
the Airflow that started it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from mlretrain.errors import ContractError
from mlretrain.wire import digest, from_wire

PROTOCOL = 1

REQUEST_FILE = "request.json"
REPORT_FILE = "report.json"

_DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
# A job's name is a label of 63 characters in Kubernetes and SageMaker; "-999" is kept for the number.
_LONGEST_JOB_NAME = 59
_READABLE_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """Everything one step needs to know; written once, so that a retry does the same work.

    :param window_end: the instant that the run is about, in data time.
    :param key: see :func:`request_key`.
    :param config: the fields of the step module's ``Config``.
    :param frozen: facts that were true when the request was made, such as the champion and the MLflow run.
    :param output_uri: the folder for the report and all outputs.
    :param job: what the names of this request's jobs begin with; its first job is ``<job>-1``.
    """

    protocol: int = PROTOCOL
    step: str
    pipeline: str
    run_id: str
    window_end: datetime
    key: str
    config: dict[str, Any]
    frozen: dict[str, Any] = field(default_factory=dict)
    output_uri: str
    seed: int = 0
    job: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """One object that a step wrote: where, its SHA-256 and its size in bytes."""

    uri: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What came of a request.

    :param exit_code: 0, or the code of the error's class.
    :param timings: seconds by phase.
    :param attempt: the number of the job that wrote it.
    :param error: :meth:`mlretrain.errors.MlretrainError.to_wire` of a failed step.
    """

    protocol: int = PROTOCOL
    key: str
    status: Literal["succeeded", "failed"]
    exit_code: int
    result: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, StepOutput] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    attempt: int = 1


def request_key(step: str, pipeline: str, run_id: str, config: Mapping[str, Any]) -> str:
    """Twelve hex digits that name this work: the same step of the same run with the same config."""
    return digest({"step": step, "pipeline": pipeline, "run_id": run_id, "config": config}, 12)


def report_file(rank: int) -> str:
    """The name of one node's report: rank 0's is the job's, the others' are beside it."""
    return f"report-{rank}.json" if rank else REPORT_FILE


def run_slug(run_id: str) -> str:
    """``run_id`` as one path segment: itself where it is plain, else cleaned and told apart by a digest."""
    if _READABLE_RUN_ID.fullmatch(run_id):
        return run_id
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", run_id).strip("-")[:71]
    return f"{cleaned}-{digest(run_id, 8)}"


def step_prefix(pipeline: str, run_id: str, step: str, key: str) -> str:
    """The step's folder in the artifact store."""
    return f"{pipeline}/runs/{run_slug(run_id)}/{step}-{key}"


def dns_label(name: str, limit: int = 63) -> str:
    """``name`` as clusters and clouds want names: lower-case letters, digits and dashes, at most ``limit``.

    A name that is no such label is cleaned, shortened, and told apart from all others by a digest (RFC 1123).
    """
    if len(name) <= limit and _DNS_LABEL.fullmatch(name):
        return name
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: limit - 9].strip("-")
    return f"{cleaned or 'job'}-{digest(name, 8)}"


def job_name(pipeline: str, step: str, token: str) -> str:
    """What the names of all jobs for one request begin with: readable, and nobody else's.

    :param token: hexadecimal digits that belong to this request alone.
    """
    tail = f"{step}-{token}"
    return f"{dns_label(pipeline, _LONGEST_JOB_NAME - 1 - len(tail))}-{tail}"


def parse_request(data: bytes, where: str) -> StepRequest:
    """The request in ``data``. Raises :class:`ContractError` for another protocol or shape."""
    return _parse(StepRequest, data, where)


def parse_report(data: bytes, where: str) -> StepReport:
    """The report in ``data``. Raises :class:`ContractError` for another protocol or shape."""
    return _parse(StepReport, data, where)


def _parse(cls: type[T], data: bytes, where: str) -> T:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ContractError("not JSON", where=where, found=str(error)) from error
    protocol = content.get("protocol") if isinstance(content, dict) else None
    if protocol != PROTOCOL:
        raise ContractError(
            "another version of the step protocol",
            where=where,
            found=repr(protocol),
            allowed=str(PROTOCOL),
            remedy="Use the same airflow-provider-mlretrain version in Airflow and in the job's environment.",
        )
    try:
        return from_wire(cls, content)
    except ContractError as error:
        raise ContractError(
            f"{error.where}: {error.message}", where=where, found=error.found, allowed=error.allowed
        ) from error
