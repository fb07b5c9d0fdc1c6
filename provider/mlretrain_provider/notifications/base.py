"""Telling people how a run ended, in one sentence; subclasses know where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from mlretrain.errors import ConfigError, MlretrainError
from mlretrain_provider.hooks.mlflow import MLflowHook

if TYPE_CHECKING:
    from airflow.sdk import Context

FAILED, LATE, APPROVAL_NEEDED = "failed", "late", "approval_needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What there is to tell.

    :param event: ``drift``, ``warned``, ``paged``, ``unknown``, ``approval_needed``, ``promoted``,
        ``rejected``, ``rolled_back``, ``failed``, ``late``, …
    :param reason: why, in a sentence.
    :param version: the model version that it is about.
    :param previous: the version that was champion before, if it is about another one now.
    :param url: where to see more: the run, or the page that waits for an answer.
    :param model_url: where to see the version.
    """

    event: str
    pipeline: str
    run_id: str
    reason: str = ""
    version: str | None = None
    previous: str | None = None
    url: str | None = None
    model_url: str | None = None

    @property
    def title(self) -> str:
        """What happened, in a few words."""
        version = f" v{self.version}" if self.version else ""
        previous = f" (before: v{self.previous})" if self.previous else ""
        return f"{self.pipeline}{version} {self.event.replace('_', ' ')}{previous}"

    @property
    def text(self) -> str:
        """All of it in one line."""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.title}{reason} ({self.url or self.run_id})"

    @property
    def links(self) -> dict[str, str]:
        """Where to see more, by the words to click on."""
        page = "Answer" if self.event == APPROVAL_NEEDED else "Airflow run"
        found = {page: self.url, "Model version": self.model_url}
        return {words: url for words, url in found.items() if url}

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Notice | None:
        """The notice that a callback's context amounts to; ``None`` if nothing happened that has a name.

        A task that asks people something is ``approval_needed`` while it runs. Any other tells through its
        result's ``event``, as ``RecordRunOperator`` does; without one, an exception or a failed run is
        ``failed`` and a missed deadline ``late``.
        """
        if asks(context):
            return notice_of_approval(context)
        ti = context.get("ti")
        result = (
            ti.xcom_pull(task_ids=ti.task_id) if ti is not None and not context.get("exception") else None
        )
        facts: Mapping[str, Any] = result if isinstance(result, Mapping) else {}
        event = facts.get("event") or _unasked(context)
        if not event:
            return None
        reason = str(facts.get("reason") or context.get("exception") or context.get("reason") or "")
        return _notice(context, str(event), reason, facts, run_url(ti))


def asks(context: Mapping[str, Any]) -> bool:
    """Whether the context is that of a task which has just asked people something: one of Airflow's
    human-in-the-loop operators, which tells its notifiers while it runs.
    """
    ti = context.get("ti")
    ended = getattr(ti, "state", None) not in (None, "running") or context.get("exception")
    return not ended and hasattr(getattr(ti, "task", None), "generate_link_to_ui")


def notice_of_approval(context: Mapping[str, Any]) -> Notice:
    """The notice that a task waits for people's answer, with the page where they give it."""
    ti = context["ti"]
    try:
        url = ti.task.generate_link_to_ui(task_instance=ti)
    except ValueError:  # [api] base_url is not set: the server's address is not known here
        url = getattr(ti, "log_url", None)
    version = getattr(ti.task, "version", None)
    facts = version if isinstance(version, Mapping) else {"version": version}
    return _notice(context, APPROVAL_NEEDED, str(ti.task.subject), facts, url)


def run_url(ti: Any) -> str | None:
    """The page of the task's run, from that of its log."""
    log_url = getattr(ti, "log_url", None)
    return str(log_url).partition("/tasks/")[0] if log_url else None


def _notice(
    context: Mapping[str, Any], event: str, reason: str, facts: Mapping[str, Any], url: str | None
) -> Notice:
    ti, run = context.get("ti"), context.get("dag_run")
    pipeline = _pipeline(ti, run)
    version = str(facts["version"]) if facts.get("version") else None
    return Notice(
        event=event,
        pipeline=pipeline,
        run_id=str(_of(run, "run_id") or context.get("run_id") or ""),
        reason=reason,
        version=version,
        previous=str(facts["previous"]) if facts.get("previous") else None,
        url=url,
        model_url=_model_url(ti, pipeline, version),
    )


def _unasked(context: Mapping[str, Any]) -> str | None:
    if context.get("deadline"):
        return LATE
    return FAILED if context.get("exception") or context.get("reason") else None


def _pipeline(ti: Any, run: Any) -> str:
    """The pipeline that the task works for, else the DAG's name without its kind."""
    stated = getattr(getattr(ti, "task", None), "pipeline", None)
    return str(stated or str(_of(run, "dag_id") or getattr(ti, "dag_id", "a pipeline")).rpartition(".")[0])


def _model_url(ti: Any, pipeline: str, version: str | None) -> str | None:
    """The version's page in MLflow; ``None`` if the task does not say which MLflow, or it is not known."""
    conn_id = getattr(getattr(ti, "task", None), "mlflow_conn_id", None)
    if not conn_id or not version:
        return None
    try:
        return MLflowHook(conn_id).registry().web_url(pipeline, version)
    except ConfigError:
        return None


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

    def __call__(self, *args: Any) -> None:
        """Tell; a task that asks people something is not failed by a server that does not answer."""
        try:
            super().__call__(*args)
        except MlretrainError:
            if len(args) != 1 or not asks(args[0]):
                raise

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
        """Bring the notice to people. What it raises, Airflow logs; no task fails of it.

        :raises MissingExtra: the notifier's package is not installed.
        :raises ConfigError: it is refused, and will be again.
        :raises TransientError: the server does not answer.
        """
        raise NotImplementedError
