"""Notices to Slack. The server is a stand-in that answers as Slack's API is documented to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from mlretrain.errors import ConfigError, MissingExtra, TransientError
from mlretrain_provider.notifications.base import Notice
from mlretrain_provider.notifications.slack import SlackNotifier
from tests.fakes.http_server import FakeHttpServer, fake_http_server

pytestmark = pytest.mark.airflow

TOKEN, HOOK = "xoxb-secret-token", "T0/B0/secret-hook"
GOOD = (200, '{"ok": true, "ts": "1"}')


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHttpServer]:
    with fake_http_server() as server:
        server.answers = [GOOD]
        api = {"conn_type": "slack", "password": TOKEN, "extra": {"base_url": f"{server.uri}/api/"}}
        hook = {"conn_type": "slackwebhook", "host": f"{server.uri}/services", "password": HOOK}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(api))
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(hook))
        yield server


def test_a_channel_gets_the_facts_and_the_links(slack: FakeHttpServer, notice: Notice) -> None:
    SlackNotifier(conn_id="api", channel="#ml").send(notice)

    (asked,) = slack.asked
    assert (asked.path, asked.authorization) == ("/api/chat.postMessage", f"Bearer {TOKEN}")
    body = json.loads(asked.body)
    assert body["channel"] == "#ml"
    assert body["text"].splitlines() == [
        "*flights v7 promoted (before: v6)*",
        "roc_auc 0.74 over 0.71 &lt;b&gt;{{ ti.xcom_pull() }}&lt;/b&gt; &amp; more",
        "<http://airflow/dags/flights.retrain/runs/drift__2026-03-09?a=1&amp;b=2|Airflow run>"
        " · <http://mlflow/#/models/flights/versions/7|Model version>",
    ]


def test_a_web_hook_needs_no_channel(slack: FakeHttpServer, notice: Notice) -> None:
    slack.answers = [(200, "ok")]

    SlackNotifier(conn_id="hook").send(notice)

    (asked,) = slack.asked
    assert asked.path == f"/services/{HOOK}"
    assert json.loads(asked.body)["text"].startswith("*flights v7 promoted")


def test_a_connection_may_have_a_channel(
    slack: FakeHttpServer, notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"base_url": f"{slack.uri}/api/", "channel": "#from-the-connection"}
    api = {"conn_type": "slack", "password": TOKEN, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(api))

    SlackNotifier(conn_id="api").send(notice)

    assert json.loads(slack.asked[0].body)["channel"] == "#from-the-connection"


def test_an_api_connection_needs_a_channel(slack: FakeHttpServer, notice: Notice) -> None:
    with pytest.raises(ConfigError, match="connection api: a Slack message needs a channel"):
        SlackNotifier(conn_id="api").send(notice)


@pytest.mark.parametrize(
    ("error", "kind"),
    [("channel_not_found", ConfigError), ("invalid_auth", ConfigError), ("ratelimited", TransientError)],
)
def test_what_slack_refuses_is_said(
    slack: FakeHttpServer, notice: Notice, error: str, kind: type[Exception]
) -> None:
    slack.answers = [(200, json.dumps({"ok": False, "error": error}))]

    with pytest.raises(kind, match=f"Slack refused the notice .found {error}"):
        SlackNotifier(conn_id="api", channel="#ml").send(notice)


@pytest.mark.parametrize("conn_id", ["api", "hook"])
@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_tells_no_secret(
    slack: FakeHttpServer, notice: Notice, conn_id: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    slack.answers = [(status, '{"ok": false, "error": "no_service"}')]

    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError, match="Slack refused") as caught:
        SlackNotifier(conn_id=conn_id, channel="#ml").send(notice)

    told = f"{caught.value} {caplog.text}"
    assert "secret" not in told


@pytest.mark.parametrize("conn_id", ["api", "hook"])
def test_a_slack_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, notice: Notice, conn_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_http_server() as gone:
        api = {"conn_type": "slack", "password": TOKEN, "extra": {"base_url": f"{gone.uri}/api/"}}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(api))
        hook = {"conn_type": "slackwebhook", "host": gone.uri, "password": HOOK}
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(hook))

    with caplog.at_level(logging.DEBUG), pytest.raises(TransientError, match="Slack does not answer") as it:
        SlackNotifier(conn_id=conn_id, channel="#ml").send(notice)

    assert "secret" not in f"{it.value} {caplog.text}"


def test_without_the_package_it_says_what_to_install(
    slack: FakeHttpServer, notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("slack", "slack_webhook"):
        monkeypatch.setitem(sys.modules, f"airflow.providers.slack.notifications.{name}", None)
    monkeypatch.setitem(sys.modules, "airflow.providers.slack.notifications", None)

    with pytest.raises(MissingExtra, match=r"pip install 'airflow-provider-mlretrain\[slack\]'"):
        SlackNotifier(conn_id="hook").send(notice)


def test_a_missing_connection_says_how_to_make_it(notice: Notice) -> None:
    with pytest.raises(ConfigError, match="airflow connections add nowhere --conn-type slack"):
        SlackNotifier(conn_id="nowhere").send(notice)
