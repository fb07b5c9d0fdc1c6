"""How a run ended, in its note: a listener, for a worker cannot write its own run's note.

It runs in the scheduler, on the session that is about to save the run's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.listeners import hookimpl

_KINDS = (".retrain", ".monitor", ".rollback", ".score")
_LAST = "record"
"""The task that concludes a run of every pipeline."""
_HEAD = 2
"""Lines of a table's head."""
MAX_NOTE = 1000
"""Characters that Airflow keeps of a run's note."""


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    """Note the conclusion of a run that succeeded."""
    note_conclusion(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """Note the conclusion of a run that failed."""
    note_conclusion(dag_run)


def note_conclusion(dag_run: Any) -> None:
    """Add the conclusion to the run's note, once; other DAGs' runs are left alone."""
    if not dag_run.dag_id.endswith(_KINDS):
        return
    concluded = _conclusion(dag_run)
    if concluded is not None:
        dag_run.note = with_conclusion(dag_run.note, concluded)


def with_conclusion(note: str | None, concluded: Mapping[str, Any]) -> str | None:
    """The note with ``outcome: reason`` below what it said, and as much evidence as there is room for."""
    if "outcome" not in concluded or "reason" not in concluded:
        return note
    outcome, reason = str(concluded["outcome"]).replace("_", " "), str(concluded["reason"])
    line = reason if reason.startswith(outcome) else f"{outcome}: {reason}"
    if note is not None and line in note:
        return note
    said = f"{note}\n\n{line}" if note else line
    table = _fitting(str(concluded.get("evidence_md") or ""), MAX_NOTE - len(said) - 2)
    return f"{said}\n\n{table}" if table else said


def _fitting(table: str, room: int) -> str:
    """As many whole lines of a Markdown table as there is room for; none if not even one row fits."""
    lines = table.splitlines()
    while lines and len("\n".join(lines)) > room:
        lines.pop()
    return "\n".join(lines) if len(lines) > _HEAD else ""


def _conclusion(dag_run: Any) -> Mapping[str, Any] | None:
    """What the run's last task returned."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return None
    found = session.execute(
        select(XComModel).where(
            XComModel.dag_id == dag_run.dag_id,
            XComModel.run_id == dag_run.run_id,
            XComModel.task_id == _LAST,
            XComModel.key == "return_value",
        )
    ).scalar()
    value = XComModel.deserialize_value(found) if found is not None else None
    return value if isinstance(value, Mapping) else None
