"""Heavy steps as jobs: frozen once, started once, followed, reported, cancelled; the same on all backends."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.log import mask_secret

from mlretrain import wire
from mlretrain.errors import (
    ContractError,
    MlretrainError,
    NotFound,
    TransientError,
    UserCodeError,
    from_wire,
)
from mlretrain.ports import Backend, JobSpec, JobStatus
from mlretrain.runtime.contract import (
    REPORT_FILE,
    REQUEST_FILE,
    StepReport,
    StepRequest,
    parse_report,
    parse_request,
    request_key,
    step_prefix,
)
from mlretrain.runtime.tracking import RUN_FACT
from mlretrain_provider.backends import open_backend
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.joblog import JobLog
from mlretrain_provider.links import LINKS_XCOM
from mlretrain_provider.operators.pipeline import MEASURE, PipelineOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_POLL_S, LONGEST_POLL_S = 0.02, 0.1


class StepOperator(PipelineOperator):
    """Run one kernel step as a job on a backend and return its result.

    Idempotent: the request is written once per run and configuration, with the facts it was decided on. A
    step that has succeeded is never run again; a job that is still running, started by a worker that died,
    is found and followed. Killing the task cancels the job.

    :param backend: where the job runs: ``local``, or the name of an ``mlretrain.backends`` entry point.
    :param code_root: folder with the user's code, relative to the DAG file's; it, the DAG file's own folder
        and the bundle's root are importable in the job.
    :param seed: seed of everything random in the step.
    :param env: further environment variables of the job. Not for secrets: those come from the connections.
    """

    step: ClassVar[str]
    uses_mlflow: ClassVar[bool] = False
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

    def config(self, run: RunIdentity, context: Context) -> Mapping[str, Any]:
        """The step's configuration as plain JSON; the same values are the same job."""
        raise NotImplementedError

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Facts of the world that the job needs and that must not change when it is repeated."""
        return {}

    def finish(self, request: StepRequest, result: Mapping[str, Any]) -> dict[str, Any]:
        """The task's XCom: the step's result, and what the operator adds."""
        return dict(result)

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        config = wire.to_wire(self.config(run, context))
        key = request_key(self.step, self.pipeline, run.run_id, config)
        prefix = step_prefix(self.pipeline, run.run_id, self.step, key)
        request = self._request(run, key, prefix, config)
        if RUN_FACT in request.frozen:
            context["ti"].xcom_push(key=LINKS_XCOM, value={RUN_FACT: request.frozen[RUN_FACT]})
        report = self._report(prefix, key)
        if report is not None and report.status == "succeeded":
            self.log.info("%s has already succeeded in this run; its result is returned.", self.step)
        else:
            spec = JobSpec(
                name=f"{self.pipeline}-{self.step}-{key}",
                request_uri=self.artifact_uri(f"{prefix}/{REQUEST_FILE}"),
                env=self._job_env(run, context),
                timeout_s=self.execution_timeout.total_seconds() if self.execution_timeout else None,
            )
            status = self._run(spec)
            report = _succeeded(status, self._report(prefix, key), f"{run.dag_id}/{self.task_id}")
        return self.finish(request, report.result)

    def on_kill(self) -> None:
        if self._job is not None:
            backend, handle = self._job
            backend.cancel(handle)

    def _request(self, run: RunIdentity, key: str, prefix: str, config: dict[str, Any]) -> StepRequest:
        def decide() -> Mapping[str, Any]:
            request = StepRequest(
                step=self.step,
                pipeline=self.pipeline,
                run_id=run.run_id,
                window_end=run.window_end,
                key=key,
                config=config,
                frozen=dict(self.frozen(run, key, config)),
                output_uri=self.artifact_uri(prefix),
                seed=int(self.seed),
            )
            return dict(wire.to_wire(request))

        path = f"{prefix}/{REQUEST_FILE}"
        return parse_request(wire.canonical(self.once(path, decide)), self.artifact_uri(path))

    def _report(self, prefix: str, key: str) -> StepReport | None:
        path = f"{prefix}/{REPORT_FILE}"
        try:
            report = parse_report(self.store.read(path), self.artifact_uri(path))
        except NotFound:
            return None
        if report.key != key:
            raise ContractError("the report is another request's", where=self.artifact_uri(path))
        return report

    def _job_env(self, run: RunIdentity, context: Context) -> dict[str, str]:
        secrets = {**self.storage_env, **(MLflowHook(self.mlflow_conn_id).env() if self.uses_mlflow else {})}
        mask_secret(dict[str, Any](secrets))
        return {
            **(self.env or {}),
            **secrets,
            "MLRETRAIN_ATTEMPT": str(run.try_number),
            "MLRETRAIN_CODE_PATHS": os.pathsep.join(self._code_paths(context)),
        }

    def _code_paths(self, context: Context) -> list[str]:
        folder = Path(self.dag.fileloc).parent
        bundle = getattr(context["ti"], "bundle_instance", None)
        paths = [folder / self.code_root if self.code_root else folder, folder]
        paths += [Path(bundle.path)] if bundle is not None else []
        return list(dict.fromkeys(str(each.resolve()) for each in paths))

    def _run(self, spec: JobSpec) -> JobStatus:
        backend = open_backend(self.backend)
        handle = backend.submit(spec)
        self._job = (backend, handle)
        self.log.info("Job %s on %s: %s", spec.name, self.backend, spec.request_uri)
        try:
            return self._follow(backend, handle)
        except (MlretrainError, BrokenPipeError):
            raise  # the backend cannot be asked, or this task's worker has died; the job may be well
        except BaseException:  # Airflow's timeout is one
            backend.cancel(handle)
            raise

    def _follow(self, backend: Backend, handle: str) -> JobStatus:
        log, pause_s = JobLog(backend, handle, self.log), FIRST_POLL_S
        while True:
            status = backend.status(handle)
            log.copy()
            if status.state not in ("pending", "running"):
                log.close()
                return status
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_POLL_S)


def _succeeded(status: JobStatus, report: StepReport | None, where: str) -> StepReport:
    """The report of a job that has ended well, else its error. A report counts more than the status."""
    if report is not None and report.status == "succeeded":
        return report
    if status.state == "succeeded":
        raise ContractError("the job ended well but left no report that says so", where=where)
    if report is not None and report.error is not None and report.exit_code == status.exit_code:
        raise from_wire({**report.error, "where": report.error.get("where") or where})
    reason = status.reason or f"the job is {status.state}"
    if status.exit_code == UserCodeError.exit_code:
        raise UserCodeError(reason, where=where, remedy="See the job's log above.")
    raise TransientError(reason, where=where, remedy="See the job's log above.")
