"""Notices in the task's log."""

from __future__ import annotations

from mlretrain_provider.notifications.base import MlretrainNotifier, Notice


class LogNotifier(MlretrainNotifier):
    """Writes the notice to the log: for trying things out, and where logs are watched.

    :param on: the events to tell of; none: all of them.
    """

    def send(self, notice: Notice) -> None:
        self.log.info("%s", notice.text)
