"""Notices by e-mail, to a real SMTP server."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from mlretrain.errors import ConfigError, MissingExtra, TransientError
from mlretrain_provider.notifications.base import Notice
from mlretrain_provider.notifications.email import EmailNotifier, subject
from tests.free_port import free_port

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.filterwarnings("ignore:Requiring AUTH"),
]

aiosmtpd = pytest.importorskip("aiosmtpd.controller")

PASSWORD = "mail-secret"
PLAIN = {"disable_tls": True, "disable_ssl": True, "retry_limit": 0, "timeout": 5}


class Mailbox:
    """What has arrived; ``refused`` addresses get nothing."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, bytes]] = []
        self.refused: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, to: str, options: Any) -> str:
        if to in self.refused:
            return "550 5.1.1 nobody of that name"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append((envelope, envelope.content))
        return "250 OK"

    def mail(self) -> EmailMessage:
        return message_from_bytes(self.got[0][1], EmailMessage, policy=policy.default)


def _may_enter(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> Any:
    from aiosmtpd.smtp import AuthResult

    return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    kept = Mailbox()
    server = aiosmtpd.Controller(
        kept,
        hostname="127.0.0.1",
        port=free_port(),
        auth_required=True,
        auth_require_tls=False,
        authenticator=_may_enter,
    )
    server.start()
    try:
        _connect(monkeypatch, server.port)
        yield kept
    finally:
        server.stop()


def _connect(monkeypatch: pytest.MonkeyPatch, port: int, **other: Any) -> None:
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "login": "airflow",
        "password": PASSWORD,
        "extra": {**PLAIN, "from_email": "airflow@example.com"},
        **other,
    }
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(connection))


def test_people_get_the_facts_and_the_links(mailbox: Mailbox, notice: Notice) -> None:
    EmailNotifier(conn_id="mail", to=["ana@example.com", "bo@example.com"]).send(notice)

    ((envelope, _),) = mailbox.got
    assert (envelope.mail_from, envelope.rcpt_tos) == (
        "airflow@example.com",
        ["ana@example.com", "bo@example.com"],
    )
    assert mailbox.mail()["Subject"] == "[mlretrain] flights v7 promoted (before: v6)"
    body = mailbox.mail().get_body()
    assert body is not None
    html = body.get_content()
    assert "0.71 &lt;b&gt;{{ ti.xcom_pull() }}&lt;/b&gt; &amp; more" in html
    assert "drift__2026-03-09?a=1&amp;b=2" in html
    assert '<a href="http://mlflow/#/models/flights/versions/7">Model version</a>' in html


def test_a_sender_of_its_own(mailbox: Mailbox, notice: Notice) -> None:
    EmailNotifier(conn_id="mail", to="ana@example.com", from_email="ml@example.com").send(notice)

    assert mailbox.got[0][0].mail_from == "ml@example.com"


def test_a_refused_address_is_a_matter_of_configuration(mailbox: Mailbox, notice: Notice) -> None:
    mailbox.refused.add("nobody@example.com")

    with pytest.raises(ConfigError, match="connection mail: the mail server refused the notice"):
        EmailNotifier(conn_id="mail", to="nobody@example.com").send(notice)

    assert mailbox.got == []


# Airflow's hook leaves its connection open when the login fails.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_password_is_not_told(
    mailbox: Mailbox, notice: Notice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = json.loads(os.environ["AIRFLOW_CONN_MAIL"])["port"]
    _connect(monkeypatch, port, password="wrong-secret")

    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError, match="found 535") as caught:
        EmailNotifier(conn_id="mail", to="ana@example.com").send(notice)

    assert "secret" not in f"{caught.value} {caplog.text}"
    del caught
    gc.collect()


def test_a_server_that_does_not_answer(notice: Notice, monkeypatch: pytest.MonkeyPatch) -> None:
    _connect(monkeypatch, free_port())

    with pytest.raises(TransientError, match=r"connection mail: .* could not be sent .*refused"):
        EmailNotifier(conn_id="mail", to="ana@example.com").send(notice)


def test_an_e_mail_needs_a_sender(notice: Notice, monkeypatch: pytest.MonkeyPatch) -> None:
    _connect(monkeypatch, 25, extra=PLAIN)

    with pytest.raises(ConfigError, match="an e-mail needs a sender"):
        EmailNotifier(conn_id="mail", to="ana@example.com").send(notice)


def test_without_the_package_it_says_what_to_install(notice: Notice, monkeypatch: pytest.MonkeyPatch) -> None:
    _connect(monkeypatch, 25)
    monkeypatch.setitem(sys.modules, "airflow.providers.smtp.notifications.smtp", None)

    with pytest.raises(MissingExtra, match=r"pip install 'airflow-provider-mlretrain\[smtp\]'"):
        EmailNotifier(conn_id="mail", to="ana@example.com").send(notice)


def test_a_subject_is_one_line() -> None:
    odd = Notice(event="failed", pipeline="flights\r\nBcc: eve@example.com", run_id="r")

    assert subject(odd) == "[mlretrain] flights Bcc: eve@example.com failed"
