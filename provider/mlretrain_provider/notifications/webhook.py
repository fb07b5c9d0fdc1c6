"""Notices to a web hook, as chat systems have them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.errors import ConfigError, TransientError
from mlretrain_provider.hooks.connection import connection
from mlretrain_provider.notifications.base import MlretrainNotifier, Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Connection

ANSWER_S = 10.0


class WebhookNotifier(MlretrainNotifier):
    """Posts the notice as JSON: ``text``, which Slack, Mattermost and their like show, and each fact by name.

    :param conn_id: a connection (type ``http``): host = URL, password = what follows it, if that is secret.
    :param on: the events to tell of; none: all of them.
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str, on: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(on=on, **kwargs)
        self.conn_id = conn_id

    def send(self, notice: Notice) -> None:
        example = "--conn-host https://hooks.example.com --conn-password <secret path>"
        url = _url(connection(self.conn_id, conn_type="http", example=example))
        body = json.dumps({"text": notice.text, **wire.to_wire(notice)}).encode()
        request = urllib.request.Request(  # noqa: S310
            url, data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise ConfigError(
                "the web hook refused the notice",
                where=f"connection {self.conn_id}",
                found=f"HTTP {error.code}",
            ) from None
        except OSError as error:
            raise TransientError(
                "the web hook does not answer",
                where=f"connection {self.conn_id}",
                found=str(getattr(error, "reason", error)),
            ) from None


def _url(conn: Connection) -> str:
    """The web hook's address. It may hold a secret, so no message quotes it."""
    host = (conn.host or "").rstrip("/")
    if "://" not in host:
        host = f"{conn.schema or 'https'}://{host}"
    if not host.startswith(("http://", "https://")):
        raise ConfigError(
            "not a web hook's address", where=f"connection {conn.conn_id}", allowed="http://…, https://…"
        )
    host = f"{host}:{conn.port}" if conn.port else host
    return f"{host}/{conn.password.lstrip('/')}" if conn.password else host
