"""Real Airflow processes and real jobs: whatever is killed when, each run has one result and leaves nothing.

One installation for all schedules, which run at the same time. ``FAULT_SEED`` repeats a seed that failed.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import pytest

from demo.services import ServiceError, Services

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.timeout(600)]

SEED = int(os.environ.get("FAULT_SEED", "20261121"))
SCHEDULES = 12
WAIT_S = 240.0
DEFERRED, WAITING = "faults.deferred", "faults.waiting"
PIPELINE = "faults"
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}
JOB = """\
echo "$MLRETRAIN_REQUEST_URI $MLRETRAIN_ATTEMPT $$ $(date +%s.%N)" >> {home}/started
n=0
while [ $n -lt "$JOB_SECONDS" ]; do n=$((n + 1)); echo "job $MLRETRAIN_ATTEMPT second $n"; sleep 1; done
exec {python} -P -m mlretrain.runtime
"""
DAGS = """\
from datetime import timedelta
from airflow.sdk import DAG
from mlretrain_provider.operators.profiling import ProfileDataOperator
from mlretrain_provider.operators.record import RecordRunOperator

HOME = {home!r}
common = {{
    "pipeline": {pipeline!r},
    "artifacts_uri": f"file://{{HOME}}/artifacts",
    "retries": 20,  # both times without the store, and a death or two
    "retry_delay": timedelta(seconds=2),
}}
for dag_id, deferrable in (({deferred!r}, True), ({waiting!r}, False)):
    with DAG(dag_id, schedule=None, max_active_runs=20, default_args=common) as dag:
        profile = ProfileDataOperator(
            task_id="profile",
            uri=f"file://{{HOME}}/data.csv",
            reference=None,
            deferrable=deferrable,
            poll_s=10,
            backend_options={{
                "state_dir": f"{{HOME}}/jobs", "grace_s": 3.0, "command": ["/bin/sh", f"{{HOME}}/job.sh"]
            }},
            env={{"JOB_SECONDS": "{{{{ dag_run.conf.get('seconds', 12) }}}}"}},
        )
        profile >> RecordRunOperator(task_id="record")
    globals()[dag_id] = dag
"""


class AirflowAlone(Services):
    """Airflow without MLflow and model server."""

    def _start_mlflow(self) -> None: ...

    def _start_models(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Started:
    """One job that has really been started."""

    number: int
    pid: int
    at: float

    @property
    def alive(self) -> bool:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


@dataclass
class Room:
    """Airflow, and what is seen of it and of the jobs from outside."""

    services: Services
    home: Path

    def trigger(self, dag_id: str, run_id: str, seconds: int = 12) -> None:
        self.services.trigger(dag_id, run_id, {"seconds": seconds})

    def task(self, dag_id: str, run_id: str, task: str = "profile") -> dict[str, Any]:
        try:
            return dict(self.services.api(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}"))
        except (ServiceError, OSError):
            return {}

    def started(self, run_id: str) -> list[Started]:
        """The jobs of a run, as they have told it themselves."""
        file = self.home / "started"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [
            Started(number=int(number), pid=int(pid), at=float(at))
            for uri, number, pid, at in lines
            if f"/runs/{run_id}/" in unquote(uri)
        ]

    def ends(self, run_id: str) -> dict[int, tuple[dict[str, Any], float]]:
        """How and when the run's jobs ended, by number."""
        (request,) = (self.home / "artifacts" / PIPELINE / "runs" / run_id).glob("profile-*/request.json")
        name = json.loads(request.read_text())["job"]
        folders = [path.parent for path in (self.home / "jobs").glob(f"{name}-*/end.json")]
        numbers = {int(each.name.removeprefix(f"{name}-").partition("-")[0]): each for each in folders}
        return {
            number: (json.loads((each / "end.json").read_text()), (each / "end.json").stat().st_mtime)
            for number, each in numbers.items()
        }

    def logs(self, run_id: str) -> str:
        """All that the tasks of a run have written to their logs, whoever ran them."""
        files = (self.home / "airflow" / "logs").rglob(f"*run_id={run_id}/task_id=profile/*")
        return "\n".join(each.read_text(errors="replace") for each in files if each.is_file())

    @contextmanager
    def store_away(self) -> Iterator[None]:
        """The artifact store's folder cannot be reached (ELOOP), as on a mount that is lost."""
        folder, aside = self.home / "artifacts", self.home / "artifacts.aside"
        folder.rename(aside)
        folder.symlink_to(folder)
        try:
            yield
        finally:
            folder.unlink()
            aside.rename(folder)


