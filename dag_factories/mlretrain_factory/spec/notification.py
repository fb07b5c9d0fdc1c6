"""Who is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.section import Section, fault, is_entrypoint

Event = Literal[
    "drift",
    "warned",
    "paged",
    "unknown",
    "approval_needed",
    "promoted",
    "rejected",
    "rolled_back",
    "failed",
]

NOTIFIERS = {
    "slack": "mlretrain_provider.notifications.slack:SlackNotifier",
    "email": "mlretrain_provider.notifications.email:EmailNotifier",
    "webhook": "mlretrain_provider.notifications.webhook:WebhookNotifier",
}
"""Notifiers by name; each has a connection."""


def _check_notifier(value: str) -> str:
    if value not in NOTIFIERS and not is_entrypoint(value):
        raise fault(
            "unknown notifier",
            remedy=nearest(value, NOTIFIERS, "Choose one of these, or write `package.module:Class`."),
            found=f"'{value}'",
            allowed=", ".join(NOTIFIERS),
        )
    return value


class NotificationSpec(Section):
    """One notifier and the events it is told."""

    on: tuple[Event, ...] = Field(min_length=1, description="Events to tell.")
    notifier: Annotated[str, AfterValidator(_check_notifier)] = Field(
        description="`slack`, `email`, `webhook`, or `package.module:Class` of an mlretrain or Airflow "
        "notifier."
    )
    conn_id: str | None = Field(default=None, description="The notifier's Airflow connection.")
    args: dict[str, JsonValue] = Field(default={}, description="Further arguments of the notifier's class.")

    @model_validator(mode="after")
    def _has_its_connection(self) -> NotificationSpec:
        if self.notifier in NOTIFIERS and self.conn_id is None:
            message = f"`{self.notifier}` needs a connection"
            raise fault(message, at=("notifier",), remedy="Add `conn_id: …`.")
        if self.notifier == "email" and not self.args.get("to"):
            remedy = "Add `args: {to: [ml@example.com]}`."
            raise fault("an e-mail needs addresses", at=("notifier",), remedy=remedy)
        return self
