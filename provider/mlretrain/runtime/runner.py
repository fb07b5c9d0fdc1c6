"""Runs one step from its request to its report, whatever happens in between."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from mlretrain.errors import (
    ContractError,
    MlretrainError,
    NotFound,
    TransientError,
    UserCodeError,
)
from mlretrain.errors import from_wire as error_from_wire
from mlretrain.runtime.context import StepContext
from mlretrain.runtime.contract import (
    StepReport,
    StepRequest,
    parse_report,
    parse_request,
    report_file,
)
from mlretrain.runtime.node import Node
from mlretrain.runtime.requirements import check_requirements
from mlretrain.runtime.secrets import FETCHED, SECRETS_ARN
from mlretrain.runtime.store import open_store, read_uri, split_uri
from mlretrain.steps import SHARED, STEPS
from mlretrain.wire import canonical, from_wire, pretty, to_wire

logger = logging.getLogger("mlretrain")

_SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)
_SHORTEST_SECRET = 6
_STOPPED = "the step was stopped by"
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
_LIBRARY_FOLDERS = tuple(path + os.sep for path in (*_LIBRARIES, str(Path(__file__).parents[1])))


class _Stopped(BaseException):
    """SIGTERM arrived; not an Exception, so that user code does not swallow it by accident."""


def run_step(request_uri: str, *, attempt: int = 1, env: Mapping[str, str] | None = None) -> StepReport:
    """The report of the step asked for at ``request_uri``, which is also kept beside the step's outputs.

    A request that has succeeded before is not run again. Every failure of the step becomes a report; only a
    request that cannot be read and a store that cannot take the report raise.

    Several nodes (:mod:`mlretrain.runtime.node`) train together. Rank 0's report is the job's, the others'
    are kept beside it. If the platform stops rank 0 because another node failed, it reports that one's error.

    :param attempt: which try this is, for the report.
    :param env: settings and credentials; by default the process's environment.
    """
    env = os.environ if env is None else env
    start = time.perf_counter()
    node = Node.of(env)
    data = read_uri(request_uri, env)
    try:
        request = parse_request(data, request_uri)
    except ContractError as error:
        report = StepReport(
            key="",
            status="failed",
            exit_code=error.exit_code,
            error=_redacted(error, env),
            attempt=attempt,
        )
        open_store(split_uri(request_uri)[0], env).write(report_file(node.rank), pretty(report))
        logger.error("%s", redact(str(error), env))
        return report
    context = StepContext(request=request, store=open_store(request.output_uri, env), env=env, node=node)
    done = _succeeded_before(context)
    if done:
        logger.info("%s %s has succeeded before: nothing to do", request.step, request.key)
        return done
    logger.info("%s of %s, run %s, attempt %d", request.step, request.pipeline, request.run_id, attempt)
    report = _run(context, attempt, start)
    context.store.write(report_file(node.rank), pretty(report))
    logger.info("%s %s in %.1f s", request.step, report.status, report.timings["total"])
    return report


def _run(context: StepContext, attempt: int, start: float) -> StepReport:
    error: MlretrainError | None = None
    result: dict[str, Any] = {}
    with _sigterm_raises():
        try:
            result = _call(context)
        except MlretrainError as raised:
            error = raised
            if isinstance(raised, UserCodeError) and raised.__cause__ is not None:
                text = "".join(traceback.format_exception(raised.__cause__))
                logger.error("%s", redact(text.rstrip(), context.env))
        except (_Stopped, KeyboardInterrupt) as raised:
            name = "SIGTERM" if isinstance(raised, _Stopped) else "SIGINT"
            stopped = TransientError(f"{_STOPPED} {name}", where=context.request.step)
            error = _error_of_peer(context, attempt) or stopped
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - the user's code may raise anything
            logger.error("%s", redact("".join(traceback.format_exception(raised)).rstrip(), context.env))
            error = user_code_error(raised)
    context.timings["total"] = round(time.perf_counter() - start, 4)
    if error is not None:
        logger.error("%s", redact(str(error), context.env))
    return _report(context, result, error, attempt)


def _error_of_peer(context: StepContext, attempt: int) -> MlretrainError | None:
    """Why another node failed on this attempt: a platform then stops all the others."""
    for rank in range(context.world_size):
        try:
            report = _read_report(context, rank) if rank != context.rank else None
        except TransientError:
            return None
        if report is None or not report.error or report.attempt != attempt:
            continue
        if not str(report.error.get("message")).startswith(_STOPPED):
            where = f"rank {rank}: {report.error.get('where') or context.request.step}"
            return error_from_wire({**report.error, "where": where})
    return None


def _report(
    context: StepContext, result: dict[str, Any], error: MlretrainError | None, attempt: int
) -> StepReport:
    return StepReport(
        key=context.request.key,
        status="failed" if error else "succeeded",
        exit_code=error.exit_code if error else 0,
        result=result,
        outputs=context.outputs,
        metrics=context.metrics,
        timings=context.timings,
        error=_redacted(error, context.env) if error else None,
        attempt=attempt,
    )


def _redacted(error: MlretrainError, env: Mapping[str, str]) -> dict[str, str | None]:
    return {name: value and redact(value, env) for name, value in error.to_wire().items()}


def _call(context: StepContext) -> dict[str, Any]:
    request = context.request
    if context.rank > 0 and request.step not in SHARED:
        logger.info("rank %d has nothing to do: %s is rank 0's work", context.rank, request.step)
        return {}
    check_requirements(context.env)
    with context.phase("import"):
        module = _step_module(request)
        config = from_wire(module.Config, request.config)
    with context.phase("run"):
        result = module.run(config, context)
    if not isinstance(result, Mapping):
        raise ContractError(
            "the step's result is not an object", where=request.step, found=type(result).__name__
        )
    try:
        canonical(result)
    except (ContractError, TypeError, ValueError) as error:
        raise ContractError("the step's result is not JSON", where=request.step, found=str(error)) from error
    return dict(to_wire(result))


def _step_module(request: StepRequest) -> ModuleType:
    if request.step not in STEPS:
        raise ContractError("an unknown step", found=repr(request.step), allowed=", ".join(STEPS))
    return importlib.import_module(STEPS[request.step])


def _succeeded_before(context: StepContext) -> StepReport | None:
    report = _read_report(context, 0)
    return report if report is not None and report.status == "succeeded" else None


def _read_report(context: StepContext, rank: int) -> StepReport | None:
    """The report that the node of that rank left of this request, if any."""
    path = report_file(rank)
    try:
        report = parse_report(context.store.read(path), context.uri_of(path))
    except NotFound:
        return None
    except ContractError:
        logger.warning("%s is not a report of this protocol: it does not count", context.uri_of(path))
        return None
    return report if report.key == context.request.key else None


def user_code_error(error: BaseException) -> UserCodeError:
    """One sentence with the user's own file and line: the innermost frame outside of libraries."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARY_FOLDERS, "<"))]
        where = next((f"{frame.filename}:{frame.lineno}" for frame in reversed(own or frames)), "")
    text = str(error).strip().split("\n", 1)[0]
    name = type(error).__name__
    return UserCodeError(f"{name}: {text}" if text else name, where=where or None)


def is_secret(name: str) -> bool:
    """Whether an environment variable's name tells that its value is secret."""
    return name != SECRETS_ARN and _SECRET_NAME.search(name) is not None


def redact(text: str, env: Mapping[str, str]) -> str:
    """``text`` without the values of variables that are secret by their names, or were fetched as secrets."""
    fetched = set(env.get(FETCHED, "").split(","))
    for name, value in env.items():
        if (is_secret(name) or name in fetched) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """While inside, SIGTERM raises :class:`_Stopped`, once; signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
