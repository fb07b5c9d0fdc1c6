"""The retrain policy's single rules and its sentences."""

from __future__ import annotations

from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.policy.retrain import (
    Blackout,
    Escalation,
    Paging,
    Retrain,
    RetrainDecision,
    RetrainPolicy,
    Signals,
    WindowRecord,
    decide,
)
from mlretrain.wire import from_wire
from tests.unit.mlretrain.policy.windows import DAY, day, window


def retrain(end: float, outcome: str | None = "promoted", run_id: str | None = None) -> Retrain:
    name = run_id or f"at{end}"
    return Retrain(run_id=name, window_end=day(end), cause="drift", outcome=outcome, champion="7")


def decision(
    policy: RetrainPolicy, windows: list[WindowRecord], *retrains: Retrain, at: float
) -> RetrainDecision:
    return decide(policy, windows, retrains, window_end=day(at), champion="7")


def reason(policy: RetrainPolicy, windows: list[WindowRecord], *retrains: Retrain, at: float) -> str:
    return decision(policy, windows, *retrains, at=at).reason


POLICY = RetrainPolicy(violated=2, of=3, cooldown_s=7 * DAY)
TWO_OF_THREE = [window(9), window(10, False), window(11)]


def test_a_retrain_is_explained_in_one_sentence() -> None:
    found = decision(POLICY, TWO_OF_THREE, retrain(2), at=11)
    assert (found.verdict, found.level, found.state) == ("retrain", "retrain", "violated")
    assert found.reason == (
        "retrain: drift in 2 of the last 3 windows (6 of 9 columns drifted); "
        "last retrain 9 d ago (drift, promoted); champion v7"
    )
    assert reason(POLICY, TWO_OF_THREE, at=11).endswith("; no earlier retrain; champion v7")


def test_a_violated_window_that_starts_nothing_is_a_warning_that_says_why() -> None:
    found = decision(POLICY, TWO_OF_THREE, retrain(9), at=11)
    assert (found.verdict, found.level) == ("keep", "warn")
    assert found.reason == (
        "warn: drift in 2 of the last 3 windows (6 of 9 columns drifted), but cooldown until 2013-05-06; "
        "last retrain 2 d ago (drift, promoted); champion v7"
    )
    assert ", but at10 has not ended; " in reason(POLICY, TWO_OF_THREE, retrain(10, None), at=11)
    assert reason(POLICY, [window(11)], at=11).startswith(
        "warn: drift in 1 of the last 1 windows, required 2 of 3 (6 of 9 columns drifted); "
    )
    late = RetrainPolicy(escalation=Escalation(warn=2), violated=2, of=3)
    assert decision(late, [window(11)], at=11).level == "none"


def test_keeping_is_explained_in_one_sentence() -> None:
    found = decision(POLICY, [window(9), window(10), window(11, False)], at=11)
    assert (found.verdict, found.level, found.state) == ("keep", "none", "fine")
    assert found.reason.startswith("keep: latest window: stable, required violated; ")
    assert reason(POLICY, [window(11, False)], at=11).startswith(
        "keep: windows: drift in 0 of the last 1 windows, required 2 of 3; "
    )
    nobody = decide(POLICY, [], [], window_end=day(11), champion="")
    assert nobody.reason == "keep: there is nothing to compare with; no earlier retrain; no champion"


def test_a_window_that_could_not_be_measured_takes_no_place_and_starts_nothing() -> None:
    windows = [window(8), window(9, None), window(10, None), window(11)]
    assert reason(POLICY, windows, at=11).startswith("retrain: drift in 2 of the last 2 windows")
    assert reason(POLICY, [*windows, window(12, None)], at=12).startswith(
        "keep: the window could not be judged (6 of 9 columns drifted); "
    )
    whatever = RetrainPolicy(violated=1, of=3, latest=False)
    assert decision(whatever, [*windows, window(12, None)], at=12).verdict == "keep"
    assert decision(whatever, [*windows, window(12, False)], at=12).verdict == "retrain"


def test_unknown_windows_in_a_row_call_a_person() -> None:
    windows = [window(9), *(window(end, None, summary="0 rows") for end in (10, 11, 12))]
    assert decision(POLICY, windows, at=11).level == "none"
    found = decision(POLICY, windows, at=12)
    assert (found.verdict, found.level, found.state) == ("keep", "page", "unknown")
    assert found.reason.startswith(
        "page: 3 windows in a row could not be judged (0 rows); see whether data still arrives, can be read "
        "and has rows enough; "
    )


def test_a_signal_that_cannot_be_measured_for_long_is_a_warning() -> None:
    both = RetrainPolicy(when=Signals(any=("drift", "performance")))
    windows = [window(end, False) for end in (9, 10, 11)]
    assert decision(both, windows, at=10).level == "none"
    found = decision(both, windows, at=11)
    assert (found.level, found.state) == ("warn", "fine")
    assert "performance could not be measured in the last 3 windows" in found.reason


def test_the_first_windows_against_a_champion_start_nothing() -> None:
    policy = RetrainPolicy(warm_up=2)
    old = [window(end, champion="6") for end in (6, 7, 8)]
    assert [
        decision(policy, [*old, *map(window, range(9, end + 1))], at=end).verdict for end in (9, 10, 11)
    ] == ["keep", "keep", "retrain"]
    assert "but warm-up is 1 windows before this one, required at least 2" in reason(
        policy, [window(9), window(10)], at=10
    )


def test_rows_must_have_arrived_since_the_last_training() -> None:
    policy = RetrainPolicy(cooldown_s=DAY, min_new_rows=2500)
    assert ", but new rows is 2000, required at least 2500; " in reason(
        policy, [window(9), window(10)], retrain(8), at=10
    )
    assert reason(policy, [window(9), window(10), window(11)], retrain(8), at=11).startswith("retrain: ")


