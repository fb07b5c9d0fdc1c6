"""Heavy steps as jobs: frozen once, started once, followed, reported, cancelled. One lifecycle for all backends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlretrain import wire
from mlretrain.errors import ContractError, MlretrainError, NotFound, TransientError, from_wire
from mlretrain.ports import Backend, JobSpec, JobStatus
from mlretrain.runtime.contract import PROTOCOL, StepReport, StepRequest, request_key, step_prefix
from mlretrain_provider.backends import open_backend
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.operators.pipeline import MEASURE, PipelineOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_POLL_S, LONGEST_POLL_S = 0.02, 0.5


class StepOperator(PipelineOperator):
    """Run one kernel step as a job on a backend and return its result.

    Idempotent: the request is written once per run and configuration, with the facts it was decided on. A step
    that has succeeded is never run again; a job that is still running, started by a worker that died, is found
    and followed. Killing the task cancels the job.

    :param backend: where the job runs: ``local``, or the name of an ``mlretrain.backends`` entry point.
    :param code_root: folder with the user's code, relative to the DAG file's; it and the DAG file's own
        folder are importable in the job.
    :param seed: seed of everything random in the step.
    :param env: further environment variables of the job. Not for secrets: those come from the connections.
    """

    step: ClassVar[str]
    template_fields = (*PipelineOperator.template_fields, "backend", "code_root", "seed", "env")
    ui_color = MEASURE

    def __init__(
        self,
        *,
        backend: str = "local",
        code_root: str | None = None,
        seed: int = 0,
        env: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backend = backend
        self.code_root = code_root
        self.seed = seed
        self.env = env
        self._job: tuple[Backend, str] | None = None
