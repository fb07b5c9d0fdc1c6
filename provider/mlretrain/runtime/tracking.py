"""The step's MLflow run: the one the operator opened, found by its id and never created here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, ContractError, MissingExtra, TransientError

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_FACT = "mlflow_run_id"
"""Where a request's ``frozen`` facts name the run."""

_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


@contextmanager
def tracking(env: Mapping[str, str]) -> Iterator[MlflowClient]:
    """A client of the server that ``MLFLOW_TRACKING_URI`` names, which becomes MLflow's own default.

    Warnings about MLflow's own code are not shown: the user can do nothing about them.

    :raises TransientError: the server or its artifact store did not answer.
    """
    uri = env.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError(
            "MLFLOW_TRACKING_URI is not set",
            remedy="Set it to the MLflow server; the operators take it from their MLflow connection",
        )
    settings = {key: value for key, value in env.items() if key.startswith("MLFLOW_")}
    with _environment(_QUIET | settings), warnings.catch_warnings():
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtra.of("mlflow", "mlflow") from error
        warnings.filterwarnings("ignore", module=r"mlflow\.")
        mlflow.set_tracking_uri(uri)
        try:
            yield mlflow.MlflowClient()
        except Exception as error:
            if not is_away(error):
                raise
            raise TransientError("MLflow did not answer", where=uri, found=_first_line(error)) from error


@contextmanager
def current_run(run_id: str) -> Iterator[None]:
    """Let MLflow's fluent functions log to ``run_id``: ``log_metric`` as well as the user's ``start_run``."""
    import mlflow

    with _environment({"MLFLOW_RUN_ID": run_id}):
        try:
            yield
        except BaseException:
            _end_runs(mlflow, "FAILED")
            raise
        _end_runs(mlflow, "FINISHED")


def run_id_of(frozen: Mapping[str, Any]) -> str:
    """The id of the request's MLflow run. Raises :class:`ContractError` if the request names none."""
    run_id = frozen.get(RUN_FACT)
    if not isinstance(run_id, str):
        raise ContractError("the request names no MLflow run", where=f"frozen.{RUN_FACT}", found=repr(run_id))
    return run_id


def is_away(error: BaseException) -> bool:
    """Whether ``error`` says that a server did not answer, rather than that it refused."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import ConnectionError as RequestsConnectionError
    from requests.exceptions import Timeout

    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        return "API request to" in error.message and (status >= 500 or "Max retries" in error.message)
    return isinstance(error, (RequestsConnectionError, Timeout))


def _end_runs(mlflow: Any, status: str) -> None:
    while mlflow.active_run() is not None:
        mlflow.end_run(status)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
