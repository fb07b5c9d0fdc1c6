"""Notifiers: what is told, when, and where."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog.testing
from airflow.sdk import DAG, BaseOperator

from mlretrain.errors import ConfigError
from mlretrain_provider.notifications.base import MlretrainNotifier, Notice
from mlretrain_provider.notifications.log import LogNotifier
from mlretrain_provider.notifications.webhook import WebhookNotifier
from tests.fakes.http_server import fake_http_server

pytestmark = pytest.mark.airflow

PROMOTED = {"outcome": "promoted", "event": "promoted", "reason": "roc_auc 0.74 over 0.71", "version": "7"}

RUN = {"dag_id": "flights.retrain", "run_id": "drift__2026-03-09"}


class Remembering(MlretrainNotifier):
    """Keeps what it is told."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.told: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.told.append(notice)


class Task:
    """A task instance with a result."""

    task_id = "record"
    dag_id = "flights.retrain"
    log_url = "http://airflow/log"

    def __init__(self, result: Any) -> None:
        self.result = result
        with DAG(self.dag_id):
            self.task = BaseOperator(task_id=self.task_id)

    def xcom_pull(self, *, task_ids: str) -> Any:
        return self.result


def context(result: Any = None, **extra: Any) -> Any:
    return {"ti": Task(result), "dag_run": RUN, **extra}


def test_one_line_says_it_all() -> None:
    notifier = Remembering()

    notifier(context(PROMOTED))

    (notice,) = notifier.told
    assert notice.text == "flights v7 promoted: roc_auc 0.74 over 0.71 (http://airflow/log)"
    assert (notice.run_id, notice.pipeline) == ("drift__2026-03-09", "flights")


@pytest.mark.parametrize(("on", "told"), [((), 1), (("promoted", "failed"), 1), (("failed",), 0)])
def test_only_chosen_events_are_told(on: tuple[str, ...], told: int) -> None:
    notifier = Remembering(on=on)

    notifier(context(PROMOTED))

    assert len(notifier.told) == told


@pytest.mark.parametrize(
    ("given", "event", "reason"),
    [
        (context(exception=ValueError("no rows")), "failed", "no rows"),
        (context(PROMOTED, exception=ValueError("no rows")), "failed", "no rows"),
        (
            {"run_id": "r", "reason": "task_failure", "dag_run": {"dag_id": "flights.retrain"}},
            "failed",
            "task_failure",
        ),
        ({"deadline": {"id": 1}, "dag_run": {"dag_id": "flights.retrain", "run_id": "r"}}, "late", ""),
    ],
)
def test_failures_and_deadlines_are_events_too(given: Any, event: str, reason: str) -> None:
    notice = Notice.of(given)

    assert notice is not None
    assert (notice.event, notice.reason, notice.pipeline) == (event, reason, "flights")


@pytest.mark.parametrize("result", [None, "text", {"version": "7"}])
def test_what_has_no_name_is_not_told(result: Any) -> None:
    notifier = Remembering()

    notifier(context(result))

    assert notifier.told == []


def test_the_triggerer_can_tell_too() -> None:
    notifier = Remembering()

    asyncio.run(notifier.async_notify(context(PROMOTED)))

    assert len(notifier.told) == 1


def test_the_log() -> None:
    with structlog.testing.capture_logs() as logs:
        LogNotifier(on=("promoted",))(context(PROMOTED))

    assert "flights v7 promoted" in str(logs)


def test_a_web_hook_gets_text_and_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_http_server() as server:
        connection = {"conn_type": "http", "host": f"{server.uri}/services", "password": "T0/secret"}
        monkeypatch.setenv("AIRFLOW_CONN_ALERTS", json.dumps(connection))
        WebhookNotifier(conn_id="alerts")(context(PROMOTED))

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/services/T0/secret")
    body = json.loads(asked.body)
    assert body["text"].startswith("flights v7 promoted")
    assert (body["event"], body["version"]) == ("promoted", "7")


@pytest.mark.parametrize("status", [404, 500])
def test_a_web_hook_that_refuses_tells_no_secret(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with fake_http_server() as server:
        server.answers = [(status, "no")]
        connection = {"conn_type": "http", "host": server.uri, "password": "secret"}
        monkeypatch.setenv("AIRFLOW_CONN_ALERTS", json.dumps(connection))

        with pytest.raises(ConfigError, match=f"connection alerts: .*HTTP {status}") as caught:
            WebhookNotifier(conn_id="alerts")(context(PROMOTED))

    assert "secret" not in str(caught.value)


def test_a_missing_connection_says_how_to_make_it() -> None:
    with pytest.raises(ConfigError, match="airflow connections add nowhere --conn-type http"):
        WebhookNotifier(conn_id="nowhere")(context(PROMOTED))