def until(what: Callable[[], Any], timeout_s: float = 90.0) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    home = tmp_path_factory.mktemp("faults")
    for folder in ("dags", "artifacts"):
        (home / folder).mkdir()
    names = {"home": str(home), "pipeline": PIPELINE, "deferred": DEFERRED, "waiting": WAITING}
    (home / "dags" / "faults.py").write_text(DAGS.format(**names))
    (home / "job.sh").write_text(JOB.format(home=home, python=sys.executable))
    (home / "data.csv").write_text("x,y\n" + "".join(f"{n},{n % 3}\n" for n in range(100)))
    with AirflowAlone(home=home, dags=home / "dags", settings=SETTINGS) as services:
        services.wait_for_dags(DEFERRED, WAITING)
        found = Room(services, home)
        try:
            yield found
        finally:
            for line in (home / "started").read_text().splitlines():
                with suppress(ProcessLookupError):
                    os.kill(int(line.split()[2]), signal.SIGKILL)


@dataclass
class Schedule:
    """One run and what is killed of it: ``(what, seconds after its job has started)``."""

    dag_id: str
    run_id: str
    begins: float
    faults: list[tuple[str, float]]
    jobs_killed: list[int] = field(default_factory=list)
    workers_killed: int = 0

    @classmethod
    def of(cls, random: Random, number: int) -> Schedule:
        kinds = random.sample(("worker", "worker", "job", "job"), 2)
        faults = sorted(((kind, random.uniform(0.0, 11.0)) for kind in kinds), key=lambda each: each[1])
        dag_id = random.choice((DEFERRED, WAITING)) if number > 1 else (DEFERRED, WAITING)[number]
        return cls(dag_id, f"schedule-{number}", random.uniform(0.0, 20.0), faults)

    def go_on(self, room: Room) -> None:
        """Let the next fault happen if it is time."""
        jobs = room.started(self.run_id)
        if not self.faults or not jobs:
            return
        what, after = self.faults[0]
        if time.time() - jobs[-1].at < after and what != "worker":
            return
        if what == "job" and jobs[-1].alive:
            jobs[-1].kill()
            self.jobs_killed.append(jobs[-1].number)
        if what == "worker" and not self._kill_worker(room):
            return
        self.faults.pop(0)

    def _kill_worker(self, room: Room) -> bool:
        task = room.task(self.dag_id, self.run_id)
        if task.get("state") == "running" and task.get("pid"):
            with suppress(ProcessLookupError):
                os.kill(int(task["pid"]), signal.SIGKILL)
                self.workers_killed += 1
                return True
        return task.get("state") in ("success", "failed")


def everything(room: Room, random: Random) -> list[tuple[float, Callable[[], None]]]:
    """What happens to all schedules at once, and when, in seconds."""

    def lose_store() -> None:
        with room.store_away():
            time.sleep(random.uniform(4.0, 8.0))

    def restart(name: str) -> Callable[[], None]:
        return lambda: room.services.restart(name, kill=True)

    acts = [restart("triggerer"), restart("scheduler"), restart("triggerer"), lose_store, lose_store]
    return sorted(((random.uniform(10.0, 60.0), act) for act in acts), key=lambda each: each[0])


@pytest.fixture(scope="module")
def schedules(room: Room) -> list[Schedule]:
    """Every schedule, carried out."""
    random = Random(SEED)
    made = [Schedule.of(random, number) for number in range(SCHEDULES)]
    acts, waiting = everything(room, random), list(made)
    began = time.monotonic()
    over: set[str] = set()
    while len(over) < len(made):
        passed = time.monotonic() - began
        assert passed < WAIT_S, {
            each.run_id: room.services.task_states(each.dag_id, each.run_id) for each in made
        }
        while acts and acts[0][0] < passed:
            acts.pop(0)[1]()
        for each in [each for each in waiting if each.begins < passed]:
            room.trigger(each.dag_id, each.run_id)
            waiting.remove(each)
        for each in made:
            if each not in waiting and each.run_id not in over:
                each.go_on(room)
                run = room.services.run(each.dag_id, each.run_id)
                over |= {each.run_id} if run and run["state"] in ("success", "failed") else set()
        time.sleep(0.3)
    return made


