"""Which run this is: one identity for every operator and sensor, whatever started the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast, get_args

from mlretrain import wire
from mlretrain.policy.retrain import Cause

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """A DAG run as the kernel sees it.

    :param window_end: the instant, in data time, that the run is about; see :func:`window_end`.
    :param conf: what the run was started with: ``reason``, ``cause``, ``params``, ``dry_run``, …
    :param by: the Airflow user who started it by hand.
    :param begun: when this task began.
    """

    dag_id: str
    run_id: str
    window_end: datetime
    run_type: str = "manual"
    try_number: int = 1
    conf: Mapping[str, Any] = field(default_factory=dict)
    by: str = ""
    begun: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)

    @classmethod
    def of(cls, context: Context) -> RunIdentity:
        """The identity of the run that ``context`` belongs to."""
        run = context["dag_run"]
        return cls(
            dag_id=run.dag_id,
            run_id=run.run_id,
            window_end=window_end(context),
            run_type=str(getattr(run.run_type, "value", run.run_type)),
            try_number=context["ti"].try_number,
            conf=_conf(context),
            by=str(getattr(run, "triggering_user_name", None) or ""),
        )

    @property
    def reason(self) -> str:
        """Why the run was started, in a sentence; empty if nobody said."""
        return str(self.conf.get("reason") or "")

    @property
    def cause(self) -> Cause:
        """What kind of thing started the run."""
        stated = self.conf.get("cause")
        if stated in get_args(Cause):
            return cast("Cause", stated)
        return "manual" if self.run_type == "manual" else "schedule"

    @property
    def dry_run(self) -> bool:
        """Whether everything is to be measured and decided, and nothing changed."""
        return bool(self.conf.get("dry_run"))


def _conf(context: Context) -> dict[str, Any]:
    """The run's conf over the DAG's params, so that a form's defaults count as said."""
    return {**dict(context.get("params") or {}), **dict(context["dag_run"].conf or {})}


def window_end(context: Context) -> datetime:
    """The end of the run's window, in UTC: ``conf.window_end``, else the data interval's end, else
    ``run_after``.

    Runs started by hand, by assets or by a monitor have no logical date in Airflow 3, so nothing here may
    depend on one.
    """
    run = context["dag_run"]
    stated = _conf(context).get("window_end")
    if stated:
        return wire.parse_time(str(stated), "dag_run.conf.window_end")
    return wire.utc(run.data_interval_end or run.run_after)
