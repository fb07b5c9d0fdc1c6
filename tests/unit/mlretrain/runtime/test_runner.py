from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlretrain.errors import InvalidInput
from mlretrain.runtime import __main__ as program
from mlretrain.runtime.context import StepContext
from mlretrain.runtime.contract import StepReport, StepRequest, parse_report
from mlretrain.runtime.replay import add_arguments, replay
from mlretrain.runtime.replay import main as replay_command
from mlretrain.runtime.runner import run_step
from mlretrain.runtime.store import file_uri
from mlretrain.steps import STEPS
from mlretrain.wire import pretty


@dataclass(frozen=True, slots=True, kw_only=True)
class GreetConfig:
    name: str


Step = Callable[[GreetConfig, StepContext], Any]
Define = Callable[[Step], None]


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Define:
    """Makes a function the step ``greet``."""

    def define_step(run: Step) -> None:
        module = ModuleType("greet_step")
        module.__dict__.update({"Config": GreetConfig, "run": run})
        monkeypatch.setitem(sys.modules, "greet_step", module)
        monkeypatch.setitem(STEPS, "greet", "greet_step")

    return define_step


@pytest.fixture
def request_uri(tmp_path: Path) -> str:
    return write_request(tmp_path)


def write_request(folder: Path, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "step": "greet",
        "pipeline": "p",
        "run_id": "r",
        "window_end": datetime(2013, 4, 1, tzinfo=UTC),
        "key": "abc",
        "config": {"name": "world"},
        "output_uri": file_uri(folder / "out"),
    }
    path = folder / "request.json"
    path.write_bytes(pretty(StepRequest(**fields | changes)))
    return file_uri(path)


def kept_report(folder: Path) -> StepReport:
    return parse_report((folder / "out/report.json").read_bytes(), "report")


