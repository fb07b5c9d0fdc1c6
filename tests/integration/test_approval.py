"""A person's answer in a real Airflow: servers, scheduler, users with passwords, and MLflow's registry."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.services import ServiceError, Services, call
from mlretrain.ledger import Ledger, LedgerEvent
from mlretrain.runtime.store import open_store
from tests.integration.machine_room import until

DAGS = Path(__file__).with_name("asked_dags.py")
PASSWORDS = {"admin": "all-of-it", "alice": "in-wonderland", "bob": "the-builder", "mallory": "in-the-middle"}
ROLES = {"admin": "admin", "alice": "user", "bob": "user", "mallory": "user"}
WAIT_S = 180.0
READING_S = 3.0
POLICY = """\
version: 1
policy: two-eyes
applies_to: {pipelines: ["never-*"]}
require:
  approval: {required: always, assignees: [alice]}
"""


class Office:
    """The people who are asked, and what became of what they were asked."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.tokens = {name: self._login(name) for name in PASSWORDS}
        services._token = self.tokens["admin"]

    def _login(self, name: str) -> str:
        body = {"username": name, "password": PASSWORDS[name]}
        return str(call(f"{self.services.airflow_url}/auth/token", body)["access_token"])

    def retrain(self, pipeline: str, run_id: str, **conf: Any) -> None:
        self.services.trigger(f"{pipeline}.retrain", run_id, conf)

    def form(self, pipeline: str, run_id: str) -> dict[str, Any]:
        """The form, once the task waits for somebody to fill it in, and a person could have read it.

        Airflow 3.3 fails a task that is answered before its scheduler has seen that it waits:
        https://github.com/apache/airflow/issues/71580
        """
        until(lambda: self.state(pipeline, run_id) == "awaiting_input", WAIT_S)
        time.sleep(READING_S)
        return dict(self.services.api(f"{self._task(pipeline, run_id)}/-1/hitlDetails"))

    def answer(self, who: str, pipeline: str, run_id: str, chosen: str, reason: str | None = None) -> Any:
        """Answer as Airflow's own page does; raises :class:`ServiceError` with the status."""
        url = f"{self.services.airflow_url}/api/v2/{self._task(pipeline, run_id)}/-1/hitlDetails"
        body = {"chosen_options": [chosen], "params_input": {"reason": reason}}
        return call(url, body, method="PATCH", headers={"Authorization": f"Bearer {self.tokens[who]}"})

    def mark(self, pipeline: str, run_id: str, task: str, state: str) -> None:
        """Set a task's state by hand."""
        path = f"dags/{pipeline}.retrain/dagRuns/{run_id}/taskInstances/{task}"
        self.services.api(path, {"new_state": state}, method="PATCH")

    def clear(self, pipeline: str, run_id: str, *tasks: str) -> None:
        """Clear tasks and all that comes after them."""
        asked = {
            "dag_run_id": run_id,
            "task_ids": list(tasks),
            "dry_run": False,
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
        }
        self.services.api(f"dags/{pipeline}.retrain/clearTaskInstances", asked)

    def state(self, pipeline: str, run_id: str, task: str = "approve") -> str | None:
        return self.services.task_states(f"{pipeline}.retrain", run_id).get(task)

    def ended(self, pipeline: str, run_id: str) -> dict[str, Any]:
        """How the run ended, by its last task, with Airflow's states."""
        dag_id = f"{pipeline}.retrain"
        state = self.services.wait(dag_id, run_id, WAIT_S)
        told = self.services.xcom(dag_id, run_id, "record") or {}
        return {"state": state, "tasks": self.services.task_states(dag_id, run_id), **told}

    def answers(self, pipeline: str, run_id: str) -> list[LedgerEvent]:
        return list(self.ledger(pipeline).of_run(run_id, "approved", "rejected"))

    def ledger(self, pipeline: str) -> Ledger:
        return Ledger(open_store(f"file://{self.services.home}/artifacts"), pipeline)

    def champion(self, pipeline: str) -> str | None:
        found = call(f"{self.services.mlflow_url}/api/2.0/mlflow/registered-models/get?name={pipeline}")
        aliases = found["registered_model"].get("aliases", [])
        return next((each["version"] for each in aliases if each["alias"] == "champion"), None)

    def log(self, pipeline: str, run_id: str, task: str, attempt: int = 1) -> str:
        return json.dumps(self.services.api(f"{self._task(pipeline, run_id, task)}/logs/{attempt}"))

    def _task(self, pipeline: str, run_id: str, task: str = "approve") -> str:
        return f"dags/{pipeline}.retrain/dagRuns/{run_id}/taskInstances/{task}"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    home = tmp_path_factory.mktemp("office")
    (home / "dags").mkdir()
    shutil.copy(DAGS, home / "dags")
    (home / "policies").mkdir()
    (home / "policies" / "two-eyes.yaml").write_text(POLICY)
    (home / "passwords.json").write_text(json.dumps(PASSWORDS))
    settings = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{role}" for name, role in ROLES.items()
        ),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__MLRETRAIN__POLICIES": str(home / "policies"),
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
    }
    with Services(home=home, dags=home / "dags", settings=settings) as services:
        people = Office(services)
        services.wait_for_dags("asked.retrain", "never-asked.retrain")
        yield people


