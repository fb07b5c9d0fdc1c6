"""What every backend must do: one suite for all of them, real where it can be.

``local`` is real. ``kubernetes`` is real where ``KUBECONFIG`` answers, and else skipped, loudly.
``sagemaker`` is moto's with jobs that really run (:mod:`tests.fixtures_sagemaker` says what is fake).
``fake`` is that of the operators' tests. A third party adds ``--backend NAME --backend-options JSON``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mlretrain import wire
from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.errors import ConfigError, InvalidInput, NotFound, UserCodeError, from_wire
from mlretrain.ports import Backend, JobSpec, JobStatus
from mlretrain.runtime.contract import REPORT_FILE, StepReport, parse_report
from mlretrain_provider.backends import open_backend
from tests.conformance.backends import RUNTIME, Place, opened
from tests.fixtures_kubernetes import cluster  # noqa: F401

T = TypeVar("T")

TIMEOUT_S = 3.0
LINES = 30_000  # 3 MB
ELSEWHERE = """
import json, sys
from mlretrain.ports import JobSpec
from mlretrain.wire import from_wire
from mlretrain_provider.backends import open_backend

name, options, spec = json.loads(sys.argv[1])
jobs = open_backend(name, options)
handle = jobs.submit(from_wire(JobSpec, spec))
found = {"handle": handle, "state": jobs.status(handle).state}
if found["state"] == "succeeded":
    text, cursor = jobs.logs(handle, "")
    while (more := jobs.logs(handle, cursor))[1] != cursor:
        text, cursor = text + more[0], more[1]
    found["lines"] = text.splitlines()
