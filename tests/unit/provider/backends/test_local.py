"""Local jobs: started once, found again, followed to the last byte, ended with all their processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import JobSpec, JobStatus, Resources
from mlretrain.runtime import process
from mlretrain_provider.backends.local import KEPT_S, LocalBackend

WAIT_S = 10.0


def backend(tmp_path: Path, script: str, **options: object) -> LocalBackend:
    """A backend whose jobs run ``script``."""
    return LocalBackend(tmp_path / "jobs", command=("/bin/sh", "-c", script, "sh"), **options)  # type: ignore[arg-type]


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def end_of(jobs: LocalBackend, handle: str) -> JobStatus:
    until(lambda: jobs.status(handle).state != "running")
    return jobs.status(handle)


def job(**fields: object) -> JobSpec:
    return JobSpec(**{"name": "churn-train-abc", "request_uri": "file:///request.json", **fields})  # type: ignore[arg-type]


def test_a_job_gets_its_request_and_environment_and_its_end_is_known(tmp_path: Path) -> None:
    jobs = backend(tmp_path, 'echo "$MLRETRAIN_REQUEST_URI $COLOUR $KEY"')
    handle = jobs.submit(job(env={"COLOUR": "blue"}, secrets={"KEY": "k"}))
    assert end_of(jobs, handle) == JobStatus(state="succeeded", exit_code=0)
    assert jobs.logs(handle, "") == ("file:///request.json blue k\n", "28")
    assert jobs.logs(handle, "28") == ("", "28")


def test_airflows_own_variables_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW__STARTUP_MSG", "secret")
    jobs = backend(tmp_path, "env")
    handle = jobs.submit(job())
    end_of(jobs, handle)
    assert "secret" not in jobs.logs(handle, "")[0]


def test_an_exit_status_is_a_failure_with_its_code(tmp_path: Path) -> None:
    jobs = backend(tmp_path, "exit 11")
    status = end_of(jobs, jobs.submit(job()))
    assert status == JobStatus(state="failed", exit_code=11, reason="the job exited with status 11")


def test_a_killed_job_says_so(tmp_path: Path) -> None:
    jobs = backend(tmp_path, "kill -9 $$")
    status = end_of(jobs, jobs.submit(job()))
    assert status.state == "failed"
    assert (status.exit_code, status.reason) == (137, "the job was ended by SIGKILL (out of memory?)")


def test_submitting_twice_finds_the_running_job(tmp_path: Path) -> None:
    jobs = backend(tmp_path, f"echo started >> {tmp_path}/starts; sleep 60")
    handle = jobs.submit(job())
    until((tmp_path / "starts").exists)
    again = backend(tmp_path, "exit 1")  # another worker's backend: nothing is shared but the folder
    assert again.submit(job()) == handle
    assert again.status(handle).state == "running"
    assert (tmp_path / "starts").read_text() == "started\n"
    again.cancel(handle)
    assert again.status(handle).state == "cancelled"


def test_an_ended_job_is_found_and_not_repeated(tmp_path: Path) -> None:
    failing = backend(tmp_path, "echo first; exit 20")
    handle = failing.submit(job())
    assert end_of(failing, handle).exit_code == 20
    again = backend(tmp_path, "echo second")
    assert again.submit(job()) == handle
    assert again.status(handle).exit_code == 20
    assert again.logs(handle, "")[0] == "first\n"


DIES = """
import os, signal, sys
from mlretrain.ports import JobSpec
from mlretrain.runtime import process
from mlretrain_provider.backends import local

def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

write = local.write_json
match sys.argv[2]:
    case "before the process":
        os.posix_spawn = die
    case "before the record":
        process.started_at = die
    case "after the record":
        local.write_json = lambda *content: (write(*content), die())
    case "while it cleans up":
        local.LocalBackend._sweep = die
