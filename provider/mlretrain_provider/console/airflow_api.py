"""Airflow's REST API over the standard library: what a command needs to start a run and to follow it."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mlretrain.errors import ConfigError, ContractError, MlretrainError, NotFound, TransientError

URL, TOKEN, USER, PASSWORD = (
    "AIRFLOW_API_URL",
    "AIRFLOW_API_TOKEN",
    "AIRFLOW_API_USER",
    "AIRFLOW_API_PASSWORD",
)
"""The environment variables that say where Airflow is and who asks."""
DEFAULT_URL = "http://localhost:8080"
TIMEOUT_S = 30.0
_SHOWN = 300


class Conflict(ContractError):
    """What is to be made is there already."""


@dataclass(frozen=True, kw_only=True)
class AirflowApi:
    """One Airflow, by its API v2.

    :param env: holds the credentials: a token; or a user and password; or none, where everybody is admin.
    """

    url: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigError(
                "not the address of an Airflow",
                found=repr(self.url.rpartition("@")[2]),
                allowed=f"{DEFAULT_URL}, https://airflow.example.com",
                remedy=f"Set --airflow-url or {URL}; the user goes into {USER} and {PASSWORD}.",
            )

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer of ``/api/v2/<path>``."""
        asked = f"{path}?{urlencode(query, doseq=True)}" if query else path
        return self._call("GET", f"/api/v2/{asked}", None, self._token)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a write, which is sent once."""
        return self._call("POST", f"/api/v2/{path}", body, self._token)

    def page(self, dag_id: str, run_id: str) -> str:
        """The run's page for people."""
        return f"{self.url.rstrip('/')}/dags/{quote(dag_id)}/runs/{quote(run_id)}"

    @cached_property
    def _token(self) -> str:
        if token := self.env.get(TOKEN):
            return token
        if user := self.env.get(USER):
            body = {"username": user, "password": self.env.get(PASSWORD, "")}
            return str(self._call("POST", "/auth/token", body)["access_token"])
        try:
            return str(self._call("GET", "/auth/token", None)["access_token"])
        except (MlretrainError, KeyError) as error:
            if isinstance(error, TransientError):
                raise
            raise ConfigError(
                "Airflow wants to know who asks",
                where=self.url,
                remedy=f"Set {TOKEN}, or {USER} and {PASSWORD}.",
            ) from None

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str | None = None
    ) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310
            self.url.rstrip("/") + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"}
            | ({"Authorization": f"Bearer {token}"} if token else {}),
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refused(error, path) from None
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                "Airflow does not answer",
                where=self.url,
                found=str(getattr(error, "reason", error)),
                remedy=f"Set --airflow-url or {URL} to where its api-server listens.",
            ) from None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError("this is no Airflow", where=self.url, remedy=f"Set --airflow-url or {URL}.")
        return found

    def _refused(self, error: urllib.error.HTTPError, path: str) -> MlretrainError:
        where, told = self.url + path.partition("?")[0], _detail(error.read())
        match error.code:
            case 401 | 403:
                return ConfigError(
                    "Airflow does not let us",
                    where=where,
                    found=f"{error.code} {told}",
                    remedy=f"Set {TOKEN}, or {USER} and {PASSWORD}, of somebody who may.",
                )
            case 404:
                return NotFound("Airflow has no such thing", where=where, found=told)
            case 409:
                return Conflict("it is there already", where=where, found=told)
            case 408 | 429 | 500 | 502 | 503 | 504:
                return TransientError("Airflow does not answer", where=where, found=f"{error.code} {told}")
        return ConfigError("Airflow refuses", where=where, found=f"{error.code} {told}")


def _detail(body: bytes) -> str:
    """What an answer says is wrong; bodies of sign-ins are not repeated by Airflow."""
    text = body.decode(errors="replace")
    try:
        text = str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        text = " ".join(text.split())
    return text[:_SHOWN]
