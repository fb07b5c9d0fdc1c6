"""A person's answer before a promotion, with the evidence in front of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.api.datamodels._generated import HITLUser
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

from mlretrain import approval, wire
from mlretrain.conduct import judged
from mlretrain.errors import InvalidInput
from mlretrain.governance import (
    Approval,
    Needed,
    Reason,
    Require,
    RequiredApproval,
    Terms,
    TimeoutAnswer,
)
from mlretrain.ledger import LedgerEvent
from mlretrain_provider.answers import APPROVE, REJECT, read_answer
from mlretrain_provider.failures import plain_errors
from mlretrain_provider.governance import check_terms
from mlretrain_provider.links import ModelVersionLink
from mlretrain_provider.operators.pipeline import DECIDE, PipelineOperator, Upstream
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.skipping import skip_rest

if TYPE_CHECKING:
    from airflow.sdk import Context

NOT_NEEDED = "not_needed"
DAY_S = 86400.0


class ApprovePromotionOperator(PipelineOperator, HITLOperator):
    """Wait until a person approves or rejects the candidate; a rejection succeeds and skips the rest.

    The task waits in Airflow's state ``awaiting_input``, in no worker and no triggerer, and is answered on
    *Required Actions* or through the API. Returns ``{outcome, version, by, reason}``, ``outcome`` being
    ``approved``, ``rejected`` or ``not_needed``. The answer is in the ledger; later steps believe only that.
    Idempotent: a run is answered once, and cleared or repeated it ends by that answer without asking again,
    unless the gate has judged on other evidence since.

    :param gate: what :class:`PromotionGateOperator` returned.
    :param required: ``always``; ``first``: while there is no champion; ``when_worse``: when the candidate is
        worse than the champion in anything that the gates compare; ``never``.
    :param assignees: ids of the users who may answer, as Airflow's auth manager knows them; none: everybody
        who may edit the DAG's runs.
    :param timeout_s: how long an answer is waited for; ``None``: for ever.
    :param on_timeout: what no answer means, ``reject`` or ``approve``.
    :param reason: ``required``: an answer without a reason does not count; ``optional``.
    :param policies: the platform's policies that apply; an approval that is less than they demand is refused
        before anybody is asked.
    :param notifiers: Airflow notifiers that are told when an answer is needed.
    """

    inherits_from_skipmixin = True
    template_fields = (
        *PipelineOperator.template_fields,
        "gate",
        "required",
        "assignees",
        "timeout_s",
        "on_timeout",
        "reason",
        "policies",
    )
    operator_extra_links = (ModelVersionLink(),)
    ui_color = DECIDE

    def __init__(
        self,
        *,
        gate: Upstream,
        required: Needed = "always",
        assignees: Sequence[str] = (),
        timeout_s: float | None = DAY_S,
        on_timeout: TimeoutAnswer = "reject",
        reason: Reason = "optional",
        policies: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        # What is asked is known when it is asked; Airflow wants a headline and options here.
        super().__init__(**{"subject": "Promote?", "options": [APPROVE, REJECT], **kwargs})
        self.gate = gate
        self.required = required
        self.assignees = assignees
        self.timeout_s = timeout_s
        self.on_timeout = on_timeout
        self.reason = reason
        self.policies = policies

    def demanded(self) -> Require:
        """What the ledger must show of it before the model gets on; of a setting still to be made, all."""
        if self.required == "never":
            return Require()
        known = self.required in ("first", "when_worse")
        return Require(approval=RequiredApproval(required=self.required if known else "always"))

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        if self.settled(run):
            answer = self.recorded(run, "approved") or self.recorded(run, "rejected")
            return self._end(context, answer) if answer else self._not_needed(None)
        check_terms(self, run, context, self.policies, self._terms, "promote.approval")
        gated = self._verdict(run)
        answer = self._answered(run, gated)
        if answer is not None:
            self.log.info("Answered already.")
            return self._end(context, answer)
        asked = approval.why_asked(self.required, gated.evidence)
        if not asked:
            return self._not_needed(gated.version)
        self._put(run, gated, asked)
        self.log.info("%s %s", self.subject, asked)
        return self._wait(run, context, judged(gated))

    def _wait(self, run: RunIdentity, context: Context, shown: str) -> NoReturn:
        """Put the form before people, as :meth:`HITLOperator.execute` does, and see that it is this one.

        Airflow keeps a task's form as it was first put, also when the task is cleared:
        ``upsert_hitl_detail`` of its execution API.
        """
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        form = SUPERVISOR_COMMS.send(
            CreateHITLDetailPayload(
                ti_id=context["ti"].id,
                options=self.options,
                subject=self.subject,
                body=self.body,
                defaults=self.defaults,
                params=self.serialized_params,
                multiple=False,
                assigned_users=[HITLUser(id=each, name=each) for each in self.assignees],
            )
        )
        if getattr(form, "body", self.body) != self.body:
            raise InvalidInput(
                "Airflow shows people the evidence of before, and cannot be given other",
                where=f"{run.dag_id}/{self.task_id}",
                remedy="Start a new retraining.",
            )
        for notifier in self.notifiers:
            notifier(context)
        raise TaskAwaitingInput(
            method_name="execute_complete", kwargs={"shown": shown}, timeout=self._timeout
        )

    def execute_complete(
        self, context: Context, event: dict[str, Any], shown: str | None = None
    ) -> dict[str, Any]:
        """Take the answer that came, or the timeout's.

        :param shown: names the evidence that was to be seen.
        """
        with plain_errors():
            run = RunIdentity.of(context)
            gated = self._verdict(run)
            answer = self._answered(run, gated) or self._take(run, gated, event, shown)
            return self._end(context, answer)

    def _verdict(self, run: RunIdentity) -> LedgerEvent:
        gated = self.recorded(run, "gated")
        if gated is None or gated.outcome != "promote":
            raise InvalidInput(
                "there is nothing to approve",
                where=f"{run.dag_id}/{self.task_id}",
                found=gated.outcome if gated else "no verdict of the promotion gate in the ledger",
                allowed="promote",
                remedy="Clear the promotion gate, so that it judges the candidate.",
            )
        return gated

    def _put(self, run: RunIdentity, gated: LedgerEvent, asked: str) -> None:
        """Prepare the form: Airflow's operator reads it from these attributes."""
        version = str(gated.version)
        gate = self.gate if isinstance(self.gate, Mapping) else {}
        self.version = version
        self.subject = approval.question(self.pipeline, version)
        self.body = approval.case(
            pipeline=self.pipeline,
            version=version,
            champion=gated.previous,
            asked=asked,
            reason=run.reason,
            verdict=gated.reason,
            evidence_md=str(gate.get("evidence_md") or ""),
            links=self._links(version),
            timeout=self._timeout,
            on_timeout=self.on_timeout,
        )
        if self._timeout is not None:
            self.defaults = [APPROVE if self.on_timeout == "approve" else REJECT]
        # Set now: params of the task itself would be filled in from the run's conf, which has a reason too.
        self.params = ParamsDict({"reason": self._field()})

    def _field(self) -> Param:
        if self.reason == "required":
            return Param(
                "",
                type="string",
                minLength=1,
                title="Reason",
                description="Kept in the ledger, with your name.",
            )
        return Param(
            None, type=["null", "string"], title="Reason", description="Kept in the ledger, with your name."
        )

    def _links(self, version: str) -> dict[str, str]:
        url = ModelVersionLink().url(self, {"version": version})
        return {"The version in MLflow": url} if url else {}

    @property
    def _terms(self) -> Terms:
        return Terms(
            approval=Approval(
                required=self.required,
                assignees=tuple(self.assignees),
                on_timeout=self.on_timeout,
                reason=self.reason,
            )
        )

    @property
    def _timeout(self) -> timedelta | None:
        return None if self.timeout_s is None else timedelta(seconds=float(self.timeout_s))

    def _answered(self, run: RunIdentity, gated: LedgerEvent) -> LedgerEvent | None:
        """The first answer about this evidence."""
        found = self.ledger.of_run(run.run_id, "approved", "rejected")
        return next((each for each in found if each.evidence.get("judged") == judged(gated)), None)

    def _take(
        self, run: RunIdentity, gated: LedgerEvent, event: Mapping[str, Any], shown: str | None
    ) -> LedgerEvent:
        """The answer, checked once more, in the ledger."""
        where = f"{run.dag_id}/{self.task_id}"
        if shown != judged(gated):
            raise InvalidInput(
                "the candidate was judged again while the answer was waited for",
                where=where,
                remedy="Clear this task, so that the evidence of now is shown.",
            )
        answer = read_answer(event, self._terms.approval, timeout=self._timeout, where=where)
        return self.append(
            run,
            answer.kind,
            version=gated.version,
            previous=gated.previous,
            outcome=answer.kind,
            by=answer.by,
            reason=answer.reason,
            evidence={
                "judged": judged(gated),
                "asked": list(self.assignees),
                "why": approval.why_asked(self.required, gated.evidence),
                "answered_at": wire.to_wire(answer.answered_at),
                "timed_out": answer.timed_out,
            },
        )

    def _not_needed(self, version: str | None) -> dict[str, Any]:
        self.log.info("Nobody is asked.")
        return {"outcome": NOT_NEEDED, "version": version, "by": "", "reason": ""}

    def _end(self, context: Context, answer: LedgerEvent) -> dict[str, Any]:
        result = {
            "outcome": answer.kind,
            "version": answer.version,
            "by": answer.by,
            "reason": answer.reason,
        }
        self.log.info("%s by %s%s", answer.kind, answer.by, f": {answer.reason}" if answer.reason else "")
        return result if answer.kind == "approved" else skip_rest(context, result)
