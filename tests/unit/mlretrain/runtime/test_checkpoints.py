"""A job that is stopped or killed: what it kept is found by the next try, in real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlretrain.runtime.context import StepContext
from mlretrain.runtime.contract import StepRequest
from mlretrain.runtime.store import file_uri, open_store
from mlretrain.wire import pretty

# A user's loop as TrainContext's docstring shows it; epoch 3 waits for whoever ends the process.
PROGRAM = """
import json, signal, sys, types
from dataclasses import dataclass
from mlretrain.runtime.__main__ import leave, main
from mlretrain.steps import STEPS

@dataclass(frozen=True, kw_only=True)
class Config:
    epochs: int

def run(config, ctx):
    kept = ctx.load_checkpoint("state.json")
    done = json.loads(kept) if kept else []
    try:
        while len(done) < config.epochs:
            if len(done) == 3 and not kept:
                print("waiting", flush=True)
                signal.pause()
            done.append(f"epoch {len(done)} of try {sys.argv[2]}")
            ctx.progress(len(done), config.epochs, "loss 0.5")
            ctx.save_checkpoint("state.json", json.dumps(done).encode())
    finally:
        if sys.argv[3] == "saves-at-the-end":
            ctx.save_checkpoint("last-words.txt", f"{len(done)} done".encode())
    return {"done": done}

step = types.ModuleType("loop_step")
step.Config, step.run = Config, run
sys.modules["loop_step"] = step
STEPS["loop"] = "loop_step"
leave(main(sys.argv[1:2], {}))
"""


@pytest.fixture
def request_uri(tmp_path: Path) -> str:
    request = StepRequest(
        step="loop",
        pipeline="p",
        run_id="r",
        window_end=datetime(2013, 4, 1, tzinfo=UTC),
        key="abc",
        config={"epochs": 5},
        output_uri=file_uri(tmp_path / "out"),
    )
    (tmp_path / "request.json").write_bytes(pretty(request))
    return file_uri(tmp_path / "request.json")


@contextmanager
def job(request_uri: str, attempt: int, how: str = "saves-as-it-goes") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, request_uri, str(attempt), how]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def result(folder: Path) -> list[str]:
    report = json.loads((folder / "out/report.json").read_bytes())
    assert report["status"] == "succeeded", report
    return list(report["result"]["done"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_next_try_goes_on_where_the_last_one_was(
    tmp_path: Path, request_uri: str, number: signal.Signals
) -> None:
    with job(request_uri, 1) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "waiting\n"
        first.send_signal(number)
        first.wait(10)
    assert first.returncode == (20 if number == signal.SIGTERM else -signal.SIGKILL)
    with job(request_uri, 2) as second:
        _, log = second.communicate(timeout=20)
    assert result(tmp_path) == [
        *(f"epoch {i} of try 1" for i in range(3)),
        *(f"epoch {i} of try 2" for i in (3, 4)),
    ]
    assert [line.split(": ", 1)[1] for line in log.splitlines() if "progress" in line] == [
        "progress: 4 of 5 (80 %), loss 0.5",
        "progress: 5 of 5 (100 %), loss 0.5",
    ]


def test_sigterm_leaves_time_for_last_words(tmp_path: Path, request_uri: str) -> None:
    with job(request_uri, 1, "saves-at-the-end") as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.terminate()
        first.terminate()  # an impatient supervisor does not cut it short
        _, log = first.communicate(timeout=20)
    assert (first.returncode, (tmp_path / "out/checkpoints/last-words.txt").read_text()) == (20, "3 done")
    assert "the step was stopped by SIGTERM" in log


def test_a_checkpoint_is_kept_below_the_outputs_and_is_no_output(tmp_path: Path, request_uri: str) -> None:
    data = (tmp_path / "request.json").read_bytes()
    request = StepRequest(**{**json.loads(data), "window_end": datetime(2013, 4, 1, tzinfo=UTC)})
    context = StepContext(request=request, store=open_store(request.output_uri), env={})
    assert context.checkpoint_uri == file_uri(tmp_path / "out/checkpoints")
    assert context.load_checkpoint("model/weights") is None
    uri = context.save_checkpoint("model/weights", b"1")
    assert uri == f"{context.checkpoint_uri}/model/weights"
    context.save_checkpoint("model/weights", b"2")
    assert context.load_checkpoint("model/weights") == b"2"
    assert context.outputs == {}


def test_progress_without_an_end_has_no_share(request_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(request_uri.rpartition("/")[0])
    request = StepRequest(
        step="s",
        pipeline="p",
        run_id="r",
        window_end=datetime.now(UTC),
        key="k",
        config={},
        output_uri=store.root_uri,
    )
    with caplog.at_level("INFO", "mlretrain"):
        StepContext(request=request, store=store, env={}).progress(7, 0)
    assert caplog.messages == ["progress: 7"]
