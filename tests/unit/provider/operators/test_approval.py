"""A person's answer: who is asked and when, what counts as an answer, and that the first one stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from mlretrain.conduct import judged
from mlretrain.errors import InvalidInput
from mlretrain.ledger import LedgerEvent
from mlretrain_provider.answers import APPROVE, REJECT
from mlretrain_provider.operators.approval import ApprovePromotionOperator
from tests.fakes.airflow_harness import RUN_AFTER, DagRunHarness, Outcome

EVIDENCE = "| check | observed |\n| --- | --- |\n| roc\\_auc | 0.8 |\n"
ANSWERED_AT = datetime(2026, 3, 9, 7, tzinfo=UTC)


class NothingOperator(BaseOperator):
    def execute(self, context: Any) -> None:
        return None


class Case:
    """A run whose candidate was judged, up to the approval."""

    def __init__(
        self,
        world: Any,
        *,
        verdict: str = "promote",
        champion: str | None = "7",
        worse: list[str] | None = None,
        conf: dict[str, Any] | None = None,
        **approval: Any,
    ) -> None:
        self.world = world
        gate = {"outcome": verdict, "champion_version": champion, "worse": worse or []}
        self.append(
            "gated", version="8", previous=champion, outcome=verdict, reason="all hold", evidence=gate
        )
        dag: DAG = world.dag()
        with dag:
            approve = ApprovePromotionOperator(
                task_id="approve", gate={**gate, "evidence_md": EVIDENCE}, **approval
            )
            shift = NothingOperator(task_id="shift")
            promote = NothingOperator(task_id="promote")
            record = NothingOperator(task_id="record", trigger_rule="all_done")
            approve >> shift >> promote >> record
        self.run = DagRunHarness(dag, conf=conf)

    def append(self, kind: Any, run_id: str = "run-1", **fields: Any) -> LedgerEvent:
        event = LedgerEvent(
            pipeline="churn", run_id=run_id, kind=kind, at=RUN_AFTER, window_end=RUN_AFTER, **fields
        )
        found: LedgerEvent = self.world.ledger.append(event).link.event
        return found

    def ask(self) -> Outcome:
        return self.run.run("approve")

    def answer(self, waiting: Outcome, *chosen: str, by: str | None = "alice", **more: Any) -> Outcome:
        event = {
            "chosen_options": list(chosen),
            "params_input": more.pop("said", None) or {},
            "responded_at": ANSWERED_AT,
            "responded_by_user": {"id": by, "name": by.title()} if by else None,
            "timedout": False,
            **more,
        }
        return self.run.resume(waiting, "approve", event)

    @property
    def form(self) -> Any:
        return next(each for each in self.run.supervisor.sent if hasattr(each, "assigned_users"))

    @property
    def answers(self) -> tuple[LedgerEvent, ...]:
        found: tuple[LedgerEvent, ...] = self.world.ledger.of_run("run-1", "approved", "rejected")
        return found


def test_the_form_shows_the_evidence_to_the_assignees(world: Any) -> None:
    conf = {"reason": "dep_delay drifted in 2 of 3 windows"}
    case = Case(world, assignees=["alice", "bob"], conf=conf)
    waiting = case.ask()
    assert waiting.state == "awaiting_input"
    assert waiting.message.timeout.total_seconds() == 86400
    form = case.form
    assert form.subject == "Promote churn version 8?"
    assert form.options == [APPROVE, REJECT]
    assert form.defaults == [REJECT]
    assert [user.id for user in form.assigned_users] == ["alice", "bob"]
    assert form.params["reason"]["value"] is None
    assert form.body == (
        "**churn version 8** would replace version 7.\n"
        "\n"
        "- **Why you are asked:** every promotion is to be approved\n"
        "- **Why it was trained:** dep_delay drifted in 2 of 3 windows\n"
        "- **The gates say:** all hold\n"
        "\n"
        f"{EVIDENCE}"
        "\n"
        "[The version in MLflow](http://mlflow/models/churn/versions/8)\n"
        "\n"
        "If nobody answers within 1 day, it is rejected.\n"
    )


@pytest.mark.parametrize(
    ("required", "case", "asked"),
    [
        ("never", {}, False),
        ("always", {}, True),
        ("first", {}, False),
        ("first", {"champion": None}, True),
        ("when_worse", {}, False),
        ("when_worse", {"worse": ["roc_auc is 0.7, the champion's 0.8"]}, True),
    ],
)
def test_a_person_is_asked_when_it_is_required(
    world: Any, required: str, case: dict[str, Any], asked: bool
) -> None:
    outcome = Case(world, required=required, **case).ask()
    assert outcome.state == ("awaiting_input" if asked else "success")
    if not asked:
        assert outcome.result == {"outcome": "not_needed", "version": "8", "by": "", "reason": ""}
        assert outcome.skipped == []


def test_an_approval_goes_on_and_is_recorded(world: Any) -> None:
    case = Case(world, assignees=["alice"])
    done = case.answer(case.ask(), APPROVE, said={"reason": " looked at UA "})
    assert done.state == "success"
    assert done.result == {"outcome": "approved", "version": "8", "by": "alice", "reason": "looked at UA"}
    assert done.skipped == []
    (event,) = case.answers
    assert (event.kind, event.version, event.previous) == ("approved", "8", "7")
    assert (event.by, event.reason) == ("alice", "looked at UA")
    (gated,) = world.ledger.of_run("run-1", "gated")
    assert event.evidence == {
        "judged": judged(gated),
        "asked": ["alice"],
        "why": "every promotion is to be approved",
        "answered_at": "2026-03-09T07:00:00+00:00",
        "timed_out": False,
    }


def test_a_rejection_succeeds_and_skips_all_but_the_record(world: Any) -> None:
    case = Case(world)
    done = case.answer(case.ask(), REJECT, said={"reason": "not on a Friday"})
    assert done.state == "success"
    assert done.result["outcome"] == "rejected"
    assert done.skipped == ["promote", "shift"]
    assert [(each.kind, each.by, each.reason) for each in case.answers] == [
        ("rejected", "alice", "not on a Friday")
    ]


@pytest.mark.parametrize(("on_timeout", "kind"), [("reject", "rejected"), ("approve", "approved")])
@pytest.mark.parametrize(
    "event",
    [{"timedout": True}, {"error": "too late", "error_type": "timeout"}],
    ids=["by Airflow's default", "without one"],
)
def test_a_timeout_is_answered_by_the_policy(
    world: Any, on_timeout: str, kind: str, event: dict[str, Any]
) -> None:
    case = Case(world, on_timeout=on_timeout, timeout_s=5400, reason="required", assignees=["alice"])
    done = case.answer(case.ask(), by=None, **event)
    assert done.state == "success"
    (answer,) = case.answers
    assert (answer.kind, answer.by) == (kind, "timeout")
    assert answer.reason == f"nobody answered in 90 minutes; on_timeout: {on_timeout}"
    assert answer.evidence["timed_out"] is True


def test_without_a_timeout_it_waits_for_ever(world: Any) -> None:
    case = Case(world, timeout_s=None)
    assert case.ask().message.timeout is None
    assert case.form.defaults is None
    assert "If nobody" not in case.form.body


@pytest.mark.parametrize("by", ["mallory", None])
def test_an_answer_of_somebody_else_does_not_count(world: Any, by: str | None) -> None:
    case = Case(world, assignees=["alice"])
    done = case.answer(case.ask(), APPROVE, by=by)
    assert done.state == "failed"
    assert isinstance(done.error, InvalidInput)
    assert "not asked" in str(done.error)
    assert case.answers == ()


def test_a_person_called_timeout_is_a_person(world: Any) -> None:
    case = Case(world, reason="required")
    done = case.answer(case.ask(), APPROVE, by="timeout")
    assert done.state == "failed"
    assert "no reason" in str(done.error)


@pytest.mark.parametrize("chosen", [APPROVE, REJECT])
@pytest.mark.parametrize("said", [{}, {"reason": None}, {"reason": "  "}])
def test_an_answer_without_the_reason_is_refused_and_asked_for_again(
    world: Any, chosen: str, said: dict[str, Any]
) -> None:
    case = Case(world, reason="required")
    waiting = case.ask()
    assert case.form.params["reason"]["schema"]["minLength"] == 1
    done = case.answer(waiting, chosen, said=said)
    assert done.state == "failed"
    assert "no reason" in str(done.error)
    assert case.answers == ()
    again = case.answer(case.ask(), chosen, said={"reason": "seen"})
    assert again.state == "success"


def test_neither_yes_nor_no_is_no_answer(world: Any) -> None:
    case = Case(world)
    waiting = case.ask()
    for chosen in ([], [APPROVE, REJECT], ["Maybe"]):
        assert case.answer(waiting, *chosen).state == "failed"
    assert case.answers == ()


def test_the_first_answer_stands(world: Any) -> None:
    case = Case(world)
    waiting = case.ask()
    case.answer(waiting, APPROVE, said={"reason": "fine"})
    second = case.answer(waiting, REJECT, by="bob", said={"reason": "no!"})
    assert (second.state, second.result["outcome"], second.result["by"]) == ("success", "approved", "alice")
    cleared = case.ask()
    assert (cleared.state, cleared.result["by"], cleared.result["reason"]) == ("success", "alice", "fine")
    assert len(case.answers) == 1


def test_a_rejection_stands_when_it_is_cleared(world: Any) -> None:
    case = Case(world)
    case.answer(case.ask(), REJECT)
    cleared = case.ask()
    assert cleared.state == "success"
    assert cleared.skipped == ["promote", "shift"]


def test_other_evidence_is_asked_about_again(world: Any) -> None:
    case = Case(world)
    waiting = case.ask()
    gated = {"version": "8", "previous": "7", "outcome": "promote", "reason": "all hold"}
    case.append("gated", **gated, evidence={"champion_version": "7"})
    late = case.answer(waiting, APPROVE)
    assert late.state == "failed"
    assert "judged again" in str(late.error)
    assert case.answers == ()
    assert case.answer(case.ask(), APPROVE).state == "success"
    case.append("gated", **gated, evidence={"worse": ["f1"]})
    assert case.ask().state == "awaiting_input"
    assert case.answer(case.ask(), REJECT).result["outcome"] == "rejected"


def test_nobody_is_shown_the_evidence_of_before(world: Any) -> None:
    case = Case(world)
    case.ask()
    case.append("gated", version="8", previous="9", outcome="promote", evidence={"champion_version": "9"})
    again = case.ask()
    assert again.state == "failed"
    assert "the evidence of before" in str(again.error)


def test_a_repeated_wait_asks_again_without_an_answer(world: Any) -> None:
    case = Case(world)
    case.ask()
    assert case.ask().state == "awaiting_input"
    assert case.answers == ()


@pytest.mark.parametrize("verdict", ["reject", "dry_run"])
def test_only_what_the_gate_promotes_can_be_approved(world: Any, verdict: str) -> None:
    done = Case(world, verdict=verdict).ask()
    assert done.state == "failed"
    assert "nothing to approve" in str(done.error)


def test_what_was_never_judged_cannot_be_approved(world: Any) -> None:
    with world.dag() as dag:
        ApprovePromotionOperator(task_id="approve", gate=None)
    done = DagRunHarness(dag).run("approve")
    assert done.state == "failed"
    assert "no verdict of the promotion gate" in str(done.error)


def test_a_run_that_has_ended_asks_nobody(world: Any) -> None:
    case = Case(world)
    case.append("concluded", version="8", outcome="promoted")
    assert case.ask().result["outcome"] == "not_needed"
