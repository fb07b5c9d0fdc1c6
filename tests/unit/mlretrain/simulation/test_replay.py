"""A replay finds the known change at the right window, and stops as the policy says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from mlretrain import wire
from mlretrain.data.split import Holdout
from mlretrain.errors import InvalidInput
from mlretrain.policy.retrain import Retrain, WindowRecord, decide
from mlretrain.simulation.bench import Bench
from mlretrain.simulation.replay import FAILED, REJECTED, Attempt, Champion, Setting
from mlretrain.simulation.simulate import Question, simulate
from tests.unit.mlretrain.simulation.conftest import CHANGE, DAY, START, TRAINING, rows, scan

COOLDOWN = 14 * DAY


def test_the_first_retrain_is_at_the_change_and_the_next_ones_a_cooldown_apart(
    bench: Bench, question: Question
) -> None:
    found = simulate(question, bench, jobs=0).results[0].replay

    assert all(step.measured.verdict == "stable" for step in found.steps if step.end <= CHANGE)
    assert [each.at for each in found.retrains] == [CHANGE + 2 * DAY, CHANGE + 2 * DAY + COOLDOWN]
    assert [each.version for each in found.champions] == ["1", "2", "3"]
    assert found.steps[-1].measured.verdict == "stable"


def test_every_decision_is_the_policy_s_own_on_the_records_kept_by_hand(
    bench: Bench, question: Question
) -> None:
    found = simulate(question, bench, jobs=0).results[0].replay
    policy = found.setting.retrain
    assert policy is not None
    records, requests = list[WindowRecord](), list[Retrain]()
    champion = "1"

    for step in found.steps:
        records.append(
            WindowRecord(
                pipeline="late",
                window_start=step.start,
                window_end=step.end,
                rows=step.measured.rows,
                champion=champion,
                signals=step.measured.signals,
                summary=step.measured.summary,
            )
        )
        by_hand = decide(policy, records, requests, window_end=step.end, champion=champion)
        assert (step.decision, step.level, step.reason) == (by_hand.verdict, by_hand.level, by_hand.reason)
        if by_hand.verdict == "retrain":
            requests.append(
                Retrain(
                    run_id=by_hand.run_id,
                    window_end=step.end,
                    cause="drift",
                    outcome="promoted",
                    champion=champion,
                )
            )
            champion = str(int(champion) + 1)


def test_the_same_past_gives_the_same_bytes(bench: Bench, question: Question) -> None:
    assert wire.pretty(simulate(question, bench, jobs=0)) == wire.pretty(simulate(question, bench, jobs=0))


def test_processes_find_what_one_finds(bench: Bench, question: Question) -> None:
    short = replace(question, window_ends=question.window_ends[25:35])

    assert simulate(short, bench, jobs=2).results == simulate(short, bench, jobs=0).results


def test_a_scheduled_retrain_holds_the_one_by_drift_back(bench: Bench, question: Question) -> None:
    scheduled = replace(question.settings[0], schedule=(CHANGE + DAY,))

    found = simulate(replace(question, settings=(scheduled,)), bench, jobs=0).results[0].replay

    assert [(each.at, each.cause) for each in found.retrains][:2] == [
        (CHANGE + DAY, "schedule"),
        (CHANGE + DAY + COOLDOWN, "drift"),
    ]


def test_without_a_window_s_rows_the_verdict_is_unknown_and_nothing_is_retrained(question: Question) -> None:
    frame = rows()
    gap = frame[(frame["at"] < START + 7 * DAY) | (frame["at"] >= START + 21 * DAY)]
    history = scan(gap, question)
    bench = Bench(history=history, training_window=TRAINING, holdout=Holdout(by="random"), chunk_s=7 * 86_400)

    steps = simulate(question, bench, jobs=0).results[0].replay.steps

    silent = [step for step in steps if START + 14 * DAY <= step.end <= START + 21 * DAY]
    assert {step.measured.verdict for step in silent} == {"unknown"}
    assert {step.decision for step in silent} == {"keep"}
    assert "page" in {step.level for step in silent}


def test_beside_the_previous_window_a_change_is_seen_until_it_is_in_both(
    bench: Bench, question: Question
) -> None:
    beside = replace(bench, reference="previous_window")

    steps = simulate(question, beside, jobs=0).results[0].replay.steps

    drifted = [step.end for step in steps if step.measured.verdict == "drift"]
    assert CHANGE + DAY < drifted[0] < drifted[-1] < CHANGE + 14 * DAY


def test_without_rows_before_the_start_the_error_says_what_there_is(bench: Bench, question: Question) -> None:
    early = replace(question, start=START - timedelta(days=400))

    with pytest.raises(InvalidInput, match="2025-12-01"):
        simulate(early, bench, jobs=0)


@pytest.mark.parametrize("outcome", [REJECTED, FAILED])
def test_a_candidate_that_is_not_promoted_leaves_the_champion(
    bench: Bench, question: Question, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    def retrain(self: object, trained: datetime, champion: Champion) -> Attempt:
        return Attempt(outcome=outcome, reason="so")

    monkeypatch.setattr("mlretrain.simulation.bench.Past.retrain", retrain)
    found = simulate(question, bench, jobs=0).results[0].replay

    assert [each.version for each in found.champions] == ["1"]
    assert all(later.at - one.at >= COOLDOWN for one, later in pairwise(found.retrains))
    assert found.steps[-1].level == "page"


def test_a_setting_that_looks_at_nothing_has_no_windows(bench: Bench, question: Question) -> None:
    monthly = Setting(name="monthly", schedule=(START + 30 * DAY,))

    found = simulate(replace(question, settings=(monthly,)), bench, jobs=0).results[0].replay

    assert found.steps == ()
    assert [each.trained for each in found.champions] == [START, START + 30 * DAY]
