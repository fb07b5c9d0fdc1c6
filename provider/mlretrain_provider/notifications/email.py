"""Notices by e-mail, through Airflow's own notifier."""

from __future__ import annotations

import smtplib
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from mlretrain.errors import ConfigError, MissingExtra, TransientError
from mlretrain_provider.hooks.connection import connection
from mlretrain_provider.notifications.base import MlretrainNotifier, Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED = (
    smtplib.SMTPAuthenticationError,
    smtplib.SMTPNotSupportedError,
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
)
"""What the same message would meet again."""


class EmailNotifier(MlretrainNotifier):
    """Sends the notice by e-mail, with links to the run and to the model version.

    :param to: the addresses.
    :param conn_id: a connection of type ``smtp``.
    :param from_email: the sender; none: the connection's ``from_email``.
    :param on: the events to tell of; none: all of them.
    """

    template_fields: Sequence[str] = ("conn_id", "to", "from_email")

    def __init__(
        self,
        *,
        to: str | Sequence[str],
        conn_id: str = "smtp_default",
        from_email: str | None = None,
        on: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(on=on, **kwargs)
        self.to = to
        self.conn_id = conn_id
        self.from_email = from_email

    def send(self, notice: Notice) -> None:
        example = """--conn-host smtp.example.com --conn-extra '{"from_email": "airflow@example.com"}'"""
        found = connection(self.conn_id, conn_type="smtp", example=example)
        try:
            from airflow.providers.smtp.notifications.smtp import SmtpNotifier
        except ModuleNotFoundError:
            raise MissingExtra.of("apache-airflow-providers-smtp", "smtp") from None
        notifier = SmtpNotifier(
            smtp_conn_id=self.conn_id,
            to=self.to if isinstance(self.to, str) else list(self.to),
            from_email=self.from_email or self._sender(found.extra_dejson),
            subject=subject(notice),
            html_content=page(notice),
        )
        where = f"connection {self.conn_id}"
        try:
            # Not by calling it, which would render the text as a template: people wrote parts of it.
            notifier.notify({})
        except REFUSED as error:
            raise ConfigError("the mail server refused the notice", where=where, found=_said(error)) from None
        except (AirflowException, OSError) as error:
            raise TransientError("the notice could not be sent", where=where, found=_said(error)) from None

    def _sender(self, extra: Mapping[str, Any]) -> str:
        if not extra.get("from_email"):
            raise ConfigError(
                "an e-mail needs a sender",
                where=f"connection {self.conn_id}",
                remedy="Say from_email, or put it into the connection's extra.",
            )
        return str(extra["from_email"])


def subject(notice: Notice) -> str:
    """One line, whatever the facts hold."""
    return " ".join(f"[mlretrain] {notice.title}".split())


def page(notice: Notice) -> str:
    """The notice in HTML."""
    rows = {"Reason": notice.reason, "Run": notice.run_id}
    facts = "".join(
        f'<tr><th align="left">{name}</th><td>{escape(value)}</td></tr>'
        for name, value in rows.items()
        if value
    )
    links = " · ".join(f'<a href="{escape(url)}">{words}</a>' for words, url in notice.links.items())
    return f"<h3>{escape(notice.title)}</h3><table>{facts}</table><p>{links}</p>"


def _said(error: BaseException) -> str:
    """What the server answered: its code and words, without the address book."""
    code, text = getattr(error, "smtp_code", None), getattr(error, "smtp_error", b"")
    if code is None:
        return str(error) or type(error).__name__
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
