"""A SageMaker of the test's own, which really runs the jobs: as processes of this machine.

What is real: HTTP, request parsing, S3, CloudWatch Logs and Secrets Manager, played by moto's server inside
this process; the container's command (``python -m mlretrain.runtime``) with the environment of the request,
so that reports, outputs and checkpoints really appear in S3; SIGTERM, the grace period, SIGKILL; exit codes.

What is fake, all of it here:

- The job's life. moto has every job completed at once and answers 500 to StopTrainingJob, so Create, Describe
  and Stop of training and processing jobs are replaced: states flip as the process goes. Names taken twice,
  unknown jobs and stopping an ended job are refused in the words that AWS is known to use.
- No instance, image, volume, VPC, KMS key, role or quota exists. A job starts when
  :attr:`FakeSagemaker.capacity` is set, which it is unless a test clears it. ``python`` is this interpreter;
  what an image would bring (``MLRETRAIN_CODE_PATHS``) comes from the fixture; the role is a pair of keys and
  moto's endpoint.
- There is no ``/opt/ml``: no channels, no ``resourceconfig.json`` (nodes get their rank by the environment),
  no copy of checkpoints. The file for the reason of a failure is elsewhere.
- Log lines are in CloudWatch before the job has ended; AWS may take seconds.
- Times are shorter: the grace period is :attr:`FakeSagemaker.grace_s`, not 120 s, and MaxRuntimeInSeconds is
  kept to the tenth of a second.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.fixtures_s3 import moto_server, s3_env

CONN_ID = "mlretrain_sagemaker"
BUCKET = "artifacts"
ACCOUNT = "123456789012"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/mlretrain"
REGION = "us-east-1"
_TICK_S = 0.02
_ENDED = ("Completed", "Failed", "Stopped")


class Refused(Exception):
    """An answer with AWS's code and words of an error."""


@dataclass(kw_only=True, eq=False)
class FakeJob:
    """One job: the request it was made from, and what became of it."""

    kind: str
    request: Mapping[str, Any]
    status: str = "InProgress"
    secondary: str = "Starting"
    message: str = "Preparing the instances for training"
    failure: str | None = None
    exit_message: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    interruption: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return str(self.request[f"{self.kind.title()}JobName"])

    @property
    def nodes(self) -> int:
        cluster = self.request.get("ResourceConfig") or self.request["ProcessingResources"]["ClusterConfig"]
        return int(cluster["InstanceCount"])

    @property
    def limit_s(self) -> float:
        return float(self.request["StoppingCondition"]["MaxRuntimeInSeconds"])

    def describe(self) -> dict[str, Any]:
        """The answer of Describe*Job."""
        title = self.kind.title()
        answer = {
            **self.request,
            f"{title}JobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{self.kind}-job/{self.name}",
            f"{title}JobStatus": self.status,
            "FailureReason": self.failure,
            "CreationTime": self.created,
            "LastModifiedTime": self.ended or self.started or self.created,
            f"{title}StartTime": self.started,
            f"{title}EndTime": self.ended,
        }
        if self.kind == "training":
            answer["SecondaryStatus"] = self.secondary
            answer["SecondaryStatusTransitions"] = [
                {"Status": self.secondary, "StartTime": self.created, "StatusMessage": self.message}
            ]
        else:
            answer["ExitMessage"] = self.exit_message
        return {key: value for key, value in answer.items() if value is not None and key != "Tags"}