print(json.dumps(found))
"""

OURS = [
    "fake",
    "local",
    pytest.param("kubernetes", marks=[pytest.mark.airflow, pytest.mark.integration]),
    pytest.param("sagemaker", marks=[pytest.mark.airflow, pytest.mark.integration]),
]
RUNS_NOTHING = "it plays the end of a job and runs none"
MISSING = {
    ("fake", "test_a_step_of_the_runtime_runs_as_it_is"): RUNS_NOTHING,
    ("fake", "test_a_secret_reaches_the_job_and_nobody_else"): RUNS_NOTHING,
    (
        "sagemaker",
        "test_a_secret_reaches_the_job_and_nobody_else",
    ): "anybody may read its environments",
    ("fake", "test_a_job_that_takes_too_long_is_stopped_by_the_platform"): "it has no clock",
    ("fake", "test_a_job_that_is_stopped_saves_its_work"): RUNS_NOTHING,
    ("fake", "test_a_job_is_found_from_another_process"): "it lives in one process",
    ("fake", "test_a_huge_log_arrives_line_by_line_whoever_reads"): RUNS_NOTHING,
    ("fake", "test_bytes_that_are_no_text_spoil_their_line_at_most"): RUNS_NOTHING,
}
"""What a backend is known not to do, and why. One that begins to do it fails the suite: mend this then."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend")
        metafunc.parametrize("place", [chosen] if chosen else OURS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened(request.param, tmp_path_factory.mktemp(request.param), request) as found:
        yield found


@pytest.fixture(autouse=True)
def _missing(request: pytest.FixtureRequest, place: Place) -> None:
    reason = MISSING.get((place.name, request.node.originalname))
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def until(place: Place, what: Callable[[], T | None]) -> T:
    """The first answer of ``what`` that is true."""
    deadline = time.monotonic() + place.wait_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def end_of(place: Place, handle: str) -> JobStatus:
    jobs = place.open()
    return until(place, lambda: status if (status := jobs.status(handle)).ended else None)


def report_of(place: Place, spec: JobSpec) -> StepReport | None:
    try:
        return parse_report(place.outputs(spec).read(REPORT_FILE), spec.request_uri)
    except NotFound:
        return None


def begun(place: Place, spec: JobSpec) -> bool:
    return place.outputs(spec).list("checkpoints/up") != []


def beats(place: Place, spec: JobSpec) -> bool:
    """Whether any process of a job that hangs is still alive."""
    store, path = place.outputs(spec), "checkpoints/beat"
    last = store.read(path)
    time.sleep(0.5)
    return store.read(path) != last


def lines_of(jobs: Backend, handle: str, cursor: str = "") -> tuple[list[str], str]:
    """The lines since ``cursor``, and the cursor after them."""
    lines: list[str] = []
    while True:
        text, after = jobs.logs(handle, cursor)
        if after == cursor:
            assert text == ""
            return lines, cursor
        lines += text.splitlines()
        cursor = after


def test_a_job_that_succeeds_says_so_and_leaves_its_report(place: Place) -> None:
    spec = place.job(env={"COLOUR": "blue", "MLRETRAIN_ATTEMPT": "3"})
    jobs = place.open()
    handle = jobs.submit(spec)
    assert jobs.status(handle).state in ("pending", "running", "succeeded")
    assert end_of(place, handle) == JobStatus(state="succeeded", exit_code=0)
    report = report_of(place, spec)
    assert report is not None
    assert (report.status, report.attempt) == ("succeeded", 3)
    assert place.only or report.result == {"colour": "blue", "request_uri": spec.request_uri}


def test_a_step_of_the_runtime_runs_as_it_is(place: Place, tmp_path: Path) -> None:
    rows = "x,colour\n" + "".join(f"{number},red\n" for number in range(10))
    store = place.store(f"{place.root_uri}/data")
    store.write("a.csv", rows.encode())
    uri = f"{place.root_uri}/data/dataset.json"
    write_dataset(resolve(f"{place.root_uri}/data/a.csv", env=place.env), uri, place.env)
    real = dataclasses.replace(place, command=RUNTIME)
    spec = real.step("profile", {"dataset_uri": uri})
    assert end_of(real, real.open().submit(spec)).state == "succeeded"
    report = report_of(place, spec)
    assert report is not None
    assert report.result["rows"] == 10
    assert place.outputs(spec).read("profile.json")


def test_a_secret_reaches_the_job_and_nobody_else(place: Place) -> None:
    secret = uuid.uuid4().hex
    spec = place.job("keep a secret", secrets={"PROBE_TOKEN": secret})
    handle = place.open().submit(spec)
    status = end_of(place, handle)
    assert status.state == "succeeded"
    report = report_of(place, spec)
    assert report is not None
    assert report.result == {"sha256": hashlib.sha256(secret.encode()).hexdigest()}
    assert secret not in f"{handle} {status} {lines_of(place.open(), handle)}"


def test_an_error_of_the_users_may_be_worth_a_retry(place: Place) -> None:
    spec = place.job("fail")
    status = end_of(place, place.open().submit(spec))
    assert (status.state, status.exit_code) == ("failed", 10)
    assert status.reason or place.only
    report = report_of(place, spec)
    assert report is not None
    assert report.error is not None
    error = from_wire(report.error)
    assert isinstance(error, UserCodeError)
    assert (error.retryable, error.message) == (True, "ValueError: no such luck")


def test_data_that_cannot_be_used_is_not_worth_a_retry(place: Place) -> None:
    spec = place.job("refuse")
    status = end_of(place, place.open().submit(spec))
    assert (status.state, status.exit_code) == ("failed", 11)
    report = report_of(place, spec)
    assert report is not None
    assert report.error is not None
    error = from_wire(report.error)
    assert isinstance(error, InvalidInput)
    assert not error.retryable


def test_a_job_that_takes_too_long_is_stopped_by_the_platform(place: Place) -> None:
    spec = place.job("hang", timeout_s=TIMEOUT_S)
    status = end_of(place, place.open().submit(spec))
    assert status.state == "failed"
    assert (status.reason or "").startswith(f"timed out after {TIMEOUT_S:g} s")
    assert not begun(place, spec) or not beats(place, spec)


def test_a_job_that_is_stopped_saves_its_work(place: Place) -> None:
    spec = place.job("hang")
    handle = place.open().submit(spec)
    until(place, lambda: begun(place, spec))
    for _ in range(2):
        place.open().cancel(handle)
    assert end_of(place, handle).state == "cancelled"
    until(place, lambda: place.outputs(spec).list("checkpoints/saved"))
    assert place.outputs(spec).read("checkpoints/saved") == b"in time"
    assert not beats(place, spec)


def test_a_job_can_be_stopped_at_once(place: Place) -> None:
    spec = place.job("hang")
    jobs = place.open()
    handle = jobs.submit(spec)
    jobs.cancel(handle)
    assert end_of(place, handle).state == "cancelled"
    assert jobs.submit(spec) == handle
    assert jobs.status(handle).state == "cancelled"


def test_stopping_what_has_ended_changes_nothing(place: Place) -> None:
    handle = place.open().submit(place.job())
    ended = end_of(place, handle)
    place.open().cancel(handle)
    assert end_of(place, handle) == ended


def test_a_job_is_started_once_whoever_asks_however_often(place: Place) -> None:
    spec = place.job("hang")
    handle = place.open().submit(spec)
    assert place.open().submit(spec) == handle
    until(place, lambda: place.only or begun(place, spec))
    assert place.open().submit(spec) == handle
    place.open().cancel(handle)
    end_of(place, handle)
    assert place.open().submit(spec) == handle
    assert place.only or place.starts(spec) == 1


def test_many_who_ask_at_once_get_one_job(place: Place) -> None:
    spec = place.job()
    with ThreadPoolExecutor(8) as pool:
        handles = set(pool.map(lambda _: place.open().submit(spec), range(8)))
    assert len(handles) == 1
    assert end_of(place, handles.pop()).state == "succeeded"
    assert place.only or place.starts(spec) == 1


def test_a_job_is_found_from_another_process(place: Place) -> None:
    spec = place.job("write", times=3)
    handle = place.open().submit(spec)
    assert elsewhere(place, spec)["handle"] == handle
    assert end_of(place, handle).state == "succeeded"
    lines, _ = lines_of(place.open(), handle)
    assert elsewhere(place, spec) == {"handle": handle, "state": "succeeded", "lines": lines}
    assert place.starts(spec) == 1


def elsewhere(place: Place, spec: JobSpec) -> dict[str, Any]:
    """What a process that shares nothing with this one but the platform finds when it asks for the job."""
    given = json.dumps([place.name, place.all_options, wire.to_wire(spec)])
    found = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, given], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return dict(json.loads(found.stdout.splitlines()[-1]))


