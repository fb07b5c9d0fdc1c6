"""MLflow's REST API over the standard library: a task that only asks the registry starts in milliseconds."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from mlretrain.errors import ConfigError, MlretrainError, NotFound, TransientError

API = "/api/2.0/mlflow/"
ATTEMPTS = 4
FIRST_PAUSE_S = 0.25
TRANSIENT = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """What a request carries."""

    data: bytes
    media_type: str

    @classmethod
    def json(cls, value: Mapping[str, Any]) -> _Body:
        return cls(data=json.dumps(value).encode(), media_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowRest:
    """One MLflow tracking server.

    A call that may be repeated is repeated with growing pauses while the server does not answer; then it
    raises :class:`~mlretrain.errors.TransientError`. What the server refuses raises
    :class:`~mlretrain.errors.ConfigError`, what it does not know :class:`~mlretrain.errors.NotFound`.

    :param uri: ``http://…`` or ``https://…``; a user and password in it are used as such.
    :param token: bearer token; goes before ``user`` and ``password``.
    :param timeout_s: longest wait for one answer.
    :param sleep: how to pause between attempts.
    """

    uri: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "the MLflow tracking URI must name a server",
                found=parts.scheme + "://…" if parts.scheme else repr(self.uri),
                allowed="http://host:port, https://host",
                remedy="Start one: mlflow server --backend-store-uri sqlite:///mlflow.db --port 5000",
            )
        if parts.username is not None:
            object.__setattr__(self, "user", self.user or unquote(parts.username))
            object.__setattr__(self, "password", self.password or unquote(parts.password or ""))
        host = parts.netloc.rpartition("@")[2]
        object.__setattr__(self, "uri", f"{parts.scheme}://{host}{parts.path.rstrip('/')}")

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The answer to a ``GET`` of the API."""
        return self._call("GET", API + (f"{path}?{urlencode(query)}" if query else path), None)

    def post(
        self, path: str, body: Mapping[str, Any], *, repeat: bool = True, method: str = "POST"
    ) -> dict[str, Any]:
        """The answer to a write. ``repeat=False``: twice would leave two objects, so never resend."""
        return self._call(method, API + path, _Body.json(body), attempts=ATTEMPTS if repeat else 1)

    def put(self, path: str, data: bytes) -> None:
        """Replace the object at ``path``, counted from the server's root."""
        self._call("PUT", path, _Body(data=data, media_type="application/octet-stream"))

    def version(self) -> str:
        """The server's version. Raises if the server is not MLflow or does not let us in."""
        text = self._send("GET", f"{self.uri}/version", None).decode(errors="replace").strip()
        if not text[:1].isdigit() or len(text) > 40:
            raise self._not_mlflow()
        self._call("POST", f"{API}experiments/search", _Body.json({"max_results": 1}), attempts=1)
        return text

    def _call(
        self, method: str, path: str, body: _Body | None, *, attempts: int = ATTEMPTS
    ) -> dict[str, Any]:
        pause_s = FIRST_PAUSE_S
        for _ in range(attempts - 1):
            try:
                return self._json(self._send(method, self.uri + path, body))
            except TransientError:
                self.sleep(pause_s)
                pause_s *= 3
        return self._json(self._send(method, self.uri + path, body))

    def _json(self, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            raise self._not_mlflow() from None
        if not isinstance(answer, dict):
            raise self._not_mlflow()
        return answer

    def _send(self, method: str, url: str, body: _Body | None) -> bytes:
        request = urllib.request.Request(  # noqa: S310
            url,
            method=method,
            headers=self._headers() | ({"Content-Type": body.media_type} if body else {}),
            data=body.data if body else None,
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read()) from None
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                "the MLflow server does not answer",
                where=self.uri,
                found=str(getattr(error, "reason", error)) or type(error).__name__,
                remedy="Check that it runs and can be reached from here.",
            ) from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.user is not None:
            pair = f"{self.user}:{self.password or ''}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def _refusal(self, status: int, data: bytes) -> MlretrainError:
        code, message = _reason(data)
        if status in (401, 403):
            return ConfigError(
                "the MLflow server refuses our credentials",
                where=self.uri,
                found=f"HTTP {status}",
                remedy="Set the login and password, or the token, of the MLflow connection.",
            )
        if status in TRANSIENT:
            return TransientError(
                "the MLflow server failed", where=self.uri, found=message or f"HTTP {status}"
            )
        if status == 404 and code is None:
            return self._not_mlflow()
        if code == "RESOURCE_ALREADY_EXISTS":
            return AlreadyExists(message or "it exists already", where=self.uri)
        kind = NotFound if status == 404 else ConfigError
        return kind(
            "the MLflow server refused the request", where=self.uri, found=message or f"HTTP {status}"
        )

    def _not_mlflow(self) -> ConfigError:
        return ConfigError(
            "this is not an MLflow tracking server",
            where=self.uri,
            found="an answer that MLflow would not give",
            remedy="Point the connection's host at the server's root, e.g. http://mlflow:5000, "
            "and check that no login page or proxy stands before it.",
        )


class AlreadyExists(ConfigError):
    """The object that was to be created is there."""


def _reason(data: bytes) -> tuple[str | None, str | None]:
    """MLflow's error code and message, if the answer holds them."""
    try:
        answer = json.loads(data)
        return answer.get("error_code"), str(answer.get("message", ""))[:500]
    except (ValueError, AttributeError):
        return None, None