@dataclass(kw_only=True, eq=False)
class FakeSagemaker:
    """The server, its jobs, and what a test may do to them.

    :param endpoint: of all AWS services.
    :param code_paths: folders of user code in the "image".
    :param image_env: further environment variables of the "image".
    :param entrypoint: a command to run in place of the request's.
    :param grace_s: seconds between SIGTERM and SIGKILL.
    """

    endpoint: str
    folder: Path
    code_paths: Sequence[Path] = ()
    image_env: dict[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] | None = None
    grace_s: float = 5.0
    conn_id: str = CONN_ID
    role_arn: str = ROLE_ARN
    bucket: str = BUCKET
    capacity: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _refusals: list[tuple[str, str, str]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _streams: set[tuple[str, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the backend, plain JSON."""
        return {
            "conn_id": self.conn_id,
            "role_arn": self.role_arn,
            "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlretrain:1",
            "instance_type": "ml.m5.large",
        }

    @property
    def env(self) -> dict[str, str]:
        """The environment that opens the artifact store, in the worker and for the role."""
        return s3_env(self.endpoint)

    @property
    def artifacts_uri(self) -> str:
        """A root for artifacts that is this server's own, though moto has one memory for all."""
        return f"s3://{self.bucket}/{self.folder.name}"

    def client(self, service: str) -> Any:
        """A boto3 client of this server."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )

    def refuse(self, code: str, message: str = "", *, times: int = 1, operation: str = "") -> None:
        """Answer the next calls that concern jobs with this error.

        :param operation: ``create``, ``describe`` or ``stop``; none: any of them.
        """
        self._refusals += [(operation, code, message)] * times

    def interrupt(self, handle: str) -> None:
        """Take the job's spot instances away, once; it starts again on others when there is capacity."""
        self.jobs[handle].interruption.set()

    def kill(self, handle: str) -> None:
        """Kill the job's processes, as the kernel does when memory runs out."""
        for process in self.jobs[handle].processes:
            _signal(process, signal.SIGKILL)

    def forget(self, handle: str) -> None:
        """Delete the job, as if nobody had ever asked for it."""
        self.kill(handle)
        del self.jobs[handle]

    def put_lines(self, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """Write ``(milliseconds, line)`` to a CloudWatch stream, which is created if need be."""
        logs = self.client("logs")
        self._streams.add((group, stream))
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=group)
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        for start in range(0, len(lines), 5000):
            events = [{"timestamp": at, "message": line or " "} for at, line in lines[start : start + 5000]]
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

    def handle(self, operation: str, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the operation ``create``, ``describe`` or ``stop``."""
        name = str(params[f"{kind.title()}JobName"])
        key = f"{kind}/{name}"
        with self._lock:
            self.calls.append(f"{operation} {key}")
            for refusal in self._refusals:
                if refusal[0] in ("", operation):
                    self._refusals.remove(refusal)
                    raise Refused(*refusal[1:])
            if operation == "create":
                if key in self.jobs:
                    raise Refused(
                        "ResourceInUse",
                        "Job name must be unique within an AWS account and region, and a job with this name "
                        f"already exists (arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}-job/{name})",
                    )
                self._start(key, FakeJob(kind=kind, request=params))
                return {f"{kind.title()}JobArn": self.jobs[key].describe()[f"{kind.title()}JobArn"]}
            if key not in self.jobs:
                raise Refused(
                    "ValidationException",
                    "Requested resource not found."
                    if kind == "training"
                    else f"Could not find requested job with name: {name}",
                )
            job = self.jobs[key]
            if operation == "describe":
                return job.describe()
            if job.status != "InProgress":
                raise Refused(
                    "ValidationException",
                    f"The request was rejected because the {kind} job is in status {job.status}.",
                )
            job.status = job.secondary = "Stopping"
            job.stop.set()
            return {}

    def close(self) -> None:
        """Kill what still runs, wait for it, and leave no log behind."""
        self.capacity.set()
        for job in list(self.jobs.values()):
            job.stop.set()
            for process in job.processes:
                _signal(process, signal.SIGKILL)
        for thread in self._threads:
            thread.join(30)
        logs = self.client("logs")
        for group, stream in self._streams:
            logs.delete_log_stream(logGroupName=group, logStreamName=stream)

    def _start(self, key: str, job: FakeJob) -> None:
        self.jobs[key] = job
        thread = threading.Thread(target=self._live, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self, job: FakeJob) -> None:
        """The job's life, from waiting for capacity to its end."""
        attempt = 0
        while True:
            if not self._gets_capacity(job):
                return self._end(job, "Stopped", "Stopped")
            attempt += 1
            why = self._run(job, attempt)
            if why == "Interrupted":
                job.interruption.clear()
                job.secondary, job.message = "Interrupted", "Insufficient capacity: the spot instances went"
                continue
            if why is not None:
                return self._end(job, "Stopped", why)
            if job.exit_code:
                self._explain(job, job.exit_code)
                return self._end(job, "Failed", "Failed")
            return self._end(job, "Completed", "Completed")

    def _gets_capacity(self, job: FakeJob) -> bool:
        while not self.capacity.wait(_TICK_S):
            if job.stop.is_set():
                return False
        return not job.stop.is_set()

    def _run(self, job: FakeJob, attempt: int) -> str | None:
        """Why the processes were ended by us; ``None`` if they ended by themselves."""
        job.processes = [self._process(job, rank) for rank in range(job.nodes)]
        pumps = [
            threading.Thread(target=self._pump, args=(job, rank, attempt, process), daemon=True)
            for rank, process in enumerate(job.processes)
        ]
        for pump in pumps:
            pump.start()
        job.started = job.started or datetime.now(UTC)
        if job.status == "InProgress":
            job.secondary, job.message = "Training", "Training image download completed."
        deadline = time.monotonic() + job.limit_s
        why: str | None = None
        while why is None and any(process.poll() is None for process in job.processes):
            if job.stop.wait(_TICK_S):
                why = "Stopped"
            elif job.interruption.is_set():
                why = "Interrupted"
            elif time.monotonic() > deadline:
                why = "MaxRuntimeExceeded"
            elif any(process.poll() for process in job.processes):
                break  # one node that fails ends the others
        job.exit_code = next((code for code in map(_exit_code, job.processes) if code), 0)
        for process in job.processes:
            _end_group(process, self.grace_s)
        for pump in pumps:
            pump.join(30)
        return why

    def _process(self, job: FakeJob, rank: int) -> subprocess.Popen[bytes]:
        entrypoint = self.entrypoint or _entrypoint(job)
        command = [sys.executable, *entrypoint[1:]] if entrypoint[0] == "python" else list(entrypoint)
        return subprocess.Popen(
            command,
            env=self._environment(job, rank),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _environment(self, job: FakeJob, rank: int) -> dict[str, str]:
        nodes = {
            "MLRETRAIN_RANK": str(rank),
            "MLRETRAIN_WORLD_SIZE": str(job.nodes),
            "MLRETRAIN_MASTER_ADDR": "127.0.0.1",
        }
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            **self.env,
            "AWS_DEFAULT_REGION": REGION,
            "MLRETRAIN_CODE_PATHS": os.pathsep.join(map(str, self.code_paths)),
            **self.image_env,
            **(nodes if job.nodes > 1 else {}),
            **job.request.get("Environment", {}),
            "MLRETRAIN_FAILURE_FILE": str(self._failure_file(job)),
        }

    def _failure_file(self, job: FakeJob) -> Path:
        return self.folder / f"{job.kind}-{job.name}.failure"

    def _explain(self, job: FakeJob, code: int) -> None:
        path = self._failure_file(job)
        said = path.read_text()[:1024] if path.exists() else ""
        job.failure = f"AlgorithmError: {said if job.kind == 'training' else ''}, exit code: {code}"
        job.exit_message = said or None

    def _end(self, job: FakeJob, status: str, secondary: str) -> None:
        with self._lock:
            job.ended = datetime.now(UTC)
            job.secondary, job.message, job.status = secondary, f"Training job {secondary.lower()}", status

    def _pump(self, job: FakeJob, rank: int, attempt: int, process: subprocess.Popen[bytes]) -> None:
        """Copy the process's output to a stream that is created with the first line."""
        assert process.stdout is not None
        stream = f"{job.name}/algo-{rank + 1}-{int(job.created.timestamp()) + attempt}"
        group = f"/aws/sagemaker/{job.kind.title()}Jobs"
        rest = b""
        with process.stdout as output:
            while chunk := os.read(output.fileno(), 1 << 18):
                *lines, rest = (rest + chunk).split(b"\n")
                self._put(group, stream, lines)
        self._put(group, stream, [rest] if rest else [])

    def _put(self, group: str, stream: str, lines: Sequence[bytes]) -> None:
        now = int(time.time() * 1000)
        self.put_lines(group, stream, [(now, line.decode("utf-8", "replace")) for line in lines])


@contextmanager
def fake_sagemaker(
    code_paths: Sequence[Path] = (), *, grace_s: float = 5.0, conn_id: str = CONN_ID
) -> Iterator[FakeSagemaker]:
    """A server with a bucket; the Airflow connection ``conn_id`` leads to it in this process."""
    from moto.sagemaker.responses import SageMakerResponse

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlretrain-sagemaker-")))
        endpoint = stack.enter_context(moto_server(BUCKET))
        fake = FakeSagemaker(
            endpoint=endpoint, folder=folder, code_paths=code_paths, grace_s=grace_s, conn_id=conn_id
        )
        fake.capacity.set()
        for kind in ("training", "processing"):
            for operation in ("create", "describe", "stop"):
                answer = _answering(fake, operation, kind)
                stack.enter_context(
                    patch.object(SageMakerResponse, f"{operation}_{kind}_job", answer, create=True)
                )
        stack.enter_context(patch.dict(os.environ, {f"AIRFLOW_CONN_{conn_id.upper()}": connection(endpoint)}))
        stack.callback(fake.close)
        stack.callback(logging.getLogger("werkzeug").setLevel, logging.getLogger("werkzeug").level)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        yield fake


def connection(endpoint: str) -> str:
    """An Amazon connection to ``endpoint``, as JSON; boto3 itself tries nothing twice."""
    keys = s3_env(endpoint)
    return json.dumps(
        {
            "conn_type": "aws",
            "login": keys["AWS_ACCESS_KEY_ID"],
            "password": keys["AWS_SECRET_ACCESS_KEY"],
            "extra": {
                "region_name": REGION,
                "endpoint_url": endpoint,
                "config_kwargs": {"retries": {"total_max_attempts": 1}},
            },
        }
    )


def _answering(fake: FakeSagemaker, operation: str, kind: str) -> Any:
    def answer(response: Any) -> Any:
        from moto.core.responses import ActionResult

        try:
            return ActionResult(fake.handle(operation, kind, json.loads(response.body)))
        except Refused as error:
            code, message = error.args
            return json.dumps({"__type": code, "message": message}), {"status": 400}

    return answer


def _entrypoint(job: FakeJob) -> list[str]:
    container = job.request.get("AlgorithmSpecification") or job.request["AppSpecification"]
    return list(container["ContainerEntrypoint"])


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    code = process.poll() or 0
    return 128 - code if code < 0 else code


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    if process.poll() is None:
        process.terminate()  # a container's first process alone is asked
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    _signal(process, signal.SIGKILL)
    process.wait()