@pytest.mark.parametrize("number", range(SCHEDULES))
def test_a_schedule_ends_with_one_result_and_one_job_at_a_time(
    room: Room, schedules: list[Schedule], number: int
) -> None:
    schedule = schedules[number]
    jobs, ends = room.started(schedule.run_id), room.ends(schedule.run_id)
    told = f"FAULT_SEED={SEED} {schedule}\n{jobs}\n{ends}"
    assert set(room.services.task_states(schedule.dag_id, schedule.run_id).values()) == {"success"}, told
    assert [job.number for job in jobs] == list(range(1, len(jobs) + 1)), told
    for job, after in zip(jobs, [*jobs[1:], None], strict=True):
        end, ended = ends[job.number]
        assert (end["state"] == "succeeded") == (after is None), told
        assert after is None or ended <= after.at, told
        assert end["exit_code"] in (0, 20, 137), told  # well, or the store was away, or killed
    assert set(schedule.jobs_killed) <= {number for number, (end, _) in ends.items() if end["exit_code"]}
    assert not any(job.alive for job in jobs), told
    result = room.services.xcom(schedule.dag_id, schedule.run_id, "profile")
    assert (result["rows"], f"/runs/{schedule.run_id}/" in result["profile_uri"]) == (100, True)
    log = room.logs(schedule.run_id)
    missing = [n for n in range(1, 13) if f"job {len(jobs)} second {n}" not in log]
    assert not missing, told


def test_the_faults_really_happened(schedules: list[Schedule]) -> None:
    assert sum(each.workers_killed for each in schedules) >= 1
    assert sum(len(each.jobs_killed) for each in schedules) >= 1
    assert {each.dag_id for each in schedules} == {DEFERRED, WAITING}


def is_deferred(room: Room, run_id: str) -> bool:
    return room.task(DEFERRED, run_id).get("state") == "deferred"


@pytest.fixture(scope="module")
def deferred(room: Room, schedules: list[Schedule]) -> dict[str, Started]:
    """Four runs whose tasks wait in the triggerer for jobs that would take minutes; each with its job."""
    runs = ["marked", "cleared", "deleted", "unseen"]
    for run_id in runs:
        room.trigger(DEFERRED, run_id, seconds=200 if run_id != "cleared" else 40)
    for run_id in runs:
        until(functools.partial(is_deferred, room, run_id))
    time.sleep(4)  # until the triggerer has them
    return {run_id: room.started(run_id)[0] for run_id in runs}


def path_of(run_id: str) -> str:
    return f"dags/{DEFERRED}/dagRuns/{run_id}"


def test_a_deferred_task_that_is_marked_failed_takes_its_job_with_it(
    room: Room, deferred: dict[str, Started]
) -> None:
    assert deferred["marked"].alive
    room.services.api(f"{path_of('marked')}/taskInstances/profile", {"new_state": "failed"}, method="PATCH")
    until(lambda: not deferred["marked"].alive)
    assert room.services.task_states(DEFERRED, "marked")["profile"] == "failed"
    assert "Airflow does not say what became of the task" not in room.logs("marked")


def test_a_deferred_task_that_is_cleared_starts_anew(room: Room, deferred: dict[str, Started]) -> None:
    assert deferred["cleared"].alive
    body = {"dag_run_id": "cleared", "dry_run": False, "only_failed": False, "task_ids": ["profile"]}
    room.services.api(f"dags/{DEFERRED}/clearTaskInstances", body)
    until(lambda: not deferred["cleared"].alive)
    assert room.services.wait(DEFERRED, "cleared", 180) == "success"
    _, *others = room.started("cleared")
    ends = room.ends("cleared")
    assert [job.number for job in others] == [2]
    assert (ends[1][0]["state"], ends[2][0]["state"]) == ("cancelled", "succeeded")
    assert ends[1][1] <= others[0].at


def test_a_run_that_is_deleted_takes_its_job_with_it(room: Room, deferred: dict[str, Started]) -> None:
    assert deferred["deleted"].alive
    # Airflow 3.3 deletes no run that runs; its button marks the run failed before.
    room.services.api(path_of("deleted"), {"state": "failed"}, method="PATCH")
    room.services.wait(DEFERRED, "deleted", 60)
    room.services.api(path_of("deleted"), method="DELETE")
    until(lambda: not deferred["deleted"].alive)
    assert room.services.run(DEFERRED, "deleted") is None


def test_a_kill_that_no_triggerer_sees_is_made_good_by_the_teardown(
    room: Room, deferred: dict[str, Started]
) -> None:
    assert deferred["unseen"].alive
    room.services.processes["triggerer"].stop(kill=True)
    try:
        room.services.api(
            f"{path_of('unseen')}/taskInstances/profile", {"new_state": "failed"}, method="PATCH"
        )
        room.services.wait(DEFERRED, "unseen", 60)
        until(lambda: not deferred["unseen"].alive)
    finally:
        room.services.processes["triggerer"].start()
    assert room.services.task_states(DEFERRED, "unseen") == {"profile": "failed", "record": "success"}