command = ("/bin/sh", "-c", f"echo started >> {sys.argv[1]}/starts")
local.LocalBackend(f"{sys.argv[1]}/jobs", command=command).submit(JobSpec(name="j", request_uri="r"))
"""


@pytest.mark.parametrize(
    ("point", "on_record"),
    [
        ("before the process", False),
        ("before the record", False),
        ("after the record", True),
        ("while it cleans up", True),
    ],
)
def test_a_job_is_started_once_wherever_its_starter_is_killed(
    tmp_path: Path, point: str, on_record: bool
) -> None:
    killed = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), point], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.exists() for path in tmp_path.glob("jobs/j-*/job.json")] == [True] * on_record
    jobs = backend(tmp_path, f"echo started >> {tmp_path}/starts")
    handle = jobs.submit(job(name="j"))
    assert end_of(jobs, handle).state == "succeeded"
    until(lambda: process.marked("MLRETRAIN_LOCAL_JOB", handle) == [])
    assert (tmp_path / "starts").read_text() == "started\n"


def test_names_that_only_differ_in_odd_characters_are_different_jobs(tmp_path: Path) -> None:
    jobs = backend(tmp_path, "sleep 60")
    handles = {jobs.submit(job(name=name)) for name in ("a/b", "a b", "ä" * 200)}
    assert len(handles) == 3
    for each in handles:
        jobs.cancel(each)


def test_a_job_survives_the_process_that_started_it(tmp_path: Path) -> None:
    starter = (
        "import sys; from pathlib import Path; from mlretrain.ports import JobSpec;"
        "from mlretrain_provider.backends.local import KEPT_S, LocalBackend;"
        f"command = ('/bin/sh', '-c', 'read x < {tmp_path}/go; exit 11');"
        f"b = LocalBackend(Path({str(tmp_path)!r}) / 'jobs', command=command);"
        "print(b.submit(JobSpec(name='j', request_uri='r')))"
    )
    os.mkfifo(tmp_path / "go")
    started = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=True)
    jobs, handle = backend(tmp_path, "exit 0"), started.stdout.strip()
    assert jobs.status(handle).state == "running"
    (tmp_path / "go").write_text("go\n")
    assert end_of(jobs, handle).exit_code == 11


def test_cancel_ends_the_children_too_and_gives_time_to_save(tmp_path: Path) -> None:
    jobs = backend(
        tmp_path,
        f"trap 'echo saved; exit 20' TERM; sleep 61 & echo $! > {tmp_path}/child; touch {tmp_path}/up; wait",
    )
    handle = jobs.submit(job())
    until((tmp_path / "up").exists)
    child = int((tmp_path / "child").read_text())
    jobs.cancel(handle)
    assert jobs.status(handle) == JobStatus(state="cancelled", exit_code=20, reason="cancelled")
    assert jobs.logs(handle, "")[0] == "saved\n"
    until(lambda: process.started_at(child) is None)


def test_a_job_that_does_not_stop_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    jobs = backend(tmp_path, f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done", grace_s=0.2)
    handle = jobs.submit(job())
    until((tmp_path / "up").exists)
    jobs.cancel(handle)
    assert end_of(jobs, handle).state == "cancelled"


def test_cancelling_an_ended_job_changes_nothing(tmp_path: Path) -> None:
    jobs = backend(tmp_path, "exit 0")
    handle = jobs.submit(job())
    end_of(jobs, handle)
    jobs.cancel(handle)
    assert jobs.status(handle).state == "succeeded"


def test_a_job_past_its_time_is_ended_though_nobody_looks(tmp_path: Path) -> None:
    jobs = backend(tmp_path, "trap 'echo saved; exit 20' TERM; sleep 60 & wait")
    handle = jobs.submit(job(timeout_s=0.3))
    until((Path(handle) / "end.json").exists)
    assert jobs.status(handle) == JobStatus(state="failed", exit_code=20, reason="timed out after 0.3 s")
    assert jobs.logs(handle, "")[0] == "saved\n"


def test_a_reused_pid_is_not_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = backend(tmp_path, "exit 0")
    handle = jobs.submit(job())
    end_of(jobs, handle)
    monkeypatch.setattr(process, "started_at", lambda pid: "another time")
    assert jobs.status(handle).state == "succeeded"


def test_lines_arrive_whole_and_only_the_last_may_lack_its_end(tmp_path: Path) -> None:
    jobs = backend(
        tmp_path, r"printf 'caf\351\nr\303'; read x < " + f"{tmp_path}/go; " + r"printf '\251\n\377'"
    )
    os.mkfifo(tmp_path / "go")
    handle = jobs.submit(job())
    until(lambda: (Path(handle) / "log").stat().st_size == 7)
    text, cursor = jobs.logs(handle, "")
    assert text == "caf\\xe9\n"
    assert jobs.logs(handle, cursor) == ("", cursor)
    (tmp_path / "go").write_text("go\n")
    end_of(jobs, handle)
    text, cursor = jobs.logs(handle, cursor)
    assert text == "ré\n\\xff"
    assert jobs.logs(handle, cursor) == ("", cursor)


def test_a_lost_folder_is_a_lost_job(tmp_path: Path) -> None:
    assert backend(tmp_path, "true").status(str(tmp_path / "nothing")).state == "lost"
    assert backend(tmp_path, "true").logs(str(tmp_path / "nothing"), "") == ("", "")


def test_what_ended_long_ago_is_removed_and_what_runs_is_not(tmp_path: Path) -> None:
    now = [time.time()]
    jobs = backend(tmp_path, 'case "$MLRETRAIN_REQUEST_URI" in *long*) sleep 60;; esac', clock=lambda: now[0])
    ended = jobs.submit(job(name="short"))
    end_of(jobs, ended)
    running = jobs.submit(job(name="long", request_uri="file:///long.json"))
    assert Path(ended).exists()
    now[0] += KEPT_S + 60
    end_of(jobs, jobs.submit(job(name="next")))
    assert not Path(ended).exists()
    assert jobs.status(running).state == "running"
    jobs.cancel(running)


def python_backend(tmp_path: Path, program: str, **options: object) -> LocalBackend:
    """A backend whose jobs run ``program``."""
    return LocalBackend(tmp_path / "jobs", command=(sys.executable, "-c", program), **options)  # type: ignore[arg-type]


def test_a_job_that_takes_more_memory_than_its_own_is_killed_and_the_limit_named(tmp_path: Path) -> None:
    greedy = "kept = []\nwhile True: kept.append(bytearray(8 << 20)); import time; time.sleep(0.02)"
    jobs = python_backend(tmp_path, greedy)
    status = end_of(jobs, jobs.submit(job(resources=Resources(memory=96 << 20))))
    reason = "OOMKilled: the job used more than its 96Mi"
    assert status == JobStatus(state="failed", exit_code=137, reason=reason)


def test_memory_that_children_take_or_share_is_the_jobs(tmp_path: Path) -> None:
    shared = """
