"""When a pipeline runs by itself: by the clock, or when assets were updated."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.cron import Cron
from mlretrain_factory.spec.section import Section, fault


def _check_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        remedy = nearest(value, available_timezones(), "Write an IANA name, such as `Europe/Berlin`.")
        raise fault("unknown time zone", remedy=remedy, found=f"'{value}'") from None
    return value


Timezone = Annotated[str, AfterValidator(_check_timezone)]


UTC = "UTC"
"""The time zone of what names none."""


class ScheduleSpec(Section):
    """By the clock, or by assets."""

    cron: Cron | None = Field(default=None, description="Five cron fields, or `@daily` and the like.")
    timezone: Timezone = Field(
        default=UTC, description="IANA time zone of the cron fields; follows summer time."
    )
    on_assets: tuple[str, ...] = Field(
        default=(), description="URIs of Airflow assets; a run starts when all have been updated."
    )

    @model_validator(mode="after")
    def _one_of(self) -> ScheduleSpec:
        if (self.cron is None) == (not self.on_assets):
            raise fault(
                "a schedule is either by the clock or by assets",
                remedy="Give exactly one; leave `schedule` out to run only on drift or by hand.",
                allowed="cron, or on_assets",
            )
        return self
