"""What a person answered to a form of Airflow's, or what no answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from mlretrain.approval import TIMEOUT, nobody
from mlretrain.errors import InvalidInput
from mlretrain.governance import Approval

APPROVE, REJECT = "Approve", "Reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Yes or no, by whom and why.

    :param by: the user's id, or ``timeout``.
    """

    kind: Literal["approved", "rejected"]
    by: str
    reason: str
    answered_at: datetime | None
    timed_out: bool


def read_answer(
    event: Mapping[str, Any], approval: Approval, *, timeout: timedelta | None, where: str
) -> Answer:
    """The answer in the event with which Airflow resumes a task that awaits input.

    Checked once more, for Airflow's API checks no field of the form, and with some settings lets everybody
    answer. Raises :class:`InvalidInput` for what does not count.

    :param timeout: how long an answer was waited for.
    """
    answered_at = event.get("responded_at")
    if _is_timeout(event):
        # By the setting of now: what Airflow chose is that of the try that first asked.
        return Answer(
            kind="approved" if approval.on_timeout == "approve" else "rejected",
            by=TIMEOUT,
            reason=nobody(timeout, approval.on_timeout),
            answered_at=answered_at,
            timed_out=True,
        )
    chosen, by = _chosen(event, where), _responder(event, approval, where)
    reason = str((event.get("params_input") or {}).get("reason") or "").strip()
    if approval.reason == "required" and not reason:
        raise InvalidInput(
            "the answer has no reason, and one is required",
            where=where,
            found=f"{chosen} by {by}",
            remedy="Clear this task to be asked again, and answer with a reason.",
        )
    kind: Literal["approved", "rejected"] = "approved" if chosen == APPROVE else "rejected"
    return Answer(kind=kind, by=by, reason=reason, answered_at=answered_at, timed_out=False)


def _is_timeout(event: Mapping[str, Any]) -> bool:
    ended = event.get("timedout") or event.get("error_type") == "timeout"
    return bool(ended) and not event.get("responded_by_user")


def _chosen(event: Mapping[str, Any], where: str) -> str:
    chosen = list(event.get("chosen_options") or [])
    if chosen not in ([APPROVE], [REJECT]):
        raise InvalidInput(
            "not an answer",
            where=where,
            found=str(event.get("error") or chosen),
            allowed=f"{APPROVE}, {REJECT}",
        )
    return str(chosen[0])


def _responder(event: Mapping[str, Any], approval: Approval, where: str) -> str:
    by = str((event.get("responded_by_user") or {}).get("id") or "")
    if not by or (approval.assignees and by not in approval.assignees):
        raise InvalidInput(
            "answered by somebody who was not asked",
            where=where,
            found=by or "nobody known",
            allowed=", ".join(approval.assignees) or "a user",
            remedy="Clear this task to be asked again, and have an assignee answer.",
        )
    return by
