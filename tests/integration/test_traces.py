"""What a champion leaves behind on a real Airflow: asset events, lineage, and messages to people.

Slack and the web hook are stand-ins in this process; the mail server is a real one, where ``aiosmtpd`` is
installed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from demo.flights import lay_out
from demo.services import Services
from tests.fakes.http_server import FakeHttpServer, fake_http_server
from tests.free_port import free_port
from tests.integration.machine_room import EXAMPLES, FIRST_END, until

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.timeout(900)]

pytest.importorskip("airflow.providers.openlineage")

SECRETS = {"slack": "xoxb-slack-secret", "hook": "T0/hook-secret"}
WAIT_S = 240.0
DAGS = '''\
"""The pipeline ``traces``, one that nothing passes, its roll-back, and a scoring DAG behind it."""

import os

from airflow.sdk import DAG, task

from mlretrain_provider.assets import champion_asset
from mlretrain_provider.notifications.email import EmailNotifier
from mlretrain_provider.notifications.slack import SlackNotifier
from mlretrain_provider.notifications.webhook import WebhookNotifier
from mlretrain_provider.operators.data import ResolveDataOperator, ValidateDataOperator
from mlretrain_provider.operators.deployment import DeployModelOperator, RollBackModelOperator
from mlretrain_provider.operators.record import RecordRunOperator
from mlretrain_provider.operators.registry import (
    PromoteModelOperator,
    PromotionGateOperator,
    RegisterModelOperator,
)
from mlretrain_provider.operators.training import EvaluateModelOperator, TrainModelOperator

HOME = os.environ["MLRETRAIN_HOME"]
SERVING = {"target": "local", "conn_id": "model_server"}
COMMON = {"pipeline": "traces", "artifacts_uri": f"file://{HOME}/artifacts", "retries": 0}
PEOPLE = [
    SlackNotifier(conn_id="slack", channel="#ml"),
    WebhookNotifier(conn_id="hook"),
    EmailNotifier(conn_id="mail", to=["ana@example.com"]),
]


def retrain(dag_id, least):
    with DAG(dag_id, schedule=None, default_args=COMMON):
        data = ResolveDataOperator(
            task_id="resolve_data", uri=f"file://{HOME}/data/flights/*.parquet", time_column="sched_dep_time"
        )
        validation = ValidateDataOperator(
            task_id="validate_data",
            dataset=data.output,
            expectations=[{"type": "expect_column_values_to_not_be_null", "column": "carrier"}],
        )
        training = TrainModelOperator(
            task_id="train",
            dataset=data.output,
            entrypoint="flights.train:train",
            hyperparameters={"max_iter": 10},
            target="late",
            features={"exclude": ["flight_id"]},
            time_column="sched_dep_time",
            prediction_method="predict_proba",
        )
        evaluation = EvaluateModelOperator(
            task_id="evaluate", training=training.output, target="late", metrics=["roc_auc"]
        )
        version = RegisterModelOperator(
            task_id="register", training=training.output, evaluation=evaluation.output
        )
        verdict = PromotionGateOperator(
            task_id="promotion_gate",
            evaluation=evaluation.output,
            gates=[{"metric": "roc_auc", "min": least}],
        )
        shift = DeployModelOperator(task_id="shift", version=version.output, weight=50, serving=SERVING)
        promote = PromoteModelOperator(task_id="promote", version=version.output, serving=SERVING)
        record = RecordRunOperator(task_id="record", serving=SERVING, on_success_callback=PEOPLE)
        validation >> training
        version >> verdict >> shift >> promote >> record


retrain("traces.retrain", least=0.5)
retrain("traces.strict", least=0.999)

with DAG("traces.rollback", schedule=None, default_args=COMMON):
    RollBackModelOperator(
        task_id="roll_back", to="previous", reason="complaints", serving=SERVING
    ) >> RecordRunOperator(task_id="record", kind="rollback", serving=SERVING, on_success_callback=PEOPLE)

with DAG("traces.scoring", schedule=[champion_asset("traces")]):

    @task(inlets=[champion_asset("traces")])
    def score(triggering_asset_events=None):
        (event,) = triggering_asset_events[champion_asset("traces")]
        return event.extra

    score()
'''


@dataclass
class Mailbox:
    """The mails that have arrived."""

    got: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append(envelope.content)
        return "250 OK"

    def subjects(self) -> list[str]:
        return [message_from_bytes(each, policy=policy.default)["Subject"] for each in self.got]


@dataclass(kw_only=True)
class Office:
    """Airflow and all that it tells."""

    services: Services
    slack: FakeHttpServer
    hook: FakeHttpServer
    mailbox: Mailbox | None

    @property
    def lineage(self) -> list[dict[str, Any]]:
        lines = (self.services.home / "lineage.json").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def run(self, dag_id: str, run_id: str, **conf: Any) -> dict[str, Any]:
        self.services.trigger(dag_id, run_id, conf)
        return self.outcome(dag_id, run_id)

    def outcome(self, dag_id: str, run_id: str) -> dict[str, Any]:
        state = self.services.wait(dag_id, run_id, WAIT_S)
        assert state == "success", self.services.task_states(dag_id, run_id)
        return dict(self.services.xcom(dag_id, run_id, "record") or {})

    def clear(self, dag_id: str, run_id: str, *tasks: str) -> None:
        asked = {"dag_run_id": run_id, "task_ids": list(tasks), "dry_run": False, "only_failed": False}
        self.services.api(f"dags/{dag_id}/clearTaskInstances", {**asked, "reset_dag_runs": True})
        self.outcome(dag_id, run_id)

    def scored(self, count: int) -> list[dict[str, Any]]:
        """What each run of the scoring DAG was told, once there are so many."""

        def told() -> list[dict[str, Any]] | None:
            runs = list(self.services.runs("traces.scoring"))
            found = [self.services.xcom("traces.scoring", run["dag_run_id"], "score") for run in runs]
            return found if len(found) >= count and all(found) else None

        return list(until(told, WAIT_S))


@contextmanager
def _mail_server(mailbox: Mailbox) -> Iterator[int]:
    controller = pytest.importorskip("aiosmtpd.controller")
    server = controller.Controller(mailbox, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def _connections(slack: FakeHttpServer, hook: FakeHttpServer, mail_port: int) -> Mapping[str, str]:
    mail = {"from_email": "airflow@example.com", "disable_tls": True, "disable_ssl": True, "retry_limit": 0}
    made = {
        "SLACK": {
            "conn_type": "slack",
            "password": SECRETS["slack"],
            "extra": {"base_url": f"{slack.uri}/api/"},
        },
        "HOOK": {"conn_type": "http", "host": hook.uri, "password": SECRETS["hook"]},
        "MAIL": {"conn_type": "smtp", "host": "127.0.0.1", "port": mail_port, "extra": mail},
    }
    return {f"AIRFLOW_CONN_{name}": json.dumps(connection) for name, connection in made.items()}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    home = tmp_path_factory.mktemp("traces")
    (home / "dags").mkdir()
    (home / "dags" / "traces.py").write_text(DAGS)
    shutil.copytree(EXAMPLES / "flights", home / "dags" / "flights")
    lay_out(home / "data" / "flights", every=20)
    mailbox = Mailbox()
    with ExitStack() as stack:
        slack, hook = (stack.enter_context(fake_http_server()) for _ in range(2))
        slack.answers = [(200, '{"ok": true}')]
        port = stack.enter_context(_mail_server(mailbox))
        transport = {"type": "file", "log_file_path": str(home / "lineage.json"), "append": True}
        settings = {
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "test",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            **_connections(slack, hook, port),
        }
        services = stack.enter_context(Services(home=home, dags=home / "dags", settings=settings))
        services.wait_for_dags("traces.retrain", "traces.strict", "traces.rollback", "traces.scoring")
        yield Office(services=services, slack=slack, hook=hook, mailbox=mailbox)


def test_scoring_starts_on_each_change_of_champion_and_only_then(office: Office) -> None:
    first = office.run("traces.retrain", "first", window_end=FIRST_END, reason="the first")
    assert (first["outcome"], first["version"]) == ("promoted", "1")
    (told,) = office.scored(1)
    assert (told["version"], told["previous"], told["run"]) == ("1", None, "first")
    assert len(told["digest"]) == 64
    assert office.run("traces.strict", "rejected", window_end=FIRST_END)["outcome"] == "rejected"
    later = {"window_end": "2013-06-01T04:00:00+00:00", "reason": "drift"}
    assert office.run("traces.retrain", "second", **later)["outcome"] == "promoted"
    office.scored(2)
    office.clear("traces.retrain", "second", "promote", "record")
    office.run("traces.rollback", "back")

    assert [(each["run"], each["version"], each["previous"]) for each in office.scored(3)] == [
        ("first", "1", None),
        ("second", "3", "1"),
        ("back", "1", "3"),
    ]


def test_the_lineage_of_a_champion_is_one_chain(office: Office) -> None:
    of = ("traces.retrain.", "traces.scoring.")
    made = {
        event["job"]["name"].split(".")[2]: event
        for event in office.lineage
        if event["eventType"] == "COMPLETE" and event["job"]["name"].startswith(of)
    }
    chain = ["resolve_data", "train", "evaluate", "register", "promote", "score"]
    for each in chain:
        print(each, *sorted(places(made[each], "inputs")), "->", *sorted(places(made[each], "outputs")))

    for made_by, read_by in pairwise(chain):
        assert places(made[made_by], "outputs") & places(made[read_by], "inputs"), (made_by, read_by)
    assert places(made["register"], "outputs") & places(made["shift"], "inputs")
    assert ("x-mlretrain://traces", "champion") in places(made["promote"], "outputs")
    (deployed,) = made["shift"]["outputs"]
    assert (deployed["namespace"], deployed["name"]) == ("x-mlretrain://traces", "deployment")
    assert deployed["facets"]["mlretrain"]["weights"] == {"1": 50, "3": 50}
    (snapshot,) = made["resolve_data"]["outputs"]
    (read,) = made["train"]["inputs"]
    assert snapshot["facets"]["version"]["datasetVersion"] == read["facets"]["version"]["datasetVersion"]


def places(event: Mapping[str, Any], side: str) -> set[tuple[str, str]]:
    return {(each["namespace"], each["name"]) for each in event[side]}


def test_people_are_told_how_each_run_ended(office: Office) -> None:
    # Callbacks run when Airflow has been told that the task is over; the mail comes last.
    until(lambda: office.mailbox is not None and len(office.mailbox.got) == 5)
    texts = [json.loads(asked.body)["text"] for asked in office.slack.asked]
    told = [json.loads(asked.body) for asked in office.hook.asked]

    assert [each["event"] for each in told] == ["promoted", "rejected", "promoted", "promoted", "rolled_back"]
    assert (told[-1]["version"], told[-1]["previous"], told[-1]["reason"]) == ("1", "3", "complaints")
    assert told[0]["url"] == f"{office.services.airflow_url}/dags/traces.retrain/runs/first"
    assert told[0]["model_url"].startswith(f"{office.services.mlflow_url}/#/models/traces/versions/1")
    assert texts[-1].splitlines()[:2] == ["*traces v1 rolled back (before: v3)*", "complaints"]
    assert office.mailbox is not None
    assert office.mailbox.subjects()[-1] == "[mlretrain] traces v1 rolled back (before: v3)"


def test_no_log_holds_a_secret(office: Office) -> None:
    logs = [path for path in Path(office.services.home).rglob("*.log") if path.is_file()]
    assert logs

    found = [
        (path.name, name)
        for path in logs
        for name, secret in SECRETS.items()
        if secret in path.read_text(errors="replace")
    ]
    assert found == []