import os, time
kept = bytearray(64 << 20)
for _ in range(3 if os.environ["WHAT"] == "shares" else 1):
    if os.fork() == 0:
        more = bytearray(64 << 20) if os.environ["WHAT"] == "spends" else kept
        time.sleep(1 if more is kept else 60)
        os._exit(0)
os.wait()
"""
    jobs = python_backend(tmp_path, shared)
    limit = Resources(memory=110 << 20)
    shares = jobs.submit(job(name="shares", env={"WHAT": "shares"}, resources=limit))
    spends = jobs.submit(job(name="spends", env={"WHAT": "spends"}, resources=limit))
    assert end_of(jobs, shares).state == "succeeded"  # three children with the same 64 MiB
    assert "OOMKilled" in str(end_of(jobs, spends).reason)


def test_jobs_get_processors_of_their_own_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor cannot be shared out")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    says = "print(os.sched_getaffinity(0), os.environ['OMP_NUM_THREADS'], flush=True)"
    jobs = python_backend(tmp_path, f"import os, time; {says}; time.sleep(60)")
    handles = [jobs.submit(job(name=name, resources=Resources(cpu=0.5))) for name in ("a", "b")]
    until(lambda: all(jobs.logs(each, "")[0] for each in handles))
    said = [jobs.logs(each, "")[0] for each in handles]
    for each in handles:
        jobs.cancel(each)
    assert said[0] != said[1]
    assert {each.split()[-1] for each in said} == {"1"}


def test_nodes_know_each_other_and_write_whole_lines(tmp_path: Path) -> None:
    program = """
import os, sys
from mlretrain.runtime.node import Node
node = Node.of(os.environ)
assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == (str(node.rank), str(node.world_size))
for number in range(200):
    sys.stdout.write(f"line {number} "); sys.stdout.flush(); sys.stdout.write("x" * 50 + "\\n")
