"""The serving target ``local``: steers a running ``mlretrain serve`` over HTTP."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mlretrain import wire
from mlretrain.errors import (
    ConfigError,
    ContractError,
    InvalidInput,
    MlretrainError,
    Superseded,
    TransientError,
)
from mlretrain.ports import Traffic, VersionStats
from mlretrain.serving.traffic import check_traffic

ANSWER_S = 10.0
FLUSH_S = 60.0
LOAD_S = 120.0
"""How long ``apply`` waits: a new version is downloaded and loaded before the server answers."""

PAUSES_S = (0.2, 1.0, 3.0)
"""Pauses between attempts when the server cannot be reached."""


class LocalTarget:
    """The model server at ``url`` as a :class:`~mlretrain.ports.ServingTarget`.

    Every call is idempotent, so each is repeated while the server cannot be reached, then given up with
    :class:`~mlretrain.errors.TransientError`.

    :param url: for example ``http://127.0.0.1:5002``.
    :param token: the server's ``MLRETRAIN_SERVE_TOKEN``, if it has one.
    :param sleep: how to wait between attempts, in seconds.
    """

    def __init__(
        self, url: str, token: str | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ConfigError(
                "not the address of a model server",
                found=repr(url),
                allowed="http://host:port, https://host:port",
                remedy="Start one with `mlretrain serve` and use the address that it prints.",
            )
        self.url = url.rstrip("/")
        self._token = token
        self._sleep = sleep

    def apply(self, model: str, traffic: Traffic) -> None:
        """Serve, keep ready and mirror exactly this; what is new is loaded before any traffic moves.

        Raises :class:`~mlretrain.errors.Superseded` if a later order has been followed, and
        :class:`~mlretrain.errors.InvalidInput` if a version cannot be loaded; the server then keeps what it
        had.
        """
        body = wire.to_wire(check_traffic(traffic))
        self._call("PUT", f"{_path(model)}/traffic", body=body, timeout_s=LOAD_S)

    def current(self, model: str) -> Traffic:
        """The traffic in force, standbys with it; its generation is 0 if a person ordered it."""
        answer = self._call("GET", _path(model), missing={"weights": {}})
        try:
            return Traffic(**{name: answer[name] for name in Traffic.__dataclass_fields__ if name in answer})
        except TypeError:
            raise _stranger(f"GET {self.url}{_path(model)}", repr(answer)[:80]) from None

    def flush(self, model: str) -> None:
        """Have what was answered so far put into the prediction log, where it can be read."""
        self._call("POST", f"{_path(model)}/flush", body={}, timeout_s=FLUSH_S)

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        """Statistics per version since an instant, at most 24 hours ago."""
        query = urlencode({"since": wire.utc(since).isoformat()})
        answer = self._call("GET", f"{_path(model)}/stats?{query}", missing={})
        return {version: _stats(found) for version, found in answer.get("versions", {}).items()}

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        missing: Any = None,
        timeout_s: float = ANSWER_S,
    ) -> Any:
        pauses = iter(PAUSES_S)
        while True:
            try:
                return self._send(method, path, body, timeout_s)
            except urllib.error.HTTPError as answer:
                with answer:
                    refusal = _refused(answer, f"{method} {self.url}{path}")
                if answer.code == 404 and missing is not None and isinstance(refusal, InvalidInput):
                    return missing
                raise refusal from None
            except (OSError, http.client.HTTPException) as error:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise TransientError(
                        "the model server does not answer",
                        where=f"{method} {self.url}{path}",
                        found=str(getattr(error, "reason", error)) or type(error).__name__,
                        remedy="Check that `mlretrain serve` runs there.",
                    ) from error
                self._sleep(pause_s)

    def _send(self, method: str, path: str, body: Any, timeout_s: float) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked in __init__
            f"{self.url}{path}",
            data=None if body is None else wire.canonical(body),
            headers=headers,
            method=method,
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError:
            raise _stranger(f"{method} {self.url}{path}", repr(content[:80])) from None


def _path(model: str) -> str:
    return f"/models/{quote(model, safe='')}"


def _stats(found: Mapping[str, Any]) -> VersionStats:
    return VersionStats(**{name: found[name] for name in VersionStats.__dataclass_fields__ if name in found})


def _refused(answer: urllib.error.HTTPError, where: str) -> MlretrainError:
    """The server's own words, as the error that says whether a retry can help."""
    text = answer.read().decode(errors="replace")
    try:
        told = json.loads(text)
        message, remedy = str(told["error"]), told.get("remedy")
    except (ValueError, KeyError, TypeError):
        if answer.code in (404, 405):
            return _stranger(where, f"HTTP {answer.code}: {text[:80]!r}")
        message, remedy = f"the model server answered {answer.code}: {text[:200]}", None
    kind: type[MlretrainError]
    if answer.code >= 500:
        kind = TransientError
    elif answer.code in (401, 403):
        kind = ConfigError
    elif answer.code == 409:
        kind = Superseded
    else:
        kind = InvalidInput
    return kind(message, where=where, found=f"HTTP {answer.code}", remedy=remedy)


def _stranger(where: str, found: str) -> ContractError:
    return ContractError(
        "what answers there is no model server",
        where=where,
        found=found,
        remedy="Use the address that `mlretrain serve` printed.",
    )
