"""The loop stops: whatever happens to the windows on their way, drift starts what it should and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mlretrain.ledger import Ledger, LedgerEvent
from mlretrain.policy.retrain import (
    Escalation,
    Paging,
    Retrain,
    RetrainPolicy,
    WindowRecord,
    decide,
    drift_run_id,
)
from mlretrain.windows import WindowLog, retrains
from mlretrain.wire import from_wire, to_wire
from tests.fakes.memory_store import MemoryStore

DAY = 86_400.0
START = datetime(2013, 1, 1, tzinfo=UTC)

policies = st.builds(
    lambda violated, extra, cooldown, rows, latest, budget: RetrainPolicy(
        violated=violated,
        of=violated + extra,
        cooldown_s=cooldown * DAY,
        min_new_rows=rows,
        latest=latest,
        budget_max=budget[0] if budget else None,
        budget_per_s=budget[1] * DAY if budget else None,
    ),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 12),
    st.sampled_from([0, 100, 350]),
    st.booleans(),
    st.none() | st.tuples(st.integers(1, 3), st.integers(5, 30)),
)
signals = st.lists(st.sampled_from([True, True, False, None]), min_size=1, max_size=40)
outcomes = st.sampled_from([None, "promoted", "rejected", "failed", "rolled_back"])


def window(day: int, drift: bool | None = True, champion: str = "1") -> WindowRecord:
    end = START + timedelta(days=day)
    return WindowRecord(
        pipeline="flights",
        window_start=end - timedelta(days=2),
        window_end=end,
        rows=200,
        champion=champion,
        signals={"drift": drift},
        summary="temp KS 0.41 > 0.05",
    )


def replay(
    policy: RetrainPolicy, arriving: list[WindowRecord], ends: list[str | None], *, promote: bool = False
) -> list[Retrain]:
    """The retrains that are started when each arriving window is recorded and decided on."""
    known: list[WindowRecord] = []
    started: dict[str, Retrain] = {}
    champion = 1
    for each in arriving:
        known.append(replace(each, champion=str(champion)))
        decision = decide(policy, known, started.values(), window_end=each.window_end, champion=str(champion))
        if decision.verdict == "retrain" and decision.run_id not in started:
            outcome = ends[len(started) % len(ends)]
            started[decision.run_id] = Retrain(
                run_id=decision.run_id,
                window_end=each.window_end,
                cause="drift",
                outcome=outcome,
                champion=str(champion),
            )
            champion += promote and outcome == "promoted"
    return sorted(started.values(), key=lambda each: each.window_end)


@given(policies, signals, st.lists(outcomes, min_size=1, max_size=5), st.booleans())
def test_retrains_are_a_cooldown_apart_and_within_the_budget(
    policy: RetrainPolicy, drifts: list[bool | None], ends: list[str | None], promote: bool
) -> None:
    started = replay(policy, [window(i, d) for i, d in enumerate(drifts)], ends, promote=promote)
    times = [each.window_end for each in started]
    assert all((b - a).total_seconds() >= policy.cooldown_s for a, b in pairwise(times))
    if policy.budget_max is not None and policy.budget_per_s is not None:
        for last in times:
            within = [t for t in times if 0 <= (last - t).total_seconds() < policy.budget_per_s]
            assert len(within) <= policy.budget_max


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_constant_drift_retrains_once_per_cooldown_until_that_has_failed_too_often(
    cooldown: int, days: int, most: int, promote: bool
) -> None:
    paging = Escalation(page=Paging(failed_retrains=most))
    policy = RetrainPolicy(cooldown_s=cooldown * DAY, escalation=paging)
    end = "promoted" if promote else "rejected"
    started = replay(policy, [window(i) for i in range(days)], [end], promote=promote)
    once_each = -(-days // cooldown)
    assert len(started) == (once_each if promote else min(once_each, most))


@given(st.data())
def test_lost_doubled_reordered_and_batched_windows_give_exactly_one(data: st.DataObject) -> None:
    policy = RetrainPolicy(violated=2, of=3, cooldown_s=30 * DAY)
    days = data.draw(st.sets(st.integers(1, 20), min_size=2))
    doubled = data.draw(st.lists(st.sampled_from(sorted(days)), max_size=10))
    order = data.draw(st.permutations([*days, *doubled]))
    arrived = [window(day) for day in order]
    assert len(replay(policy, arrived, [None])) <= 1
    assert len(replay(policy, [*arrived, window(max(days) + 1)], [None])) == 1


@given(policies, signals, st.randoms(use_true_random=False), outcomes)
def test_a_decision_is_the_same_whenever_and_from_whatever_order_it_is_taken(
    policy: RetrainPolicy, drifts: list[bool | None], random: Random, end: str | None
) -> None:
    records = [window(i, drift) for i, drift in enumerate(drifts)]
    started: list[Retrain] = []
    first = {}
    for i, record in enumerate(records):
        decision = decide(policy, records[: i + 1], started, window_end=record.window_end, champion="1")
        first[record.window_end] = decision
        if decision.verdict == "retrain":
            started.append(Retrain(run_id=decision.run_id, window_end=record.window_end, cause="drift"))
    ended = [
        Retrain(run_id=each.run_id, window_end=each.window_end, cause="drift", outcome=end)
        for each in started
    ]
    shuffled = [*records, *records]
    random.shuffle(shuffled)
    for time, decision in first.items():
        again = decide(policy, shuffled, [*ended, *ended], window_end=time, champion="1")
        assert (again.verdict, again.run_id) == (decision.verdict, decision.run_id)
        assert again.run_id == drift_run_id(time)


@given(policies, signals)
def test_state_rebuilt_from_the_store_gives_the_same_decision(
    policy: RetrainPolicy, drifts: list[bool | None]
) -> None:
    store = MemoryStore()
    ledger, log = Ledger(store, "flights"), WindowLog(store, "flights")
    known: list[WindowRecord] = []
    started: list[Retrain] = []
    for i, drift in enumerate(drifts):
        record = window(i, drift)
        known.append(record)
        log.record(record)
        kept = decide(policy, known, started, window_end=record.window_end, champion="1")
        rebuilt = decide(
            policy,
            WindowLog(store, "flights").all(),
            retrains(Ledger(store, "flights")),
            window_end=record.window_end,
            champion="1",
        )
        assert rebuilt == kept
        if kept.verdict == "retrain":
            started.append(Retrain(run_id=kept.run_id, window_end=record.window_end, cause="drift"))
            ledger.append(
                LedgerEvent(
                    pipeline="flights",
                    run_id=kept.run_id,
                    kind="retrain_requested",
                    at=record.window_end,
                    window_end=record.window_end,
                )
            )


@given(signals)
def test_windows_against_an_earlier_champion_do_not_count(drifts: list[bool | None]) -> None:
    old = [window(i, drift) for i, drift in enumerate(drifts)]
    new = window(len(drifts), False, champion="2")
    policy = RetrainPolicy(latest=False, of=50, cooldown_s=DAY)
    assert decide(policy, [*old, new], [], window_end=new.window_end, champion="2").verdict == "keep"


@given(policies, signals)
def test_policies_and_decisions_travel_as_json(policy: RetrainPolicy, drifts: list[bool | None]) -> None:
    assert from_wire(RetrainPolicy, json.loads(json.dumps(to_wire(policy)))) == policy
    record = window(1, drifts[0])
    assert from_wire(WindowRecord, json.loads(json.dumps(to_wire(record)))) == record
