"""Notices to Slack, through Airflow's own notifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from mlretrain.errors import ConfigError, MissingExtra, MlretrainError, TransientError
from mlretrain_provider.hooks.connection import connection
from mlretrain_provider.notifications.base import MlretrainNotifier, Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import BaseNotifier, Connection

WEBHOOK = "slackwebhook"
ANSWER_S = 10
BUSY = ("ratelimited", "rate_limited", "service_unavailable", "internal_error", "fatal_error")
"""What Slack says when the same call may succeed later: https://docs.slack.dev/reference/methods/chat.postMessage"""


class SlackNotifier(MlretrainNotifier):
    """Posts the notice to a Slack channel, with links to the run and to the model version.

    :param conn_id: a connection of type ``slack`` (password = bot token, ``xoxb-…``) or ``slackwebhook``
        (password = the web hook's URL, or its secret part).
    :param channel: where to post; none: the ``channel`` in the connection's extra. A web hook has one of its
        own.
    :param on: the events to tell of; none: all of them.
    """

    template_fields: Sequence[str] = ("conn_id", "channel")

    def __init__(
        self,
        *,
        conn_id: str = "slack_api_default",
        channel: str | None = None,
        on: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(on=on, **kwargs)
        self.conn_id = conn_id
        self.channel = channel

    def send(self, notice: Notice) -> None:
        found = connection(self.conn_id, conn_type="slack", example="--conn-password xoxb-…")
        notifier = self._notifier(found, message(notice))
        failures = _failures()
        try:
            # Not by calling it, which would render the text as a template: people wrote parts of it.
            notifier.notify({})
        except failures as error:
            raise self._problem(error) from None

    def _notifier(self, found: Connection, text: str) -> BaseNotifier:
        try:
            from airflow.providers.slack.notifications import slack, slack_webhook
        except ModuleNotFoundError:
            raise MissingExtra.of("apache-airflow-providers-slack", "slack") from None
        if found.conn_type == WEBHOOK:
            return slack_webhook.SlackWebhookNotifier(
                slack_webhook_conn_id=self.conn_id, text=text, timeout=ANSWER_S, unfurl_links=False
            )
        channel = self.channel or found.extra_dejson.get("channel")
        if not channel:
            raise ConfigError(
                "a Slack message needs a channel",
                where=f"connection {self.conn_id}",
                remedy="Say channel: '#…', or put it into the connection's extra.",
            )
        return slack.SlackNotifier(
            slack_conn_id=self.conn_id,
            text=text,
            channel=channel,
            timeout=ANSWER_S,
            unfurl_links=False,
        )

    def _problem(self, error: BaseException) -> MlretrainError:
        """What went wrong; the web hook's address is a secret, so what may quote it is not told."""
        where = f"connection {self.conn_id}"
        answer = getattr(error, "response", None)
        said = str(answer.get("error") or "") if answer is not None else ""
        if said:
            kind = TransientError if said in BUSY else ConfigError
            return kind("Slack refused the notice", where=where, found=said)
        if isinstance(error, OSError):
            found = str(getattr(error, "reason", "") or type(error).__name__)
            return TransientError("Slack does not answer", where=where, found=found)
        return ConfigError("Slack refused the notice", where=where, found=str(error))


def message(notice: Notice) -> str:
    """The notice in Slack's markup: https://docs.slack.dev/messaging/formatting-message-text"""
    lines = [f"*{_escaped(notice.title)}*", _escaped(notice.reason)]
    links = [f"<{_escaped(url)}|{words}>" for words, url in notice.links.items()]
    lines.append(" · ".join(links) or _escaped(notice.run_id))
    return "\n".join(line for line in lines if line)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _failures() -> tuple[type[Exception], ...]:
    from slack_sdk.errors import SlackClientError

    return AirflowException, OSError, SlackClientError
