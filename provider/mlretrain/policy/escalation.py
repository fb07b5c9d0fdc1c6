"""From a warning to a retrain to a person: when the policy speaks up, and when it gives up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mlretrain.errors import ConfigError
from mlretrain.policy.signals import check_signals

Level = Literal["none", "warn", "retrain", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """When a person must look, because no retrain would help.

    :param failed_retrains: so many retrains in a row by drift from one champion, and after a cooldown each it
        is still the champion and no window was fine; a retrain for another reason begins the count anew.
    :param unknown: so many windows in a row could not be judged.
    :param signals: a window in which one of these is violated.
    """

    failed_retrains: int = 2
    unknown: int = 3
    signals: tuple[str, ...] = ("schema",)

    def __post_init__(self) -> None:
        _at_least_one("page.failed_retrains", self.failed_retrains)
        _at_least_one("page.unknown", self.unknown)
        check_signals(self.signals, "retrain.escalate.page.signals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """What is told to whom.

    :param warn: a violated window is a warning once so many of the latest windows are.
    :param page: when a person is asked for; nothing is retrained then.
    """

    warn: int = 1
    page: Paging = field(default_factory=Paging)

    def __post_init__(self) -> None:
        _at_least_one("warn", self.warn)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(
            "the retrain policy cannot work",
            where=f"retrain.escalate.{name}",
            found=str(value),
            allowed="1 or more",
        )
