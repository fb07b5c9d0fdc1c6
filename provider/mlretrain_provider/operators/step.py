"""Heavy steps as jobs: frozen once, started once, followed, reported, cancelled; the same on all backends."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.log import mask_secret

from mlretrain import wire
from mlretrain.errors import TransientError, from_wire
from mlretrain.ports import Backend, JobSpec, JobStatus, Resources
from mlretrain.runtime.context import CHECKPOINTS
from mlretrain.runtime.contract import (
    REQUEST_FILE,
    StepRequest,
    job_name,
    parse_request,
    request_key,
    step_prefix,
)
from mlretrain.runtime.requirements import REQUIREMENTS
from mlretrain.runtime.runner import is_secret
from mlretrain.runtime.store import join_uri
from mlretrain.runtime.tracking import RUN_FACT
from mlretrain_provider.backends import open_backend
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.jobs import StepJob
from mlretrain_provider.links import LINKS_XCOM
from mlretrain_provider.operators.pipeline import MEASURE, PipelineOperator
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.watch import JobWatch

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_POLL_S, LONGEST_POLL_S = 0.02, 0.1
"""A process of this machine is looked at often: that costs nothing, and waiting does."""


class StepOperator(PipelineOperator):
    """Run one kernel step as a job on a backend and return its result.

    Idempotent: the request is written once per run and configuration, with the facts it was decided on. A
    step that has succeeded is never run again; a job that still runs, started by a worker that died or by an
    Airflow that was rebuilt, is found and followed; another one is started only after a failure that a retry
    can mend. Killing or clearing the task cancels the job, also while the task is deferred.

    :param backend: where the job runs: ``local``, ``kubernetes``, ``sagemaker``, or the name of an
        ``mlretrain.backends`` entry point.
    :param backend_options: the backend's own keyword arguments.
    :param job_resources: ``{cpu, memory, gpu}`` of each node: cores, bytes, number; none: the backend's
        default. (An operator's ``resources`` are Airflow's own.)
    :param nodes: how many copies of the job run together.
    :param image: the container image, where the backend runs containers; none: the backend's.
    :param requirements: Python packages of the job, as pip writes them: on this machine an environment of its
        own is made of them, elsewhere the image must have them.
    :param deferrable: wait in the triggerer, without a worker slot; none: for jobs that run elsewhere. False
        where no triggerer runs.
    :param poll_s: seconds between looks at a job that runs elsewhere, 10 at least.
    :param code_root: folder with the user's code, relative to the DAG file's; it, the DAG file's own folder
        and the bundle's root are importable in a job that sees the worker's files.
    :param seed: seed of everything random in the step.
    :param env: further environment variables of the job. Not for secrets: those come from the connections.
    """

    step: ClassVar[str]
    uses_mlflow: ClassVar[bool] = False
    template_fields = (
        *PipelineOperator.template_fields,
        "backend",
        "backend_options",
        "job_resources",
        "nodes",
        "image",
        "requirements",
        "code_root",
        "seed",
        "env",
    )
    ui_color = MEASURE

    def __init__(
        self,
        *,
        backend: str = "local",
        backend_options: Mapping[str, Any] | None = None,
        job_resources: Mapping[str, Any] | None = None,
        nodes: int = 1,
        image: str | None = None,
        requirements: Sequence[str] | None = None,
        deferrable: bool | None = None,
        poll_s: float = 15.0,
        code_root: str | None = None,
        seed: int = 0,
        env: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backend = backend
        self.backend_options = backend_options
        self.job_resources = job_resources
        self.nodes = nodes
        self.image = image
        self.requirements = requirements
        self.deferrable = deferrable
        self.poll_s = poll_s
        self.code_root = code_root
        self.seed = seed
        self.env = env
        self._jobs: dict[str, StepJob] = {}
        self._watches: dict[str, JobWatch] = {}

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
        job = self.job(run, context, self.step, wire.to_wire(self.config(run, context)), self.frozen)
        request = job.request
        if RUN_FACT in request.frozen:
            context["ti"].xcom_push(key=LINKS_XCOM, value={RUN_FACT: request.frozen[RUN_FACT]})
        report = job.succeeded()
        if report is not None:
            self.log.info("%s has already succeeded in this run; its result is returned.", self.step)
            self._see_off(job)
        else:
            job.look()
            ((_, status),) = self.wait([job])
            report = job.report(status)
        return self.finish(request, report.result)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        """Look again: the trigger's word that a job has ended is a reason to wake up, not evidence."""
        if event and event.get("error"):
            raise from_wire(dict(event["error"]))
        return self.execute(context)

    def on_kill(self) -> None:
        """Cancel the jobs; called on a kill and on ``execution_timeout``, not when a worker dies."""
        for job in self._jobs.values():
            job.cancel()

    def job(
        self,
        run: RunIdentity,
        context: Context,
        step: str,
        config: dict[str, Any],
        frozen: Callable[[RunIdentity, str, Mapping[str, Any]], Mapping[str, Any]],
    ) -> StepJob:
        """The job that answers ``config``, whose request is frozen now unless it was before.

        :param frozen: makes the facts that are frozen with it, as :meth:`frozen` does.
        """
        request, prefix = self.freeze(run, step, config, frozen)
        self._jobs[request.key] = StepJob(
            request=request,
            store=self.store,
            prefix=prefix,
            backend=self._backend,
            backend_name=self.backend,
            backend_options=self.backend_options or {},
            dag_id=run.dag_id,
            spec=lambda name, number: self._spec(request, run, context, name, number),
            state=context["task_state_store"],
            try_number=run.try_number,
            where=f"{run.dag_id}/{self.task_id}",
        )
        return self._jobs[request.key]

    def freeze(
        self,
        run: RunIdentity,
        step: str,
        config: dict[str, Any],
        frozen: Callable[[RunIdentity, str, Mapping[str, Any]], Mapping[str, Any]],
    ) -> tuple[StepRequest, str]:
        """The request for ``config``, written now unless it was before, and its folder in the store."""
        key = request_key(step, self.pipeline, run.run_id, config)
        prefix = step_prefix(self.pipeline, run.run_id, step, key)

        def decide() -> Mapping[str, Any]:
            request = StepRequest(
                step=step,
                pipeline=self.pipeline,
                run_id=run.run_id,
                window_end=run.window_end,
                key=key,
                config=config,
                frozen=dict(frozen(run, key, config)),
                output_uri=self.artifact_uri(prefix),
                seed=int(self.seed),
                job=job_name(self.pipeline, step, secrets.token_hex(6)),
            )
            return dict(wire.to_wire(request))

        path = f"{prefix}/{REQUEST_FILE}"
        return parse_request(wire.canonical(self.once(path, decide)), self.artifact_uri(path)), prefix

    def wait(self, jobs: Sequence[StepJob]) -> list[tuple[StepJob, JobStatus]]:
        """Those of the jobs that have ended, one at least, each with how it ended.

        Every job has been looked at before. A platform that does not answer is asked again. Where nobody need
        wait here, raises Airflow's signal to defer, after which the task begins anew.
        """
        pause_s = FIRST_POLL_S
        longest_s = float(self.poll_s) if self._backend.remote else LONGEST_POLL_S
        while True:
            ended = [(job, status) for job in jobs if (status := self._look(job)) and status.ended]
            if ended:
                return ended
            if self._defers:
                self._defer(jobs)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)

    def _look(self, job: StepJob) -> JobStatus | None:
        """The job's state, after its log was copied; ``None`` while the platform does not answer."""
        try:
            status = self._watch(job).look()
            return job.look() if job.superseded(status) else status
        except TransientError as error:
            self.log.warning("Looking again: %s", error)
            return None

    def _see_off(self, job: StepJob) -> None:
        """Copy what a job that has reported wrote while nobody followed it."""
        if job.recall() is not None and not self._watch(job).complete:
            self.wait([job])

    @cached_property
    def _backend(self) -> Backend:
        return open_backend(self.backend, self.backend_options)

    @property
    def _defers(self) -> bool:
        return self._backend.remote if self.deferrable is None else self.deferrable

    def _defer(self, jobs: Sequence[StepJob]) -> None:
        from mlretrain_provider.triggers.job import JobTrigger

        for job in jobs:
            self._watch(job).pause()
        self.defer(
            trigger=JobTrigger(
                backend=self.backend,
                backend_options=self.backend_options or {},
                jobs=[
                    {"name": job.record.name, "handle": job.record.handle, "log_path": job.log_path}
                    for job in jobs
                ],
                artifacts_uri=self.artifacts_uri,
                storage_conn_id=self.storage_conn_id,
                poll_s=float(self.poll_s),
            ),
            method_name="execute_complete",
        )

    def _watch(self, job: StepJob) -> JobWatch:
        name = job.record.name
        if name not in self._watches:
            request_uri = join_uri(job.request.output_uri, REQUEST_FILE)
            self.log.info(
                "Job %s on %s. To run it by hand: mlretrain replay %s", name, self.backend, request_uri
            )
            self._watches[name] = JobWatch(
                backend=self._backend,
                name=name,
                handle=job.record.handle,
                log=self.log,
                store=self.store,
                log_path=job.log_path,
            )
        return self._watches[name]

    def _spec(
        self, request: StepRequest, run: RunIdentity, context: Context, name: str, number: int
    ) -> JobSpec:
        given = {**self.storage_env, **(MLflowHook(self.mlflow_conn_id).env() if self.uses_mlflow else {})}
        mask_secret({key: value for key, value in given.items() if is_secret(key)})
        place = (
            {REQUIREMENTS: "\n".join(self.requirements or ())}
            if self._backend.remote
            else {"MLRETRAIN_CODE_PATHS": self._code_paths(context)}
        )
        return JobSpec(
            name=name,
            request_uri=join_uri(request.output_uri, REQUEST_FILE),
            env={
                **place,
                **{key: value for key, value in given.items() if not is_secret(key)},
                **(self.env or {}),
                "MLRETRAIN_ATTEMPT": str(number),
            },
            secrets={key: value for key, value in given.items() if is_secret(key)},
            timeout_s=self.execution_timeout.total_seconds() if self.execution_timeout else None,
            resources=wire.from_wire(Resources, dict(self.job_resources or {})),
            nodes=int(self.nodes),
            image=self.image,
            requirements=tuple(self.requirements or ()),
            checkpoint_uri=join_uri(request.output_uri, CHECKPOINTS),
            labels={
                "pipeline": self.pipeline,
                "step": request.step,
                "run_id": run.run_id,
                "dag_id": run.dag_id,
                "task_id": self.task_id,
            },
        )

    def _code_paths(self, context: Context) -> str:
        folder = Path(self.dag.fileloc).parent
        bundle = getattr(context["ti"], "bundle_instance", None)
        paths = [folder / self.code_root if self.code_root else folder, folder]
        paths += [Path(bundle.path)] if bundle is not None else []
        return os.pathsep.join(dict.fromkeys(str(each.resolve()) for each in paths))
