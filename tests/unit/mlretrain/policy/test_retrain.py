"""The retrain policy's single rules and its sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.policy.retrain import (
    Retrain,
    RetrainPolicy,
    WindowRecord,
    decide,
    new_rows,
    window_slug,
)

DAY = 86_400.0
START = datetime(2013, 4, 20, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def window(end: float, drift: bool | None = True, *, days: float = 1, champion: str = "7") -> WindowRecord:
    return WindowRecord(
        pipeline="flights",
        window_start=day(end - days),
        window_end=day(end),
        rows=1000,
        champion=champion,
        signals={"drift": drift},
        summary="6 of 9 columns drifted",
    )


def retrain(end: float, outcome: str | None = "promoted", run_id: str | None = None) -> Retrain:
    return Retrain(run_id=run_id or f"at{end}", window_end=day(end), cause="drift", outcome=outcome)


def reason(policy: RetrainPolicy, windows: list[WindowRecord], *retrains: Retrain, at: float) -> str:
    return decide(policy, windows, retrains, window_end=day(at), champion="7").reason


POLICY = RetrainPolicy(violated=2, of=3, cooldown_s=7 * DAY)
TWO_OF_THREE = [window(9), window(10, False), window(11)]


def test_a_retrain_is_explained_in_one_sentence() -> None:
    assert reason(POLICY, TWO_OF_THREE, retrain(2), at=11) == (
        "retrain: drift in 2 of the last 3 windows (6 of 9 columns drifted); "
        "last retrain 9 d ago (drift, promoted); champion v7"
    )
    assert reason(POLICY, TWO_OF_THREE, at=11).endswith("; no earlier retrain; champion v7")


def test_keeping_is_explained_in_one_sentence() -> None:
    assert reason(POLICY, TWO_OF_THREE, retrain(9), at=11) == (
        "keep: cooldown until 2013-05-06; last retrain 2 d ago (drift, promoted); champion v7"
    )
    assert reason(POLICY, TWO_OF_THREE, retrain(10, None), at=11).startswith("keep: at10 has not ended; ")
    assert reason(POLICY, [window(11)], at=11).startswith(
        "keep: windows: drift in 1 of the last 1 windows, required 2 of 3; "
    )
    assert reason(POLICY, [window(9), window(10), window(11, False)], at=11).startswith(
        "keep: latest window: stable, required violated; "
    )


def test_a_window_that_could_not_be_measured_takes_no_place() -> None:
    windows = [window(8), window(9, None), window(10, None), window(11)]
    assert reason(POLICY, windows, at=11).startswith("retrain: drift in 2 of the last 2 windows")
    assert reason(POLICY, [*windows, window(12, None)], at=12).startswith("keep: latest window: not measured")


def test_rows_since_the_last_training_are_counted_once() -> None:
    weekly = [window(end, days=7) for end in (7, 8, 9)]
    assert new_rows(weekly, None) == pytest.approx(1000 * 9 / 7)
    assert new_rows(weekly, day(8)) == pytest.approx(1000 / 7)
    assert new_rows([window(9), window(9, champion="6")], day(8)) == 1000
    assert new_rows([window(9, days=0)], day(8)) == 1000
    policy = RetrainPolicy(cooldown_s=DAY, min_new_rows=2500)
    assert reason(policy, [window(9), window(10)], retrain(8), at=10).startswith(
        "keep: new rows is 2000, required at least 2500; "
    )
    assert reason(policy, [window(9), window(10), window(11)], retrain(8), at=11).startswith("retrain: ")


def test_the_budget_counts_every_retrain_of_its_span() -> None:
    policy = RetrainPolicy(cooldown_s=DAY, budget_max=2, budget_per_s=10 * DAY)
    spent = (retrain(1, "failed"), retrain(4, "rejected"))
    assert reason(policy, [window(10)], *spent, at=10).startswith(
        "keep: budget is 2 retrains, required fewer than 2 in 10 d; "
    )
    assert reason(policy, [window(11)], *spent, at=11).startswith("retrain: ")


def test_a_request_of_this_window_stands_and_a_later_retrain_answers_it() -> None:
    run_id = f"drift__{window_slug(day(11))}"
    own = retrain(11, None, run_id)
    assert decide(POLICY, TWO_OF_THREE, [own], window_end=day(11), champion="7").verdict == "retrain"
    assert decide(POLICY, [], [own, retrain(20)], window_end=day(11), champion="8").run_id == run_id
    assert reason(POLICY, TWO_OF_THREE, retrain(20), at=11).startswith("keep: later retrain is at20")


def test_slugs_name_instants_in_utc() -> None:
    assert window_slug(datetime(2013, 5, 6)) == "20130506T000000Z"
    assert window_slug(datetime(2013, 5, 6, 1, 2, 3, 45, tzinfo=UTC)) == "20130506T010203.000045Z"


@pytest.mark.parametrize(
    "wrong",
    [
        {"violated": 3, "of": 2},
        {"violated": 0},
        {"cooldown_s": 0.0},
        {"signals": ()},
        {"min_new_rows": -1},
        {"budget_max": 3},
    ],
)
def test_policies_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the retrain policy cannot work"):
        RetrainPolicy(**wrong)
