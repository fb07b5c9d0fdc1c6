"""Notifiers: what is told, when, and where."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import pytest
import structlog.testing
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG

from mlretrain.errors import ConfigError, TransientError
from mlretrain_provider.notifications.base import MlretrainNotifier, Notice
from mlretrain_provider.notifications.log import LogNotifier
from mlretrain_provider.notifications.webhook import WebhookNotifier
from tests.fakes.airflow_harness import DagRunHarness
from tests.fakes.http_server import fake_http_server
from tests.unit.provider.notifications.conftest import PROMOTED, context

pytestmark = pytest.mark.airflow


class Remembering(MlretrainNotifier):
    """Keeps what it is told."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.told: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.told.append(notice)


def test_one_line_says_it_all() -> None:
    notifier = Remembering()

    notifier(context(PROMOTED))

    (notice,) = notifier.told
    page = "http://airflow/dags/flights.retrain/runs/drift__2026-03-09"
    assert notice.text == f"flights v7 promoted: roc_auc 0.74 over 0.71 ({page})"
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


def test_who_was_champion_before_is_told() -> None:
    notice = Notice.of(context({**PROMOTED, "previous": "6"}))

    assert notice is not None
    assert notice.title == "flights v7 promoted (before: v6)"


def test_the_model_version_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    told = context(PROMOTED)
    told["ti"].task.mlflow_conn_id = "mlflow"
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW", "mlflow://mlflow.example.com:5000")

    notice = Notice.of(told)

    assert notice is not None
    assert str(notice.links["Model version"]).startswith(
        "http://mlflow.example.com:5000/#/models/flights/versions/7"
    )
    assert notice.links["Airflow run"].endswith("/runs/drift__2026-03-09")


def test_an_unknown_mlflow_takes_only_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    told = context(PROMOTED)
    told["ti"].task.mlflow_conn_id = "nowhere"

    notice = Notice.of(told)

    assert notice is not None
    assert list(notice.links) == ["Airflow run"]


class Approval(ApprovalOperator):
    """An approval of version 7."""

    pipeline = "flights"
    version: ClassVar[dict[str, str]] = {"version": "7"}


def asked(notifier: MlretrainNotifier) -> str:
    """The state of an approval task that tells ``notifier``."""
    with DAG("flights.retrain") as dag:
        Approval(task_id="approve", subject="Promote version {{ 6 + 1 }}?", notifiers=notifier)
    return DagRunHarness(dag).run("approve").state


@pytest.mark.parametrize(
    ("base_url", "page"),
    [
        (
            "http://airflow.example.com",
            "http://airflow.example.com/dags/flights.retrain/runs/run-1/tasks/approve/required_actions?map_index=-1",
        ),
        (None, "http://localhost:8080/dags/flights.retrain/runs/run-1/tasks/approve?try_number=1"),
    ],
)
def test_an_approval_says_that_it_waits_and_where_to_answer(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, page: str
) -> None:
    if base_url:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    notifier = Remembering(on=("approval_needed",))

    assert asked(notifier) == "awaiting_input"

    (notice,) = notifier.told
    assert (notice.event, notice.version, notice.reason) == ("approval_needed", "7", "Promote version 7?")
    assert notice.links == {"Answer": page}
    assert notice.text == f"flights v7 approval needed: Promote version 7? ({page})"


class Unheard(MlretrainNotifier):
    """Never gets through."""

    def send(self, notice: Notice) -> None:
        raise TransientError("no answer")


def test_an_approval_waits_though_nobody_can_be_told() -> None:
    assert asked(Unheard()) == "awaiting_input"

    with pytest.raises(TransientError):
        Unheard()(context(PROMOTED))
