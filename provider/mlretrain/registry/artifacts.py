"""Files of a run, where MLflow's pages look for them: through the server, or in the store that it names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from mlretrain.errors import ConfigError, MlretrainError
from mlretrain.registry.rest import MlflowRest
from mlretrain.runtime.store import check_path, open_store

PROXY = "/api/2.0/mlflow-artifacts/artifacts/"
"""MLflow's route for the artifacts of a server that keeps them itself (``--serve-artifacts``)."""

logger = logging.getLogger(__name__)


def put_file(
    rest: MlflowRest, artifact_uri: str, path: str, data: bytes, env: Mapping[str, str] | None
) -> None:
    """Replace ``path`` below a run's ``artifact_uri``.

    The file is for people and nothing depends on it, so what stands against it for good (a place that
    only MLflow's own client can write to, a right that we do not have) is logged and not raised.

    :param env: access to ``s3://`` places; none: the process's environment.
    :raises TransientError: the server or the store does not answer.
    """
    check_path(path)
    try:
        _put(rest, artifact_uri.rstrip("/"), path, data, env)
    except MlretrainError as error:
        if error.retryable:
            raise
        logger.warning("%s is not shown in MLflow: %s", path, error)


def _put(rest: MlflowRest, artifact_uri: str, path: str, data: bytes, env: Mapping[str, str] | None) -> None:
    place = urlsplit(artifact_uri)
    if place.scheme == "mlflow-artifacts" and place.netloc in ("", urlsplit(rest.uri).netloc):
        rest.put(PROXY + quote(f"{place.path.strip('/')}/{path}"), data)
    elif place.scheme in ("", "file", "s3"):
        open_store(artifact_uri, env).write(path, data)
    else:
        raise ConfigError(
            "only MLflow's own client can write here",
            where=artifact_uri,
            allowed="mlflow-artifacts:/…, file:///…, s3://…",
            remedy="Let the server keep artifacts itself: mlflow server --serve-artifacts",
        )