sys.stdout.write(f"{node.master_addr}:{node.master_port}")
"""
    jobs = python_backend(tmp_path, program)
    handle = jobs.submit(job(nodes=3))
    assert end_of(jobs, handle) == JobStatus(state="succeeded", exit_code=0)
    lines = jobs.logs(handle, "")[0].splitlines()
    for rank in range(3):
        *own, last = [line.removeprefix(f"[{rank}] ") for line in lines if line.startswith(f"[{rank}] ")]
        assert own == [f"line {number} {'x' * 50}" for number in range(200)]
        assert last.startswith("127.0.0.1:")
    assert len(lines) == 3 * 201
    assert len({line.split()[-1] for line in lines if "127.0" in line}) == 1


def test_a_node_that_fails_ends_the_others_and_is_named(tmp_path: Path) -> None:
    first = (
        f'[ "$RANK" = 1 ] && while [ ! -e {tmp_path}/0 -o ! -e {tmp_path}/2 ]; do sleep 0.01; done && exit 11'
    )
    rest = f"trap 'echo asked; exit 20' TERM; touch {tmp_path}/$RANK; sleep 60 & wait"
    jobs = backend(tmp_path, f"{first}; {rest}")
    handle = jobs.submit(job(nodes=3))
    assert end_of(jobs, handle) == JobStatus(
        state="failed", exit_code=11, reason="node 1 of 3 exited with status 11"
    )
    assert sorted(jobs.logs(handle, "")[0].splitlines()) == ["[0] asked", "[2] asked"]


def test_what_a_job_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    daemon = f"setsid sh -c 'sleep 60 & echo $! > {tmp_path}/daemon; wait' &"
    jobs = backend(tmp_path, f"{daemon} while [ ! -s {tmp_path}/daemon ]; do sleep 0.01; done")
    assert end_of(jobs, jobs.submit(job())).state == "succeeded"
    assert process.started_at(int((tmp_path / "daemon").read_text())) is None


@pytest.mark.parametrize("asked_to_stop", [False, True])
def test_a_job_whose_supervisor_is_killed_has_vanished_with_all_its_processes(
    tmp_path: Path, asked_to_stop: bool
) -> None:
    jobs = backend(tmp_path, f"setsid sleep 60 & echo $! > {tmp_path}/child; wait")
    handle = jobs.submit(job())
    until(lambda: (tmp_path / "child").exists() and bool((tmp_path / "child").read_text()))
    if asked_to_stop:
        (Path(handle) / "cancel.json").write_text("10")
    os.kill(json.loads((Path(handle) / "job.json").read_text())["pid"], signal.SIGKILL)
    status = end_of(jobs, handle)
    assert status == (
        JobStatus(state="cancelled", reason="cancelled")
        if asked_to_stop
        else JobStatus(state="failed", reason="the job vanished without leaving an exit status")
    )
    until(lambda: process.started_at(int((tmp_path / "child").read_text())) is None)
    assert jobs.status(handle) == status


def test_a_machine_that_shuts_down_has_not_cancelled_the_job(tmp_path: Path) -> None:
    jobs = backend(tmp_path, f"trap 'exit 20' TERM; touch {tmp_path}/up; sleep 60 & wait")
    handle = jobs.submit(job())
    until((tmp_path / "up").exists)
    os.kill(json.loads((Path(handle) / "job.json").read_text())["pid"], signal.SIGTERM)
    assert end_of(jobs, handle) == JobStatus(
        state="failed", exit_code=20, reason="the job was told to stop by SIGTERM"
    )


def test_a_command_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    jobs = LocalBackend(tmp_path / "jobs", command=("no-such-program",))
    assert end_of(jobs, jobs.submit(job())) == JobStatus(
        state="failed",
        exit_code=127,
        reason="the command cannot be started: no-such-program: No such file or directory",
    )


def test_a_machine_that_starts_no_process_now_may_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    jobs = backend(tmp_path, "true")
    with monkeypatch.context() as busy:
        busy.setattr(os, "posix_spawn", refuse)
        with pytest.raises(TransientError, match="the job cannot be started"):
            jobs.submit(job())
    assert end_of(jobs, jobs.submit(job())).state == "succeeded"


def test_a_folder_of_somebody_elses_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        backend(tmp_path, "true").submit(job())


def test_an_image_is_not_used_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    jobs = backend(tmp_path, "true")
    with caplog.at_level("INFO"):
        assert end_of(jobs, jobs.submit(job(image="registry/team/churn:3"))).state == "succeeded"
    assert caplog.messages == [
        "The local backend runs churn-train-abc without its image registry/team/churn:3."
    ]
