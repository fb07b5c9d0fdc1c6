"""Telling people how a run ended, in one sentence; subclasses know where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

if TYPE_CHECKING:
    from airflow.sdk import Context

FAILED, LATE = "failed", "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What there is to tell.

    :param event: ``drift``, ``warned``, ``paged``, ``unknown``, ``promoted``, ``rejected``, ``rolled_back``,
        ``failed``, ``late``, …
    :param reason: why, in a sentence.
    :param version: the model version that it is about.
    :param url: where to see more.
    """

    event: str
    pipeline: str
    run_id: str
    reason: str = ""
    version: str | None = None
    url: str | None = None

    @property
    def text(self) -> str:
        """All of it in one line."""
        version = f" v{self.version}" if self.version else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.pipeline}{version} {self.event.replace('_', ' ')}{reason} ({self.url or self.run_id})"

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Notice | None:
        """The notice that a callback's context amounts to; ``None`` if nothing happened that has a name.

        A task tells through its result's ``event``, as ``RecordRunOperator`` does; without one, an exception
        or a failed run is ``failed`` and a missed deadline ``late``.
        """
        ti = context.get("ti")
        result = (
            ti.xcom_pull(task_ids=ti.task_id) if ti is not None and not context.get("exception") else None
        )
        facts: Mapping[str, Any] = result if isinstance(result, Mapping) else {}
        event = facts.get("event") or _unasked(context)
        if not event:
            return None
        run = context.get("dag_run")
        return cls(
            event=str(event),
            pipeline=str(_pipeline(ti, run)),
            run_id=str(_of(run, "run_id") or context.get("run_id") or ""),
            reason=str(facts.get("reason") or context.get("exception") or context.get("reason") or ""),
            version=str(facts["version"]) if facts.get("version") else None,
            url=getattr(ti, "log_url", None),
        )


def _unasked(context: Mapping[str, Any]) -> str | None:
    if context.get("deadline"):
        return LATE
    return FAILED if context.get("exception") or context.get("reason") else None


def _pipeline(ti: Any, run: Any) -> str:
    """The pipeline that the task works for, else the DAG's name without its kind."""
    stated = getattr(getattr(ti, "task", None), "pipeline", None)
    return str(stated or str(_of(run, "dag_id") or getattr(ti, "dag_id", "a pipeline")).rpartition(".")[0])


def _of(run: Any, name: str) -> Any:
    """A field of a DAG run, which a deadline's context has as a dict."""
    return run.get(name) if isinstance(run, Mapping) else getattr(run, name, None)


class MlretrainNotifier(BaseNotifier):
    """Tells of chosen events; for the callbacks of tasks and DAGs, and for deadlines. Subclasses ``send``.

    :param on: the events to tell of; none: all of them.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, on: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on = tuple(on)

    def notify(self, context: Context) -> None:
        """Tell of what the context amounts to, if it is one of ``on``."""
        notice = Notice.of(context)
        if notice is not None and (not self.on or notice.event in self.on):
            self.send(notice)

    async def async_notify(self, context: Context) -> None:
        """:meth:`notify` in the triggerer, in a thread that may look up connections."""
        from asgiref.sync import sync_to_async

        await sync_to_async(self.notify)(context)

    def send(self, notice: Notice) -> None:
        """Bring the notice to people. What it raises, Airflow logs; no task fails of it."""
        raise NotImplementedError
