"""A seeded schedule of retrainings and roll-backs whose tasks die, repeat, overtake each other and fail.

The real operators run, on a fake clock; between any two calls to store, registry and serving target anything
may happen. A worker may be killed, or be frozen and wake up when its task has long been run again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mlretrain.errors import InvalidInput, MlretrainError
from mlretrain.ledger import Ledger
from mlretrain.ports import ModelVersion, Traffic, VersionStats
from mlretrain.verify import Agreement
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.operators import deployment, pipeline, record, registry
from mlretrain_provider.operators.deployment import (
    CanaryGateOperator,
    DeployModelOperator,
    RollBackModelOperator,
)
from mlretrain_provider.operators.pipeline import PipelineOperator
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.registry import PromoteModelOperator
from mlretrain_provider.run import RunIdentity
from tests.fakes.registry import FakeRegistry
from tests.fakes.target import FakeTarget
from tests.fakes.tracker import FakeTracker
from tests.fault.hub import Hub, Process
from tests.fault.outside import ROOT, FlakyStore, Outage

MODEL = "flights"
START = datetime(2026, 1, 5, tzinfo=UTC)
TRIES, ZOMBIE_S, LIMIT_S = 3, 30.0, 100_000.0
SERVING = {"target": "local", "conn_id": "models"}
STRATEGIES: dict[str, list[dict[str, Any]]] = {
    "direct": [{"weight": 100}],
    "canary": [{"weight": 10}, {"weight": 50}],
    "blue_green": [{"weight": 100, "keep": True}],
    "shadow": [{"weight": 100, "mode": "mirror"}],
}


class FlakyRegistry:
    """A registry behind a network."""

    def __init__(self, hub: Hub) -> None:
        self.kept = FakeRegistry()
        self.outage = Outage(hub, "registry")

    def register(self, name: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        return self.outage.call("register", lambda: self.kept.register(name, model_uri, run_id, tags))

    def version(self, name: str, ref: str) -> ModelVersion | None:
        return self.outage.call("version", lambda: self.kept.version(name, ref))

    def versions(self, name: str) -> list[ModelVersion]:
        return self.outage.call("versions", lambda: self.kept.versions(name))

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        self.outage.call(f"set {alias}", lambda: self.kept.set_alias(name, alias, version))

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        self.outage.call("tag", lambda: self.kept.tag(name, version, tags))

    def describe_version(self, name: str, version: str, text: str) -> None:
        self.outage.call("describe", lambda: self.kept.describe_version(name, version, text))


class FlakyTarget:
    """A serving target behind a network; ``broken`` versions cannot be loaded."""

    def __init__(self, hub: Hub) -> None:
        self.kept = FakeTarget()
        self.outage = Outage(hub, "target")
        self.broken: set[str] = set()

    def apply(self, model: str, traffic: Traffic) -> None:
        def served() -> None:
            if self.broken & {*traffic.weights, *traffic.mirrored}:
                raise InvalidInput("a version cannot be loaded", found=str(dict(traffic.weights)))
            self.kept.apply(model, traffic)

        self.outage.call("apply", served)

    def current(self, model: str) -> Traffic:
        return self.outage.call("current", lambda: self.kept.current(model))

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        return self.outage.call("metrics", lambda: self.kept.metrics(model, since))


@dataclass
class Run:
    """One DAG run: its tasks in order, each with the function that does it."""

    identity: RunIdentity
    tasks: dict[str, Callable[[], Any]]
    states: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)


@dataclass
class World:
    """Everything that one seed decides."""

    seed: int

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.hub = Hub(self.random)
        self.store = FlakyStore(self.hub)
        self.registry = FlakyRegistry(self.hub)
        self.target = FlakyTarget(self.hub)
        self.breached: set[str] = set()
        self.happened: Counter[str] = Counter()
        self.runs: list[Run] = []
        self.open = 0
        self.hub.on_point = self._strike
        self.faults = self.random.choice([0, 1, 2, 4, 8])

    @property
    def ledger(self) -> Ledger:
        """What is kept, without a network between."""
        return Ledger(self.store.kept, MODEL, self.registry.kept)

    @property
    def agreement(self) -> Agreement:
        return Agreement(
            pipeline=MODEL, store=self.store.kept, registry=self.registry.kept, target=self.target.kept
        )

    def run(self) -> World:
        """Let two to four runs do their work, one after the other or at once, and everybody finish."""
        logging.disable(logging.CRITICAL)
        try:
            with self._connected():
                for number in range(self.random.randint(2, 4)):
                    start = number * self.random.choice([3.0, 30.0, 400.0])
                    self.open += 1
                    self.hub.at(start, lambda number=number: self._begin(number))  # type: ignore[misc]
                assert self.hub.run(lambda: self.open == 0, LIMIT_S), "the runs do not end"
                self.hub.run(lambda: False, LIMIT_S)
        finally:
            logging.disable(logging.NOTSET)
            self.hub.close()
        return self

    def violations(self) -> list[str]:
        """What must hold once everybody has finished, and does not."""
        standing = self.ledger.standing()
        alias = self.registry.kept.version(MODEL, "@champion")
        traffic = self.target.kept.current(MODEL)
        found = [each.message for each in self.agreement.verify() if each.subject in WORLD]
        if sum(traffic.weights.values()) not in (0, 100):
            found.append(f"traffic sums to {sum(traffic.weights.values())}")
        if (alias.version if alias else None) != standing.champion:
            found.append(f"alias {alias}, ledger {standing.champion}")
        if standing.champion is not None:
            found += [f"breached {each} serves" for each in self.breached if traffic.served.get(each)]
            found += [f"breached {each} is champion" for each in self.breached if each == standing.champion]
        for run in self.runs:
            ends = [each.kind for each in self.ledger.of_run(run.identity.run_id, "promoted", "rolled_back")]
            if len(ends) > 1:
                found.append(f"{run.identity.run_id} ended as {ends}")
        return found

    @contextmanager
    def _connected(self) -> Iterator[None]:
        world = (
            mock.patch.object(pipeline, "open_store", return_value=self.store),
            mock.patch.object(pipeline, "open_target", return_value=self.target),
            mock.patch.object(MLflowHook, "registry", return_value=self.registry),
            mock.patch.object(MLflowHook, "tracker", return_value=FakeTracker()),
            *(mock.patch.object(each, "emit_champion") for each in (deployment, record, registry)),
        )
        with ExitStack() as stack:
            for each in world:
                stack.enter_context(each)
            yield

    def _strike(self, point: str, process: Process) -> None:
        """Now and then something happens, just before or just after a call."""
        if self.faults == 0 or self.random.random() > 0.02:
            return
        self.faults -= 1
        what = self.random.choice(["kill", "freeze", "store", "registry", "target"])
        self.happened[what] += 1
        match what:
            case "kill":
                process.kill()
            case "freeze":
                process.frozen_until = self.hub.now + self.random.choice([40.0, 90.0, 500.0])
            case _:
                outage: Outage = getattr(self, what).outage
                outage.begin(self.random.choice([2.0, 10.0, 60.0]))

    def _begin(self, number: int) -> None:
        back = number and self.random.random() < 0.3
        run = self._rollback(number) if back else self._retrain(number)
        self.runs.append(run)
        self.hub.spawn("scheduler", lambda: self._schedule(run))

    def _schedule(self, run: Run) -> None:
        """What Airflow does with a run: tasks in order, tries, ``one_failed``, ``all_done``."""
        try:
            for task in run.tasks:
                run.states[task] = self._ready(run, task) or self._tries(run, task)
            if self.random.random() < 0.3:
                cleared = self.random.choice(list(run.tasks))
                self.happened["cleared"] += 1
                self._tries(run, cleared)
                run.states["record"] = self._tries(run, "record")
            while run.states["record"] == "failed":
                # A person sees the failed run and clears its last task once all is well again.
                self.happened["cleared after an outage"] += 1
                self.hub.sleep(60.0)
                run.states["record"] = self._tries(run, "record")
        finally:
            self.open -= 1

    def _ready(self, run: Run, task: str) -> str | None:
        """The state of a task that is not run; ``None`` of one that is."""
        before = [state for name, state in run.states.items() if name != "roll_back"]
        if task == "record":
            return None
        failed = any(state in ("failed", "upstream_failed") for state in before)
        if task == "roll_back" and "promote" in run.tasks:
            return None if failed else "skipped"
        return "upstream_failed" if failed else None

    def _tries(self, run: Run, task: str) -> str:
        state = "failed"
        for number in range(TRIES):
            state = self._try(run, task)
            if self.random.random() < 0.05:
                self.happened["doubled"] += 1
                self.hub.spawn("double", lambda: self._doubled(run, task))
            if state != "up_for_retry":
                return state
            self.hub.sleep(5.0 * (number + 1))
        return "failed"

    def _try(self, run: Run, task: str) -> str:
        """One try; a worker that is heard of no more is given up, which does not stop it."""
        ended: list[str] = []
        worker = self.hub.spawn("worker", lambda: ended.append(self._work(run, task)))
        since = self.hub.now
        while not ended:
            self.hub.sleep(1.0)
            gone = not worker.alive or worker.frozen_until > self.hub.now
            if not ended and gone and self.hub.now - since > ZOMBIE_S:
                return "up_for_retry"
        return ended[0]

    def _doubled(self, run: Run, task: str) -> None:
        self._work(run, task)

    def _work(self, run: Run, task: str) -> str:
        try:
            run.results[task] = run.tasks[task]()
        except AirflowSkipException:
            return "skipped"
        except AirflowFailException:
            return "failed"
        except MlretrainError as error:
            return "up_for_retry" if error.retryable else "failed"
        return "success"

    def _retrain(self, number: int) -> Run:
        identity = self._identity(f"retrain-{number}")
        version = self._candidate(identity, number)
        if self.random.random() < 0.1:
            self.target.broken.add(version)
        deploy = {"version": version, "serving": SERVING}
        strategy = self.random.choice(list(STRATEGIES))
        stages = STRATEGIES[strategy][: self.random.randint(1, 2)]
        tasks: dict[str, Callable[[], Any]] = {}
        run = Run(identity, tasks)
        if strategy == "blue_green":
            tasks["prepare"] = self._task(DeployModelOperator, run, **deploy, mode="standby", weight=0)
        for i, stage in enumerate(stages, start=1):
            tasks[f"shift_{i}"] = self._task(DeployModelOperator, run, **deploy, **stage)
            bad = self.random.random() < 0.25
            tasks[f"decide_{i}"] = self._decision(run, f"shift_{i}", version, bad=bad)
        tasks["promote"] = self._task(PromoteModelOperator, run, **deploy)
        tasks["roll_back"] = self._task(RollBackModelOperator, run, serving=SERVING)
        tasks["record"] = self._task(RecordRunOperator, run, kind="retrain", serving=SERVING)
        return run

    def _rollback(self, number: int) -> Run:
        identity = self._identity(f"back-{number}")
        run = Run(identity, {})
        to = self.random.choice(["previous", "previous", "1"])
        run.tasks["roll_back"] = self._task(
            RollBackModelOperator, run, to=to, reason="complaints", serving=SERVING
        )
        run.tasks["record"] = self._task(RecordRunOperator, run, kind="rollback", serving=SERVING)
        return run

    def _decision(self, run: Run, shift: str, version: str, *, bad: bool) -> Callable[[], Any]:
        def decide() -> Any:
            if shift not in run.results:
                raise AirflowFailException("there was no shift")
            verdict = "roll_back" if bad else "advance"
            if bad and run.results[shift]["weights"] and run.results[shift]["champion"]:
                self.breached.add(version)
            return self._task(
                CanaryGateOperator,
                run,
                shift=run.results[shift],
                serving=SERVING,
                observation={"verdict": verdict, "reason": "error_rate is 0.5, required ≤ 0.01"},
            )()

        return decide

    def _identity(self, run_id: str) -> RunIdentity:
        now = START + timedelta(seconds=self.hub.now)
        return RunIdentity(dag_id="flights", run_id=run_id, window_end=now)

    def _candidate(self, identity: RunIdentity, number: int) -> str:
        """A version that was registered and passed the gates beside the champion of this moment."""
        kept = self.registry.kept
        found = kept.version(MODEL, "@champion")
        version = kept.register(MODEL, "models:/m", identity.run_id, {}).version
        kept.set_alias(MODEL, "challenger", version)
        operator = PipelineOperator(task_id="gate", pipeline=MODEL, artifacts_uri=ROOT)
        operator.ledger = self.ledger
        operator.append(identity, "registered", version=version)
        operator.append(
            identity,
            "gated",
            version=version,
            previous=found.version if found else None,
            outcome="promote",
            reason="promote: all 3 checks hold",
        )
        return version

    def _task(self, operator_class: type[PipelineOperator], run: Run, **arguments: Any) -> Callable[[], Any]:
        """The task in a process of its own: a new operator each time, which remembers nothing."""

        def work() -> Any:
            operator = operator_class(task_id="task", pipeline=MODEL, artifacts_uri=ROOT, **arguments)
            states = {name: state for name, state in run.states.items() if name != "record"}
            ti = SimpleNamespace(get_task_states=lambda **_: {run.identity.run_id: states})
            task = SimpleNamespace(get_flat_relatives=lambda upstream: ())
            context: Any = {"ti": ti, "task": task, "dag": SimpleNamespace(tags=())}
            return operator.perform(replace(run.identity, begun=datetime.now(UTC)), context)

        return work


WORLD = ("champion", "traffic", "rollout")
"""What must agree without anybody's help; a tag that a killed worker did not write may be missing."""