def greet(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
    with ctx.phase("write"):
        uri = ctx.write_output("greeting", "texts/hello.txt", f"hello {config.name}".encode())
    ctx.log_metric("length", 11)
    return {"uri": uri, "share": float("inf"), "at": ctx.request.window_end}


def test_a_step_leaves_its_outputs_and_report(define: Define, request_uri: str, tmp_path: Path) -> None:
    define(greet)
    report = run_step(request_uri, attempt=3, env={})
    assert report == kept_report(tmp_path)
    assert (report.status, report.exit_code, report.attempt) == ("succeeded", 0, 3)
    assert report.result["at"] == "2013-04-01T00:00:00+00:00"
    assert report.result["share"] == "inf"
    assert report.outputs["greeting"].size == 11
    assert report.metrics == {"length": 11.0}
    assert {"import", "write", "run", "total"} <= set(report.timings)
    assert (tmp_path / "out/texts/hello.txt").read_text() == "hello world"


def test_what_has_succeeded_is_not_run_again(define: Define, request_uri: str) -> None:
    runs = []

    def count(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        runs.append(config)
        return {}

    define(count)
    first = run_step(request_uri, env={})
    assert run_step(request_uri, attempt=2, env={}) == first
    assert len(runs) == 1


def test_of_several_nodes_only_the_first_does_what_is_not_shared(
    define: Define, request_uri: str, tmp_path: Path
) -> None:
    define(greet)
    second = {"MLRETRAIN_RANK": "1", "MLRETRAIN_WORLD_SIZE": "2"}
    assert run_step(request_uri, env=second).outputs == {}
    assert not (tmp_path / "out/report.json").exists()
    assert (tmp_path / "out/report-1.json").exists()

    first = run_step(request_uri, env={**second, "MLRETRAIN_RANK": "0"})
    assert first == kept_report(tmp_path)
    assert first.outputs["greeting"].size == 11


def test_what_has_failed_is_run_again(define: Define, request_uri: str, tmp_path: Path) -> None:
    def fail(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        raise InvalidInput("no rows", where="file:///x", remedy="Add some.")

    define(fail)
    report = run_step(request_uri, env={})
    assert report == kept_report(tmp_path)
    assert (report.exit_code, report.error and report.error["type"]) == (11, "InvalidInput")
    define(greet)
    assert run_step(request_uri, attempt=2, env={}).status == "succeeded"


def test_the_users_error_names_the_users_line(
    define: Define, request_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    def user_function(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        return dict(json.loads("{not json"))

    define(user_function)
    with caplog.at_level(logging.ERROR, "mlretrain"):
        report = run_step(request_uri, env={})
    assert report.error is not None
    line = user_function.__code__.co_firstlineno + 1
    assert report.error["where"] == f"{__file__}:{line}"
    assert report.error["message"].startswith("JSONDecodeError: Expecting property name")
    assert report.exit_code == 10
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("stop", [SystemExit(3), MemoryError()])
def test_whatever_user_code_raises_is_reported(define: Define, request_uri: str, stop: BaseException) -> None:
    def leave(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        raise stop

    define(leave)
    assert run_step(request_uri, env={}).exit_code == 10


def test_sigterm_is_reported_as_worth_a_retry(define: Define, request_uri: str, tmp_path: Path) -> None:
    def wait(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except Exception:  # noqa: BLE001 - what careless user code does
            return {}
        return {}

    define(wait)
    before = signal.getsignal(signal.SIGTERM)
    report = run_step(request_uri, env={})
    assert report == kept_report(tmp_path)
    assert report.exit_code == 20
    assert report.error is not None
    assert "SIGTERM" in report.error["message"]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("result", [None, [1], {"a": object()}, {"a": {1, "b"}}])
def test_a_result_that_is_not_json(define: Define, request_uri: str, result: Any) -> None:
    define(lambda config, ctx: result)
    assert run_step(request_uri, env={}).exit_code == 12


@pytest.mark.parametrize("changes", [{"step": "fly"}, {"config": {"nmae": "x"}}, {"config": {"name": 1}}])
def test_a_request_that_does_not_fit(define: Define, tmp_path: Path, changes: Mapping[str, Any]) -> None:
    define(greet)
    report = run_step(write_request(tmp_path, **changes), env={})
    assert report == kept_report(tmp_path)
    assert report.exit_code == 12


def test_another_protocol_is_reported_beside_the_request(tmp_path: Path) -> None:
    report = run_step(write_request(tmp_path, protocol=99), env={})
    assert report.exit_code == 12
    assert parse_report((tmp_path / "report.json").read_bytes(), "report") == report


def test_no_secret_is_written(
    define: Define, request_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s3cr3t-value", "MLFLOW_TRACKING_PASSWORD": "hunter-22"}

    def leak(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        raise ValueError(f"cannot log in: {dict(ctx.env)}")

    define(leak)
    run_step(request_uri, env={**secrets, "HOME": "/home/me"})
    for text in (caplog.text, (tmp_path / "out/report.json").read_text()):
        assert "s3cr3t-value" not in text
        assert "hunter-22" not in text
        assert "/home/me" in text


def test_the_program_exits_with_the_steps_code(define: Define, request_uri: str) -> None:
    define(greet)
    assert program.main([request_uri], {}) == 0
    assert program.main([], {"MLRETRAIN_REQUEST_URI": request_uri, "MLRETRAIN_ATTEMPT": "2"}) == 0


@pytest.mark.parametrize(
    ("argv", "env", "code"),
    [
        ([], {}, 13),
        (["a", "b"], {}, 13),
        (["/none/request.json"], {"MLRETRAIN_ATTEMPT": "x"}, 13),
        (["gs://bucket/request.json"], {}, 13),
        (["/none/request.json"], {}, 11),
    ],
)
def test_the_program_says_what_it_needs(
    argv: list[str], env: dict[str, str], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert program.main(argv, env) == code
    assert len(caplog.records) == 1


@pytest.fixture(autouse=True)
def same_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay puts folders first in ``sys.path``."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_replay_leaves_the_original_alone(define: Define, request_uri: str, tmp_path: Path) -> None:
    define(greet)
    folder, report = replay(request_uri, file_uri(tmp_path / "replay"), env={})
    assert folder == file_uri(tmp_path / "replay")
    assert report.status == "succeeded"
    assert report.outputs["greeting"].uri == f"{folder}/texts/hello.txt"
    assert not (tmp_path / "out").exists()


def test_the_replay_command_says_where_the_results_are(
    define: Define, request_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    define(greet)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = [request_uri, "--output-uri", file_uri(tmp_path / "replay")]
    assert replay_command(parser.parse_args(arguments)) == 0
    assert f"{file_uri(tmp_path / 'replay')}/report.json" in capsys.readouterr().out
    assert replay_command(parser.parse_args(arguments)) == 13
    assert "the output folder is in use" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own database code
def test_a_replay_logs_to_a_run_of_its_own(define: Define, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    client = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"])
    original = client.create_run(client.create_experiment("p")).info

    def remember(config: GreetConfig, ctx: StepContext) -> dict[str, Any]:
        return dict(ctx.request.frozen)

    define(remember)
    request_uri = write_request(tmp_path, frozen={"mlflow_run_id": original.run_id, "champion": None})
    _, report = replay(request_uri, file_uri(tmp_path / "replay"), env=env)
    assert report.result["champion"] is None
    run = client.get_run(report.result["mlflow_run_id"])
    assert run.info.experiment_id == original.experiment_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlretrain.replay_of"] == original.run_id
    assert client.get_run(original.run_id).info.status == "RUNNING"
