"""Ending a run early: what comes later is skipped, what must run whatever happens still runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseXCom, TriggerRule
from airflow.sdk.bases.skipmixin import XCOM_SKIPMIXIN_KEY, XCOM_SKIPMIXIN_SKIPPED
from airflow.sdk.exceptions import DownstreamTasksSkipped

if TYPE_CHECKING:
    from airflow.sdk import Context


def skip_rest(context: Context, result: Mapping[str, Any]) -> dict[str, Any]:
    """Succeed with ``result`` and skip all that is downstream, but for teardowns and ``all_done`` tasks.

    Trigger rules alone are not enough: a ``one_failed`` task two steps on would look at its own parents only.
    Raises Airflow's signal if there is anything to skip; the result is an XCom in either case.
    """
    skipped = sorted(
        task.task_id
        for task in context["task"].get_flat_relatives(upstream=False)
        if not task.is_teardown and task.trigger_rule != TriggerRule.ALL_DONE
    )
    if not skipped:
        return dict(result)
    ti = context["ti"]
    ti.xcom_push(key=BaseXCom.XCOM_RETURN_KEY, value=dict(result))
    # Read by Airflow's NotPreviouslySkippedDep when one of the skipped tasks is cleared alone.
    ti.xcom_push(key=XCOM_SKIPMIXIN_KEY, value={XCOM_SKIPMIXIN_SKIPPED: skipped})
    raise DownstreamTasksSkipped(tasks=skipped)  # type: ignore[no-untyped-call]
