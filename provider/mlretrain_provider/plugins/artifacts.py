"""Artifacts as web pages: Data Docs and drift reports below ``/mlretrain/artifacts/`` of Airflow's server.

Only files below the configured roots, only to people who are logged in, and never with the rights of
Airflow's pages: what a pipeline writes is shown without scripts, forms and network.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from mlretrain import wire
from mlretrain.errors import ContractError, MlretrainError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

PREFIX = "/mlretrain"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""What is shown; all else is not served. Data and models are not for browsers."""

HEADERS = {
    # No script runs, so pages may keep Airflow's origin: without it browsers send no cookie for their styles
    # and pictures. What Data Docs' scripts do, they do with libraries from the Internet, which is out of
    # reach.
    "Content-Security-Policy": "sandbox allow-same-origin allow-popups; default-src 'none'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
REMEDY = (
    "Set [mlretrain] artifact_roots (AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS) of the API server to the artifact "
    "stores whose pages may be shown, e.g. s3://ml-artifacts,file:///opt/artifacts"
)


def root_key(root_uri: str) -> str:
    """The name of an artifact root in addresses; it does not change when the list of roots does."""
    return wire.digest(root_uri.rstrip("/"), 12)


def artifact_path(root_uri: str, uri: str) -> str | None:
    """Where Airflow's server shows the artifact ``uri``; ``None`` if it is not below ``root_uri``."""
    from airflow.sdk.configuration import conf

    root = root_uri.rstrip("/")
    if not uri.startswith(f"{root}/"):
        return None
    mount = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    path = uri[len(root) + 1 :]
    # A file URI is escaped already, an S3 key is not.
    path = unquote(path) if root.startswith("file://") else path
    return f"{mount}{PREFIX}/artifacts/{root_key(root)}/{quote(path)}"


def configured_roots() -> dict[str, str]:
    """The roots that may be shown, by :func:`root_key`."""
    from airflow.configuration import conf

    uris = [each.strip() for each in (conf.get("mlretrain", "artifact_roots", fallback="") or "").split(",")]
    return {root_key(uri): uri for uri in uris if uri}


def load(roots: Mapping[str, str], root: str, path: str) -> tuple[bytes, str]:
    """The bytes and the media type of ``path`` below the root of that key.

    Raises :class:`~mlretrain.errors.NotFound` for whatever may not be shown, without saying why it may not.
    """
    from mlretrain.runtime.store import open_store

    if root not in roots:
        raise NotFound("not an artifact root that may be shown", remedy=REMEDY)
    pure = PurePosixPath(path)
    media_type = MEDIA_TYPES.get(pure.suffix.lower())
    hidden = any(part.startswith(".") for part in pure.parts)
    if media_type is None or hidden or pure.is_absolute() or "\\" in path or "\0" in path:
        raise NotFound("no such page")
    try:
        return open_store(roots[root]).read(str(pure)), media_type
    except ContractError:  # a path that would leave the store
        raise NotFound("no such page") from None


def create_app() -> FastAPI:
    """The web application; every request is authenticated by Airflow."""
    from airflow.api_fastapi.core_api.security import requires_authenticated
    from fastapi import Depends, FastAPI, Request
    from fastapi.responses import PlainTextResponse, Response

    app = FastAPI(title="ML Retrain", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/artifacts/{root}/{path:path}", dependencies=[Depends(requires_authenticated())])
    def show(root: str, path: str) -> Response:
        content, media_type = load(configured_roots(), root, path)
        return Response(content, media_type=media_type, headers=HEADERS)

    @app.exception_handler(MlretrainError)
    def refuse(request: Request, error: MlretrainError) -> Response:
        status = 404 if isinstance(error, NotFound) else 503 if error.retryable else 500
        # What a store says may hold paths and addresses, which are not for a page's reader.
        text = (
            str(error) if error.where is None else "the artifact store does not have it, or does not answer"
        )
        return PlainTextResponse(text, status_code=status, headers=HEADERS)

    return app
