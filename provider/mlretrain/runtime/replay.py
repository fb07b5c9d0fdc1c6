"""Any step of any run again on this machine, from its request alone; the original is left as it is."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlretrain.errors import ConfigError, MlretrainError
from mlretrain.runtime.contract import REPORT_FILE, REQUEST_FILE, StepReport, parse_request
from mlretrain.runtime.runner import run_step
from mlretrain.runtime.store import file_uri, join_uri, open_store, read_uri
from mlretrain.runtime.tracking import RUN_FACT, tracking
from mlretrain.wire import pretty


def replay(
    request_uri: str, output_uri: str | None = None, env: Mapping[str, str] | None = None
) -> tuple[str, StepReport]:
    """Run a copy of the request at ``request_uri``, with its outputs in a folder of their own.

    If the original logged to an MLflow run, the copy logs to a new one beside it.

    :param output_uri: an unused folder; by default a new temporary one.
    :return: the output folder's URI and the report in it.
    """
    env = os.environ if env is None else env
    request = parse_request(read_uri(request_uri, env), request_uri)
    if output_uri is None:
        prefix = f"mlretrain-replay-{request.step}-{request.key}-"
        output_uri = file_uri(Path(tempfile.mkdtemp(prefix=prefix)))
    store = open_store(output_uri, env)
    copy = replace(request, output_uri=store.root_uri, frozen=_with_own_run(request.frozen, env))
    if not store.create(REQUEST_FILE, pretty(copy)):
        raise ConfigError("the output folder is in use", where=store.root_uri, remedy="Name a new folder.")
    report = run_step(join_uri(store.root_uri, REQUEST_FILE), env=env)
    _end_run(copy.frozen, report, env)
    return store.root_uri, report


def _with_own_run(frozen: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """``frozen`` with a new run in the experiment of the run it names, if it names one."""
    original = frozen.get(RUN_FACT)
    if original is None:
        return dict(frozen)
    with tracking(env) as client:
        found = client.get_run(original)
        run = client.create_run(
            found.info.experiment_id,
            run_name=f"replay of {found.info.run_name}",
            tags={"mlretrain.replay_of": original},
        )
        return {**frozen, RUN_FACT: run.info.run_id}


def _end_run(frozen: Mapping[str, Any], report: StepReport, env: Mapping[str, str]) -> None:
    if frozen.get(RUN_FACT) is not None:
        with tracking(env) as client:
            client.set_terminated(frozen[RUN_FACT], "FINISHED" if report.status == "succeeded" else "FAILED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mlretrain replay``."""
    parser.add_argument("request_uri", help="the request.json of the step, as its task's log names it")
    parser.add_argument(
        "--output-uri", help="an unused folder for the results (default: a new temporary one)"
    )
    parser.add_argument(
        "--code-path",
        action="append",
        default=[],
        help="a folder with your code, put before all others; may be repeated",
    )


def main(args: argparse.Namespace) -> int:
    """Replay, say where the results are, and return the step's exit code."""
    sys.path[:0] = [os.path.abspath(path) for path in (*args.code_path, ".")]
    try:
        folder, report = replay(args.request_uri, args.output_uri)
    except MlretrainError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(
        f"{report.status} in {report.timings.get('total', 0.0):.1f} s: {join_uri(folder, REPORT_FILE)}\n"
    )
    return report.exit_code
