"""Who is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from mlretrain_factory.spec.section import Entrypoint, Section, later

Event = Literal["drift", "warned", "paged", "unknown", "promoted", "rejected", "rolled_back", "failed"]


class NotificationSpec(Section):
    """One notifier and the events it is told."""

    on: tuple[Event, ...] = Field(min_length=1, description="Events to tell.")
    notifier: Annotated[Entrypoint, later("slack", "email", "webhook")] = Field(
        description="`package.module:Class` of an mlretrain or Airflow notifier."
    )
    conn_id: str | None = Field(default=None, description="The notifier's Airflow connection.")
    args: dict[str, JsonValue] = Field(default={}, description="Further arguments of the notifier's class.")
