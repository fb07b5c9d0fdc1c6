"""The backends that keep the same promises, each with what a test needs around it."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlretrain.errors import InvalidInput, MlretrainError, UserCodeError
from mlretrain.ports import ArtifactStore, Backend, JobSpec, JobStatus
from mlretrain.runtime.contract import REQUEST_FILE, StepReport, StepRequest, request_key
from mlretrain.runtime.store import join_uri, open_store
from mlretrain.wire import pretty
from mlretrain_provider.backends import open_backend

PROBE = (sys.executable, "-P", str(Path(__file__).with_name("probe.py")))
RUNTIME = (sys.executable, "-P", "-m", "mlretrain.runtime")


@dataclass(kw_only=True, eq=False)
class Place:
    """A backend, the artifact store that its jobs share with the test, and how to lose a job there.

    :param name: the backend's name for ``open_backend``.
    :param root_uri: of the artifact store; ``env`` opens it.
    :param forget: takes all trace of an ended job away from the platform.
    :param told: whom to tell what a job's command is, and what its request asks for, if not the backend.
    :param only: the one backend for all workers, which lives in this process's memory.
    """

    name: str
    root_uri: str
    forget: Callable[[str], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 30.0
    command: tuple[str, ...] = PROBE
    told: Callable[[tuple[str, ...], str], None] | None = None
    only: Backend | None = None

    def open(self) -> Backend:
        """The backend as yet another worker opens it."""
        return self.only or open_backend(self.name, self.all_options)

    @property
    def all_options(self) -> dict[str, Any]:
        """Plain JSON; with them another process opens the same backend."""
        return dict(self.options) if self.told else {**self.options, "command": list(self.command)}

    def job(self, do: str = "succeed", *, times: int = 0, name: str | None = None, **fields: Any) -> JobSpec:
        """A job of the step ``probe``, its request in the store."""
        return self.step("probe", {"do": do, "times": times}, name=name, **fields)

    def step(self, step: str, config: dict[str, Any], *, name: str | None = None, **fields: Any) -> JobSpec:
        """A job of ``step``, its request in the store."""
        unique = uuid.uuid4().hex[:8]
        folder = join_uri(self.root_uri, f"churn/runs/{unique}/{step}")
        request = StepRequest(
            step=step,
            pipeline="churn",
            run_id=unique,
            window_end=datetime(2013, 4, 1, tzinfo=UTC),
            key=request_key(step, "churn", unique, config),
            config=config,
            output_uri=folder,
        )
        self.store(folder).write(REQUEST_FILE, pretty(request))
        if self.told:
            self.told(self.command, str(config.get("do")))
        labels = {"pipeline": "churn", "step": "train", "run_id": unique}
        env = {"MLRETRAIN_ATTEMPT": "1", **fields.pop("env", {})}
        uri = join_uri(folder, REQUEST_FILE)
        return JobSpec(name=name or f"churn-{unique}", request_uri=uri, env=env, labels=labels, **fields)

    def store(self, uri: str) -> ArtifactStore:
        """The store below ``uri``."""
        return open_store(uri, self.env)

    def outputs(self, spec: JobSpec) -> ArtifactStore:
        """What the job has written."""
        return self.store(spec.request_uri.rpartition("/")[0])

    def starts(self, spec: JobSpec) -> int:
        """How many jobs have begun to answer the request."""
        return len(self.outputs(spec).list("checkpoints/starts/"))


@contextmanager
def local(folder: Path) -> Iterator[Place]:
    """Processes of this machine."""
    options = {"state_dir": str(folder / "jobs"), "grace_s": 5.0}
    yield Place(name="local", root_uri=f"file://{folder}/store", forget=shutil.rmtree, options=options)


@contextmanager
def entry_point(folder: Path, name: str, options: Mapping[str, Any]) -> Iterator[Place]:
    """A third party's backend on this machine; it has the options ``folder`` and ``command``."""
    given = {"folder": str(folder / "jobs"), **options}
    yield Place(name=name, root_uri=f"file://{folder}/store", forget=shutil.rmtree, options=given)


@contextmanager
def kubernetes(folder: Path, cluster: Any) -> Iterator[Place]:
    """A real cluster that sees this machine's files."""
    from kubernetes import client, config

    def forget(handle: str) -> None:
        namespace, _, name = handle.partition("/")
        with config.new_client_from_config() as api:
            client.BatchV1Api(api).delete_namespaced_job(name, namespace, propagation_policy="Foreground")

    options = cluster.options(folder)
    options.pop("command")
    yield Place(
        name="kubernetes", root_uri=f"file://{folder}/store", forget=forget, options=options, wait_s=120.0
    )


@contextmanager
def sagemaker(folder: Path) -> Iterator[Place]:
    """What moto plays of SageMaker, and what :mod:`tests.fixtures_sagemaker` plays of the rest."""
    from tests.fixtures_sagemaker import fake_sagemaker

    with fake_sagemaker() as fake:

        def tell(command: tuple[str, ...], _do: str) -> None:
            fake.entrypoint = None if command == RUNTIME else command

        yield Place(
            name="sagemaker",
            root_uri=f"{fake.artifacts_uri}/{folder.name}",
            forget=fake.forget,
            options=fake.options,
            env=fake.env,
            told=tell,
        )


@contextmanager
def fake(folder: Path) -> Iterator[Place]:
    """The backend of the operators' tests, which plays a job's end and runs nothing."""
    from tests.fakes.backend import RUNNING, FakeBackend

    backend = FakeBackend()
    endings: dict[str, StepReport | JobStatus] = {
        "fail": _failed(UserCodeError("ValueError: no such luck")),
        "refuse": _failed(InvalidInput("the data is of no use", where="probe")),
        "hang": RUNNING,
        "vanish": JobStatus(state="succeeded", exit_code=0),
    }

    def play(_command: tuple[str, ...], do: str) -> None:
        backend.endings = [endings[do]] if do in endings else []

    def forget(handle: str) -> None:
        del backend.statuses[handle]

    root_uri = f"file://{folder}/store"
    yield Place(name="fake", root_uri=root_uri, forget=forget, wait_s=0.5, told=play, only=backend)


def _failed(error: MlretrainError) -> StepReport:
    return StepReport(key="", status="failed", exit_code=error.exit_code, error=error.to_wire())


@contextmanager
def opened(kind: str, folder: Path, request: Any) -> Iterator[Place]:
    """The place called ``kind``; any other name is an entry point's."""
    with ExitStack() as stack:
        if kind == "kubernetes":
            yield stack.enter_context(kubernetes(folder, request.getfixturevalue("cluster")))
        elif kind in ("local", "sagemaker", "fake"):
            yield stack.enter_context({"local": local, "sagemaker": sagemaker, "fake": fake}[kind](folder))
        else:
            options = json.loads(request.config.getoption("--backend-options"))
            yield stack.enter_context(entry_point(folder, kind, options))