def test_the_budget_counts_every_retrain_of_its_span() -> None:
    policy = RetrainPolicy(cooldown_s=DAY, budget_max=2, budget_per_s=10 * DAY)
    spent = (retrain(1, "failed"), retrain(4, "rejected"))
    windows = [window(5, False), window(10), window(11)]
    assert ", but budget is 2 retrains, required fewer than 2 in 10 d; " in reason(
        policy, windows, *spent, at=10
    )
    assert reason(policy, windows, *spent, at=11).startswith("retrain: ")


def test_nothing_is_retrained_in_a_blackout() -> None:
    holidays = Blackout(first="2013-05-01", last="2013-05-02", why="holidays")
    policy = RetrainPolicy(blackout=(holidays,))
    windows = [window(end) for end in (11, 12, 13)]
    assert [decision(policy, windows, at=end).verdict for end in (11, 12, 13)] == ["keep", "keep", "retrain"]
    assert ", but blackout holidays (2013-05-01 to 2013-05-02); " in reason(policy, windows, at=11)


def test_a_schema_that_changed_calls_a_person_instead() -> None:
    broken = window(11, schema=True, summary="tailnum has vanished")
    found = decision(RetrainPolicy(), [broken], at=11)
    assert (found.verdict, found.level) == ("keep", "page")
    assert found.reason.startswith(
        "page: schema in the window (tailnum has vanished); bring the data back to what the champion knows, "
        "or change the pipeline, and retrain by hand; "
    )
    trusting = RetrainPolicy(escalation=Escalation(page=Paging(signals=())))
    assert decision(trusting, [broken], at=11).verdict == "retrain"


def test_retrains_that_help_nothing_call_a_person() -> None:
    windows = [window(end) for end in range(1, 20)]
    tried = (retrain(2, "rejected", "first"), retrain(9, "failed", "second"))
    assert decision(POLICY, windows, *tried, at=10).level == "warn", "the second still has time to help"
    found = decision(POLICY, windows, *tried, at=16)
    assert (found.verdict, found.level) == ("keep", "page")
    assert (
        "though 2 retrains in a row were to cure it (first rejected, second failed); find out why, then "
        "retrain by hand or roll back: no other starts by itself before; " in found.reason
    )


TRIED = (retrain(2, "rejected"), retrain(9, "rejected"))
SINCE = [window(end) for end in range(1, 20)]


def test_a_fine_window_ends_the_row_of_failures() -> None:
    windows = [each for each in SINCE if each.window_end != day(12)]
    assert decision(POLICY, SINCE, *TRIED, at=19).level == "page"
    assert decision(POLICY, [*windows, window(12, False)], *TRIED, at=19).level == "retrain"


@pytest.mark.parametrize(
    "other", [{"cause": "manual"}, {"cause": "schedule"}, {"cause": "drift", "champion": "6"}]
)
def test_another_kind_of_retrain_ends_it_too(other: dict[str, Any]) -> None:
    between = Retrain(run_id="other", window_end=day(10), **other)
    assert decision(POLICY, SINCE, *TRIED, between, at=19).level == "retrain"


def test_a_request_of_this_window_stands_and_a_later_retrain_answers_it() -> None:
    own = retrain(11, None, f"drift__{day(11):%Y%m%dT%H%M%S}Z")
    assert decide(POLICY, TWO_OF_THREE, [own], window_end=day(11), champion="7").verdict == "retrain"
    assert decide(POLICY, [], [own, retrain(20)], window_end=day(11), champion="8").run_id == own.run_id
    assert ", but at20 has learnt this window already; " in reason(POLICY, TWO_OF_THREE, retrain(20), at=11)


def test_a_decision_names_the_windows_it_counted() -> None:
    windows = [window(end) for end in range(1, 12)]
    assert [each.window_end for each in decision(POLICY, windows, at=11).windows] == [
        day(9),
        day(10),
        day(11),
    ]


def test_a_policy_travels_as_the_pipeline_says_it() -> None:
    said = {
        "when": {"all": ["drift", "performance"]},
        "violated": 2,
        "of": 3,
        "warm_up": 1,
        "blackout": [{"first": "12-20", "last": "01-05", "every": "year"}, {"weekdays": ["sat"]}],
        "escalation": {"warn": 2, "page": {"failed_retrains": 3, "unknown": 5, "signals": ["schema"]}},
    }
    policy = from_wire(RetrainPolicy, said)
    assert policy.when == Signals(all=("drift", "performance"))
    assert (policy.blackout[0].every, policy.blackout[1].weekdays) == ("year", ("sat",))
    assert policy.escalation == Escalation(warn=2, page=Paging(failed_retrains=3, unknown=5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"violated": 3, "of": 2},
        {"violated": 0},
        {"violated": 1, "of": 501},
        {"cooldown_s": 0.0},
        {"warm_up": -1},
        {"min_new_rows": -1},
        {"budget_max": 3},
    ],
)
def test_policies_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the retrain policy cannot work"):
        RetrainPolicy(**wrong)


@pytest.mark.parametrize("wrong", [{"warn": 0}, {"page": {"unknown": 0}}, {"page": {"failed_retrains": 0}}])
def test_escalations_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"retrain\.escalate"):
        from_wire(Escalation, wrong)
    with pytest.raises(ConfigError, match="no such signal"):
        Paging(signals=("drifft",))


def test_a_later_window_is_ignored() -> None:
    assert decision(RetrainPolicy(), [window(11, False), window(12)], at=11).level == "none"
