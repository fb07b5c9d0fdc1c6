"""MLflow's own scoring app for a registered version, observed from inside.

MLflow answers the request; what its app parsed and what the model predicted are noted on the way through, so
that nothing is parsed twice and the caller gets MLflow's bytes.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.errors import InvalidInput, MlretrainError, TransientError
from mlretrain.runtime.fingerprint import check
from mlretrain.runtime.package import fetch
from mlretrain.serving.router import LoadFailed

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass(slots=True)
class Call:
    """What became of one request inside the scoring app.

    ``failure`` is the exception of a model that failed, which MLflow answers with 400 like a mistake of the
    caller. A mistake of the caller (a schema that is not met, an unknown parameter) is no failure.
    """

    rows: Any = None
    predictions: Any = None
    failure: Exception | None = None


CALL: ContextVar[Call] = ContextVar("mlretrain_call")
"""The request being answered; MLflow's app runs the model in a thread that inherits the context."""


class ObservedModel:
    """A pyfunc model that notes its input, its answer and its failure in :data:`CALL`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.metadata = model.metadata
        self._may_change_input = model.metadata.get_input_schema() is None

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """The model's predictions; the name and the parameters are those that MLflow's app looks for."""
        from mlflow.exceptions import MlflowException

        call = CALL.get()
        rows = data.copy() if self._may_change_input and hasattr(data, "copy") else data
        try:
            predictions = self._model.predict(data, params=params)
        except MlflowException as error:
            status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
            if status >= 500:
                call.failure = error
            raise
        except Exception as error:
            call.failure = error
            raise
        call.rows, call.predictions = rows, predictions
        return predictions


class MlflowLoader:
    """Loads ``models:/<model>/<version>`` and gives MLflow's scoring app for it.

    The files must be those that the version's tags speak of; nothing of others is unpickled. They are kept
    as long as the app, since a model may read them when it is asked.
    """

    def __init__(self, tracking_uri: str) -> None:
        import mlflow

        # A restart, or the caller, tries again: do not hold up a change of weights for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        logging.getLogger("mlflow.models.utils").addFilter(_is_news)
        mlflow.set_tracking_uri(tracking_uri)
        self._tracking_uri = tracking_uri

    def __call__(self, model: str, version: str) -> ASGIApp:
        """Raises :class:`LoadFailed`, or :class:`~mlretrain.errors.TransientError` if a server is away."""
        import mlflow.pyfunc
        from mlflow.pyfunc import scoring_server

        uri = f"models:/{model}/{version}"
        scratch = tempfile.mkdtemp(prefix="mlretrain-model-")
        try:
            folder = fetch(uri, scratch)
            tags = mlflow.MlflowClient(self._tracking_uri).get_model_version(model, version).tags
            check(folder, tags, where=uri)
            observed: Any = ObservedModel(mlflow.pyfunc.load_model(str(folder)))
            app: ASGIApp = scoring_server.init(observed)
        except Exception as error:
            shutil.rmtree(scratch)
            raise self._refusal(uri, error) from error
        weakref.finalize(observed, shutil.rmtree, scratch, ignore_errors=True)
        return app

    def _refusal(self, uri: str, error: Exception) -> MlretrainError:
        if isinstance(error, InvalidInput):
            return LoadFailed(
                error.message, where=uri, found=error.found, allowed=error.allowed, remedy=error.remedy
            )
        if _is_away(error):
            return TransientError(
                f"{uri} cannot be fetched now",
                where=self._tracking_uri,
                found=_first_line(error),
                remedy="Check that the MLflow server and its artifact store answer, then apply again.",
            )
        return LoadFailed(
            f"{uri} cannot be loaded",
            where=self._tracking_uri,
            found=f"{type(error).__name__}: {_first_line(error)}",
            remedy="Check that the version exists and that the server has its requirements installed.",
        )


def _is_news(record: logging.LogRecord) -> bool:
    """MLflow warns, at every request, of columns that the log keeps and the model does not use."""
    return "Found extra inputs" not in record.msg


def _is_away(error: BaseException) -> bool:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import ConnectionError as RequestsConnectionError
    from requests.exceptions import Timeout

    away = (ConnectionError, TimeoutError, RequestsConnectionError, Timeout)
    return any(
        isinstance(each, away)
        or type(each).__name__ in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError")
        or (isinstance(each, MlflowException) and "API request to" in each.message)
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
