"""Jobs on Amazon SageMaker: training jobs for training, processing jobs for all other steps."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from mlretrain.errors import ContractError, MissingExtra, MlretrainError
from mlretrain.ports import JobSpec, JobStatus
from mlretrain_provider.backends.aws import AwsCaller, error_code, is_absent, is_taken
from mlretrain_provider.backends.sagemaker_log import CloudWatchLog
from mlretrain_provider.backends.sagemaker_options import SagemakerOptions, kind_of
from mlretrain_provider.backends.sagemaker_request import processing_request, training_request
from mlretrain_provider.backends.sagemaker_status import processing_status, training_status

_REQUESTS = {"training": training_request, "processing": processing_request}
_STATUSES = {"training": training_status, "processing": processing_status}
_LOG_GROUPS = {"training": "/aws/sagemaker/TrainingJobs", "processing": "/aws/sagemaker/ProcessingJobs"}


class SagemakerBackend:
    """Run each job as a SageMaker job; its handle is ``training/<name>`` or ``processing/<name>``.

    A job's name is taken for good in an account and region, so asking twice finds the first job. A job that
    is stopped gets SIGTERM and has 120 seconds before it is killed.

    :param conn_id: an Amazon connection: credentials, assumed role, region, ``endpoint_url``.
    :param role_arn: the role that the job itself has. It reads and writes the artifact store with it.
    :param image: default image, in Amazon ECR.
    :param instance_type: such as ``ml.m5.xlarge``; it alone decides about cores, memory and GPUs.
    :param job: ``training``, ``processing``, or ``auto``: training jobs for train and trial, else processing.
    :param volume_gb: size of each instance's disk, GB.
    :param spot: train on spot instances: ``{max_wait_s}`` is how long the job may take with all its waiting.
        Interrupted, it is started again and finds its checkpoints. Processing jobs have no spot instances and
        are not touched by this.
    :param subnets: with ``security_group_ids``, the VPC to run in; it must have a way to S3.
    :param kms_key: encrypts a training job's output.
    :param volume_kms_key: encrypts the disks.
    :param encrypt_traffic: encrypt what the nodes of one job say to each other.
    :param network_isolation: refused: an isolated job cannot reach its request.
    :param tags: further tags; the job's labels become tags ``mlretrain:<label>``.
    :param channels: name → S3 prefix that SageMaker copies to the instance, to the folder in the environment
        variable ``SM_CHANNEL_<NAME>``.
    :param env: environment variables for everybody to read.
    :param secrets_arn: a secret of AWS Secrets Manager, a JSON object from variable name to value, which the
        job reads into its environment.
    :param log_lines: with how many of its log's last lines the reason of a failed job ends. All lines are
        delivered by :meth:`logs`, also when nobody looked while it ran.
    """

    remote = True

    def __init__(
        self,
        conn_id: str = "aws_default",
        *,
        role_arn: str,
        image: str | None = None,
        instance_type: str | None = None,
        job: str = "auto",
        volume_gb: int = 30,
        spot: Mapping[str, Any] | None = None,
        subnets: Sequence[str] = (),
        security_group_ids: Sequence[str] = (),
        kms_key: str | None = None,
        volume_kms_key: str | None = None,
        encrypt_traffic: bool = False,
        network_isolation: bool = False,
        tags: Mapping[str, str] | None = None,
        channels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        secrets_arn: str | None = None,
        log_lines: int = 50,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._options = SagemakerOptions(
            role_arn=role_arn,
            image=image,
            instance_type=instance_type,
            job=job,
            volume_gb=volume_gb,
            spot=spot,
            subnets=tuple(subnets),
            security_group_ids=tuple(security_group_ids),
            kms_key=kms_key,
            volume_kms_key=volume_kms_key,
            encrypt_traffic=encrypt_traffic,
            network_isolation=network_isolation,
            tags=dict(tags or {}),
            channels=dict(channels or {}),
            env=dict(env or {}),
            secrets_arn=secrets_arn,
        )
        self._log_lines = log_lines
        self._call = AwsCaller(conn_id=conn_id, sleep=sleep, jitter=jitter)

    def submit(self, spec: JobSpec) -> str:
        """Create the job, or find the one that has its name already."""
        kind = kind_of(spec, self._options)
        request = _REQUESTS[kind](spec, self._options)
        handle = f"{kind}/{request[_name_of(kind)]}"
        self._call(lambda: self._client("create", kind)(**request), where=_where(handle), unless=is_taken)
        return handle

    def status(self, handle: str) -> JobStatus:
        """The job's state; the reason of a failure is SageMaker's, followed by the end of the log."""
        kind, name = _parts(handle)
        description = self._describe(kind, name)
        if description is None:
            return JobStatus(state="lost", reason=f"SageMaker knows no {kind} job {name}")
        status = _STATUSES[kind](description)
        return replace(status, reason=self._with_log(handle, status)) if status.state == "failed" else status

    def logs(self, handle: str, cursor: str) -> tuple[str, str]:
        """The job's CloudWatch lines; lines of other nodes than the first begin with ``[algo-<n>]``.

        Where CloudWatch may not be read one line says so: the job is well.
        """
        return self._log(handle).since(cursor)

    def cancel(self, handle: str) -> None:
        """Stop the job, unless it has ended, is being stopped or is unknown."""
        kind, name = _parts(handle)
        description = self._describe(kind, name)
        if description is None or description[f"{kind.title()}JobStatus"] != "InProgress":
            return
        self._call(
            lambda: self._client("stop", kind)(**{_name_of(kind): name}),
            where=_where(handle),
            unless=lambda error: is_absent(error) or error_code(error) == "ValidationException",
        )

    def _describe(self, kind: str, name: str) -> Mapping[str, Any] | None:
        return self._call(
            lambda: self._client("describe", kind)(**{_name_of(kind): name}),
            where=_where(f"{kind}/{name}"),
            unless=is_absent,
        )

    def _with_log(self, handle: str, status: JobStatus) -> str | None:
        try:
            tail = self._log(handle).tail(self._log_lines) if self._log_lines > 0 else []
        except MlretrainError:  # the reason alone is worth more than none
            tail = []
        return "\n".join([f"{status.reason}; its log ends:", *tail]) if tail else status.reason

    def _log(self, handle: str) -> CloudWatchLog:
        kind, name = _parts(handle)
        return CloudWatchLog(hook=self._hook.logs_hook, call=self._call, group=_LOG_GROUPS[kind], job=name)

    def _client(self, verb: str, kind: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._hook.conn, f"{verb}_{kind}_job")
        return call

    @cached_property
    def _hook(self) -> Any:
        try:
            from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook
        except ImportError:
            raise MissingExtra.of("apache-airflow-providers-amazon", "amazon") from None
        hook: Any = SageMakerHook
        return hook(aws_conn_id=self._call.conn_id)


def _name_of(kind: str) -> str:
    return f"{kind.title()}JobName"


def _parts(handle: str) -> tuple[str, str]:
    kind, _, name = handle.partition("/")
    if kind not in _REQUESTS or not name:
        raise ContractError(
            "not a SageMaker job's handle",
            found=repr(handle),
            allowed="training/<name>, processing/<name>",
        )
    return kind, name


def _where(handle: str) -> str:
    return f"SageMaker {handle}"
