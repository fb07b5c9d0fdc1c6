"""Monitoring and retraining: what the YAML may say, and how it is told."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlretrain import wire
from mlretrain.policy.blackout import Blackout
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.describe_watch import describe_watch
from mlretrain_factory.spec.blackout import WEEKDAYS, BlackoutSpec, Weekday, covers_every_day
from mlretrain_factory.spec.drift import DriftSpec
from mlretrain_factory.spec.monitoring import MonitoringSpec
from mlretrain_factory.spec.performance import LabelsSpec
from mlretrain_factory.spec.pipeline import PipelineSpec
from mlretrain_factory.spec.retraining import WhenSpec

DAYS = st.dates(min_value=date(2027, 1, 1), max_value=date(2027, 12, 31)).map(lambda day: f"{day:%m-%d}")
MONITOR: dict[str, Any] = {"data": {"uri": "s3://ml/now", "time_column": "at", "window": "7d"}}
LABELS = {"uri": "s3://ml/labels", "join_on": "id", "delay": "2d"}


def yearly(first: str, last: str) -> BlackoutSpec:
    return BlackoutSpec.model_validate({"every": "year", "from": first, "to": last})


def told(monitor: dict[str, Any], **sections: Any) -> str:
    """What is told of a pipeline with these sections."""
    spec = {
        "version": 1,
        "pipeline": "churn",
        "stack": "local",
        "data": {"training": {"uri": "s3://ml/rows"}, "target": "y"},
        "train": {"entrypoint": "shop.train:train"},
        "evaluate": {"metrics": ("roc_auc",)},
        "promote": {"gates": ({"metric": "roc_auc", "min": 0.7},)},
        "monitor": {**MONITOR, **monitor},
        **sections,
    }
    return "\n".join(describe_watch(PipelineSpec.model_validate(spec)))


@given(DAYS, DAYS)
def test_a_span_of_every_year_has_its_ends(first: str, last: str) -> None:
    assert {first, last} <= yearly(first, last).days()


@given(DAYS)
def test_a_year_from_any_day_to_the_day_before_is_every_day(first: str) -> None:
    day = date.fromisoformat(f"2027-{first}")
    before, earlier = (f"{day - timedelta(days=n):%m-%d}" for n in (1, 2))
    assert covers_every_day([yearly(first, before)])
    assert not covers_every_day([yearly(first, earlier)])
    assert covers_every_day([yearly(first, earlier), yearly(before, before)])


def test_weekdays_and_spans_leave_a_day_together() -> None:
    weekend = BlackoutSpec.model_validate({"weekdays": ("sat", "sun")})
    once = BlackoutSpec.model_validate({"from": "2026-01-01", "to": "2099-12-31"})
    workdays = {"weekdays": ("mon", "tue", "wed", "thu", "fri")}
    winter = BlackoutSpec.model_validate({**workdays, "every": "year", "from": "10-01", "to": "03-31"})
    assert covers_every_day([weekend, winter, yearly("04-01", "09-30")])
    assert not covers_every_day([weekend, winter, yearly("04-02", "09-30")])
    assert not covers_every_day([])
    assert not covers_every_day([weekend, yearly("01-02", "12-31"), once])


@given(st.booleans(), DAYS, DAYS, DAYS, st.sets(st.sampled_from(WEEKDAYS)))
def test_what_is_written_is_what_is_blacked_out(
    every: bool, first: str, last: str, day: str, weekdays: set[Weekday]
) -> None:
    if not every and last < first:
        first, last = last, first
    year = "" if every else "2027-"
    span = {"from": year + first, "to": year + last, **({"every": "year"} if every else {})}
    blackout = BlackoutSpec.model_validate(
        {**span, "weekdays": tuple(weekdays) or None, "timezone": "Asia/Tokyo"}
    )
    kernel = wire.from_wire(Blackout, rules.blackout(blackout, MonitoringSpec.model_validate(MONITOR)))
    noon = datetime.fromisoformat(f"2027-{day}T12:00+09:00")
    inside = day in yearly(first, last).days()
    assert kernel.covers(noon) == (inside and (not weekdays or WEEKDAYS[noon.weekday()] in weekdays))


@pytest.mark.parametrize("reference", ["champion", "previous_window", {"same_window_last": "7d"}])
def test_what_a_window_is_compared_with(reference: object) -> None:
    found = DriftSpec.model_validate({"reference": reference})
    assert found.reference_age == (timedelta(days=7) if isinstance(reference, dict) else None)


@pytest.mark.parametrize("when", [{}, {"any": ()}, {"any": ("drift",), "all": ("drift",)}])
def test_when_is_any_or_all(when: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WhenSpec.model_validate(when)


def test_labels_are_joined_on_one_column_or_several() -> None:
    assert LabelsSpec.model_validate(LABELS).join_on == ("id",)
    assert LabelsSpec.model_validate({**LABELS, "join_on": ["id", "day"]}).join_on == ("id", "day")
    for nothing in ("", [], [""], 3):
        with pytest.raises(ValidationError):
            LabelsSpec.model_validate({**LABELS, "join_on": nothing})


def test_a_monitor_alone_only_reports() -> None:
    text = told({"drift": {"reference": "previous_window", "engine": "mlretrain"}})
    assert text.startswith("Compares the last 7d of `s3://ml/now` with the window before.\n")
    assert text.endswith("Only reports: there is no `retrain` section.")


def test_the_policy_is_told_in_words() -> None:
    monitor = {
        "drift": {
            "reference": {"same_window_last": "365d"},
            "prediction": {"threshold": 0.1},
            "domain": {"threshold": 0.65},
        },
        "performance": {"labels": LABELS, "metric": "roc_auc", "min": 0.65, "max_drop": 0.05},
    }
    retrain = {
        "when": {"all": ("drift", "performance")},
        "windows": {"violated": 2, "of": 4},
        "warm_up": 3,
        "min_new_rows": 5000,
        "budget": {"max": 6, "per": "30d"},
        "blackout": (
            {"every": "year", "from": "12-20", "to": "01-05", "why": "holidays"},
            {"weekdays": ("sat", "sun")},
            {"from": "2027-03-01", "to": "2027-03-31", "weekdays": ("mon",)},
        ),
        "escalate": {"warn": 2, "page": {"failed_retrains": 1, "signals": ("schema", "quality")}},
    }
    notify = ({"on": ("paged",), "notifier": "shop.alerts:Pager"},)
    assert told(monitor, retrain=retrain, notify=notify).splitlines() == [
        "Compares the last 7d of `s3://ml/now` with the window of the same length 365d before.",
        "A window drifts when 30% of the columns do, weighted by importance, or when the answers do, "
        "by more than 0.1, or when a classifier tells its rows from the reference's with an AUC above 0.65; "
        "with fewer than 1000 rows nothing is said.",
        "Its quality is violated when a column misses 5% more of its values, or 5% of them are new.",
        "Measures `roc_auc` on the labels in `s3://ml/labels`, which come 2d late: violated when it is "
        "below 0.65 or worse by more than 0.05 than in the champion's own evaluation; with labels of less "
        "than 50% of the answers it is estimated.",
        "Warns when `drift` and `performance` are violated in 2 of the last 4 windows "
        "(no `notify` tells of `warned`).",
        "Retrains when `drift` and `performance` are violated in 2 of the last 4 windows, the latest among "
        "them; at the earliest with the 4th window that a champion is measured in.",
        "Retrains again at the earliest 7d after the last one, with 5000 new rows, at most 6 in 30d; never "
        "from 12-20 to 01-05 of every year (holidays), on Saturdays and Sundays or on Mondays from "
        "2027-03-01 to 2027-03-31.",
        "Pages a person, and retrains nothing, after a retraining that did not cure, after 3 windows in a "
        "row of which nothing could be said or when `schema` or `quality` is violated.",
    ]


def test_a_table_and_waiting_for_labels_are_told_too() -> None:
    table = {**MONITOR["data"], "uri": None, "table": "public.now", "conn_id": "dwh"}
    assert "of `public.now` with" in told({"data": table})
    waiting = {"labels": LABELS, "metric": "roc_auc", "min": 0.6, "estimate": "never"}
    assert told({"performance": waiting}).splitlines()[3].endswith("the answers it is unknown.")