def test_an_ended_job_is_not_repeated(place: Place) -> None:
    spec = place.job("fail")
    handle = place.open().submit(spec)
    ended = end_of(place, handle)
    assert place.open().submit(spec) == handle
    assert place.open().status(handle) == ended
    assert place.only or place.starts(spec) == 1


def test_a_job_that_ends_well_may_have_lost_its_report(place: Place) -> None:
    spec = place.job("vanish")
    assert end_of(place, place.open().submit(spec)).state == "succeeded"
    assert report_of(place, spec) is None


def test_a_report_outlives_its_job(place: Place) -> None:
    spec = place.job()
    jobs = place.open()
    handle = jobs.submit(spec)
    end_of(place, handle)
    place.forget(handle)
    until(place, lambda: jobs.status(handle).state == "lost")
    jobs.cancel(handle)
    assert jobs.status(handle).state == "lost"
    report = report_of(place, spec)
    assert report is not None
    assert report.status == "succeeded"


def test_a_job_that_nobody_knows_is_lost(place: Place) -> None:
    jobs = place.open()
    handle = jobs.submit(place.job())
    end_of(place, handle)
    nobody = handle[:-1] + ("0" if handle[-1] != "0" else "1")
    assert jobs.status(nobody).state == "lost"
    jobs.cancel(nobody)


def test_a_huge_log_arrives_line_by_line_whoever_reads(place: Place) -> None:
    spec = place.job("write", times=LINES)
    handle = place.open().submit(spec)
    lines, cursor, ended = [], "", False
    while True:
        text, after = place.open().logs(handle, cursor)  # each time by another worker
        lines += text.splitlines()
        if after == cursor:
            if ended:
                break
            ended = place.open().status(handle).ended
            time.sleep(0.05)
        cursor = after
    numbered = [line for line in lines if line.startswith("line ")]
    assert numbered == [f"line {number} é日🌍 {'.' * 80}" for number in range(LINES)]
    assert lines_of(place.open(), handle)[0] == lines


def test_bytes_that_are_no_text_spoil_their_line_at_most(place: Place) -> None:
    handle = place.open().submit(place.job("write bytes"))
    end_of(place, handle)
    lines, _ = lines_of(place.open(), handle)
    spoilt = next(number for number, line in enumerate(lines) if line.startswith("caf"))
    assert lines[spoilt + 1 : spoilt + 3] == ["naïve", "🌍"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prévision-日本-{}", "prévision-日木-{}"),
        ("Churn Train/{}", "churn train/{}"),
        ("n{}" + "-abcdefghi" * 5 + "-x", "n{}" + "-abcdefghi" * 5 + "-y"),
        ("n{}" + "-abcdefghi" * 20 + "-x", "n{}" + "-abcdefghi" * 20 + "-y"),
        ("1{}-", "1{}."),
    ],
    ids=["unicode", "capitals and spaces", "long", "beyond", "odd ends"],
)
def test_every_name_is_one_job_and_no_other(place: Place, one: str, other: str) -> None:
    unique = uuid.uuid4().hex[:8]
    specs = [place.job(name=name.format(unique), env={"COLOUR": name}) for name in (one, other)]
    handles = [place.open().submit(spec) for spec in specs]
    assert handles[0] != handles[1]
    assert [place.open().submit(spec) for spec in specs] == handles
    for spec, handle in zip(specs, handles, strict=True):
        assert end_of(place, handle).state == "succeeded"
        assert place.only or place.starts(spec) == 1


def test_a_name_of_63_characters_is_kept(place: Place) -> None:
    name = f"churn-{uuid.uuid4().hex}".ljust(63, "x")
    handle = place.open().submit(place.job(name=name))
    assert name in handle
    assert end_of(place, handle).state == "succeeded"


def test_unknown_options_are_refused(place: Place) -> None:
    if place.only:
        pytest.skip("it has no options")
    with pytest.raises(ConfigError, match="colour"):
        open_backend(place.name, {**place.all_options, "colour": "blue"})