def test_an_assignee_approves_and_only_once(office: Office) -> None:
    office.retrain("asked", "first", reason="dep_delay PSI 0.31 in 2 of 3 windows")
    form = office.form("asked", "first")
    assert form["subject"] == "Promote asked version 1?"
    assert [user["id"] for user in form["assigned_users"]] == ["alice", "bob"]
    assert "dep_delay PSI 0.31" in form["body"]
    assert "| check |" in form["body"]
    with pytest.raises(ServiceError, match=r"403.*not a respondent"):
        office.answer("mallory", "asked", "first", "Approve")
    with pytest.raises(ServiceError, match="400"):
        office.answer("alice", "asked", "first", "Perhaps")
    office.answer("alice", "asked", "first", "Approve", "UA is fine again")
    with pytest.raises(ServiceError, match="409"):
        office.answer("bob", "asked", "first", "Reject", "no!")
    ended = office.ended("asked", "first")
    assert (ended["state"], ended["outcome"]) == ("success", "promoted")
    assert office.champion("asked") == "1"
    (answer,) = office.answers("asked", "first")
    assert (answer.kind, answer.by, answer.reason) == ("approved", "alice", "UA is fine again")

    office.clear("asked", "first", "approve")
    again = office.ended("asked", "first")
    assert (again["tasks"]["approve"], again["outcome"]) == ("success", "promoted")
    assert office.answers("asked", "first") == [answer]


def test_a_rejection_ends_the_run_as_rejected(office: Office) -> None:
    office.retrain("asked", "no")
    office.form("asked", "no")
    before = office.champion("asked")
    office.answer("bob", "asked", "no", "Reject", "not on a Friday")
    ended = office.ended("asked", "no")
    assert (ended["state"], ended["outcome"]) == ("success", "rejected")
    assert ended["tasks"]["promote"] == "skipped"
    assert office.champion("asked") == before
    (answer,) = office.answers("asked", "no")
    assert (answer.kind, answer.by, answer.reason) == ("rejected", "bob", "not on a Friday")


@pytest.mark.parametrize(
    ("pipeline", "kind", "champion"), [("late-reject", "rejected", None), ("late-approve", "approved", "1")]
)
def test_when_nobody_answers_the_policy_decides(
    office: Office, pipeline: str, kind: str, champion: str | None
) -> None:
    office.retrain(pipeline, "late")
    ended = office.ended(pipeline, "late")
    assert (ended["state"], ended["outcome"]) == ("success", "promoted" if champion else "rejected")
    (answer,) = office.answers(pipeline, "late")
    assert (answer.kind, answer.by) == (kind, "timeout")
    assert answer.reason == f"nobody answered in 3 seconds; on_timeout: {pipeline.removeprefix('late-')}"
    assert office.champion(pipeline) == champion


def test_an_answer_without_the_reason_that_is_required_is_asked_for_again(office: Office) -> None:
    office.retrain("reasoned", "terse")
    office.form("reasoned", "terse")
    office.answer("alice", "reasoned", "terse", "Approve")
    ended = office.ended("reasoned", "terse")
    assert (ended["state"], ended["tasks"]["approve"]) == ("failed", "failed")
    assert "the answer has no reason" in office.log("reasoned", "terse", "approve")
    assert office.champion("reasoned") is None

    office.clear("reasoned", "terse", "approve")
    assert office.form("reasoned", "terse")["response_received"] is False
    office.answer("alice", "reasoned", "terse", "Approve", "the slices hold")
    assert office.ended("reasoned", "terse")["outcome"] == "promoted"


def test_marking_the_approval_as_success_promotes_nothing(office: Office) -> None:
    office.retrain("if-worse", "champion")
    assert office.ended("if-worse", "champion")["outcome"] == "promoted"
    office.retrain("if-worse", "worse", auc=0.72)
    form = office.form("if-worse", "worse")
    assert "roc_auc is 0.72, the champion's 0.73" in form["body"]
    office.mark("if-worse", "worse", "approve", "success")
    ended = office.ended("if-worse", "worse")
    assert (ended["state"], ended["tasks"]["promote"]) == ("failed", "failed")
    assert "task approve demands approval" in office.log("if-worse", "worse", "promote")
    assert office.champion("if-worse") == "1"
    assert office.answers("if-worse", "worse") == []

    office.clear("if-worse", "worse", "approve")
    office.form("if-worse", "worse")
    office.answer("bob", "if-worse", "worse", "Approve", "worse, but fresher")
    assert office.ended("if-worse", "worse")["outcome"] == "promoted"


def test_a_dag_that_asks_nobody_does_not_get_round_the_policy(office: Office) -> None:
    office.retrain("never-asked", "sly")
    ended = office.ended("never-asked", "sly")
    assert (ended["state"], ended["tasks"]["promote"]) == ("failed", "failed")
    log = office.log("never-asked", "sly", "promote")
    assert "two-eyes demands approval, `required: always`, there is no approval" in log
    assert office.champion("never-asked") is None


def test_an_approval_that_comes_too_late_promotes_nothing(office: Office) -> None:
    office.retrain("asked", "old")
    office.form("asked", "old")
    office.retrain("asked", "new")
    office.form("asked", "new")
    office.answer("alice", "asked", "new", "Approve", "newer data")
    assert office.ended("asked", "new")["outcome"] == "promoted"
    newer = office.champion("asked")
    office.answer("bob", "asked", "old", "Approve", "did not see the other one")
    ended = office.ended("asked", "old")
    assert (ended["state"], ended["tasks"]["promote"]) == ("failed", "failed")
    assert "the champion has changed" in office.log("asked", "old", "promote")
    assert office.champion("asked") == newer


def test_nobody_is_shown_the_evidence_of_before(office: Office) -> None:
    office.retrain("asked", "early")
    office.form("asked", "early")
    office.retrain("asked", "between")
    office.form("asked", "between")
    office.answer("alice", "asked", "between", "Approve", "better")
    assert office.ended("asked", "between")["outcome"] == "promoted"
    office.clear("asked", "early", "candidate")
    ended = office.ended("asked", "early")
    assert (ended["state"], ended["tasks"]["approve"]) == ("failed", "failed")
    assert "Airflow shows people the evidence of before" in office.log("asked", "early", "approve", 2)
