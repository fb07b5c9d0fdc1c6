"""The loop stops: whatever happens to the windows on their way, drift starts what it should and no more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain.ledger import EventKind, Ledger, LedgerEvent
from mlretrain.policy.blackout import WEEKDAYS, covering
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
    drift_run_id,
)
from mlretrain.sight import retrains_in_sight, windows_in_sight
from mlretrain.windows import WindowLog, retrains
from mlretrain.wire import from_wire, to_wire
from tests.fakes.memory_store import MemoryStore

DAY = 86_400.0

unhurried = settings(deadline=None, max_examples=60)
"""Each example is a history, read from its store at every step."""

START = datetime(2013, 1, 1, tzinfo=UTC)

pairs = st.sampled_from([("drift",), ("drift", "performance")])
policies = st.builds(
    lambda kind, names, violated, extra, cooldown, rows, latest, warm_up, budget, weekday, page: (
        RetrainPolicy(
            when=Signals(**{kind: names}),
            violated=violated,
            of=violated + extra,
            cooldown_s=cooldown * DAY,
            min_new_rows=rows,
            latest=latest,
            warm_up=warm_up,
            budget_max=budget[0] if budget else None,
            budget_per_s=budget[1] * DAY if budget else None,
            blackout=(Blackout(weekdays=(weekday,)),) if weekday else (),
            escalation=Escalation(page=Paging(failed_retrains=page[0], unknown=page[1])),
        )
    ),
    st.sampled_from(["any", "all"]),
    pairs,
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 12),
    st.sampled_from([0, 100, 350]),
    st.booleans(),
    st.integers(0, 3),
    st.none() | st.tuples(st.integers(1, 3), st.integers(5, 30)),
    st.none() | st.sampled_from(WEEKDAYS),
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
)
measured = st.sampled_from([True, True, False, None])
signals = st.lists(
    st.builds(lambda drift, performance: {"drift": drift, "performance": performance}, measured, measured),
    min_size=1,
    max_size=40,
)
outcomes = st.sampled_from([None, "promoted", "rejected", "failed", "rolled_back"])


def at(day: int) -> datetime:
    return START + timedelta(days=day)


def windows(day: int, found: Mapping[str, bool | None], champion: str = "1") -> list[WindowRecord]:
    """What two measures record of one window."""
    drift = WindowRecord(
        pipeline="flights",
        window_start=at(day - 2),
        window_end=at(day),
        rows=200,
        champion=champion,
        signals={"drift": found.get("drift")},
        summary="temp KS 0.41 > 0.05",
    )
    if "performance" not in found:
        return [drift]
    performance = replace(
        drift,
        rows=50,
        signals={"performance": found["performance"]},
        summary="roc_auc is 0.61",
        measure="performance",
    )
    return [drift, performance]


def drifting(*days: int) -> list[WindowRecord]:
    return [record for day in days for record in windows(day, {"drift": True})]


@dataclass
class World:
    """A monitor, a ledger and retrainings that end as ``ends`` says, in turn."""

    policy: RetrainPolicy
    ends: list[str | None] = field(default_factory=lambda: [None])
    store: MemoryStore = field(default_factory=MemoryStore)
    champion: int = 1
    known: list[WindowRecord] = field(default_factory=list)
    started: dict[str, Retrain] = field(default_factory=dict)
    champions: dict[str, list[WindowRecord]] = field(default_factory=dict)

    def record(self, measured: Iterable[WindowRecord]) -> None:
        for each in measured:
            record = replace(each, champion=str(self.champion))
            self.known.append(record)
            WindowLog(self.store, "flights").record(record)

    def decide(self, window_end: datetime) -> RetrainDecision:
        """From all that happened; and what the store alone says of it is the same."""
        place = {"window_end": window_end, "champion": str(self.champion)}
        decision = decide(self.policy, self.known, self.started.values(), **place)  # type: ignore[arg-type]
        ledger, index = Ledger(self.store, "flights"), WindowLog(self.store, "flights").index()
        earlier = retrains_in_sight(ledger, self.policy, **place)  # type: ignore[arg-type]
        seen = windows_in_sight(index, earlier, self.policy, **place)  # type: ignore[arg-type]
        assert decide(self.policy, seen, earlier, **place) == decision  # type: ignore[arg-type]
        return decision

    def monitor(self, measured: list[WindowRecord]) -> RetrainDecision:
        """Record a window, decide, and see the retraining through if one starts."""
        self.record(measured)
        decision = self.decide(measured[0].window_end)
        if decision.verdict == "retrain" and decision.run_id not in self.started:
            self.retrain(decision, measured[0].window_end)
        return decision

    def retrain(self, decision: RetrainDecision, window_end: datetime) -> None:
        outcome = self.ends[len(self.started) % len(self.ends)]
        evidence = {"cause": "drift", "champion": str(self.champion)}
        self.append(decision.run_id, "retrain_requested", window_end, evidence=evidence)
        if outcome is not None:
            self.append(decision.run_id, "concluded", window_end, outcome=outcome)
        self.started[decision.run_id] = Retrain(
            run_id=decision.run_id,
            window_end=window_end,
            cause="drift",
            outcome=outcome,
            champion=str(self.champion),
        )
        self.champion += outcome == "promoted"

    def append(self, run_id: str, kind: EventKind, window_end: datetime, **fields: object) -> None:
        event = LedgerEvent(
            pipeline="flights", run_id=run_id, kind=kind, at=window_end, window_end=window_end
        )
        Ledger(self.store, "flights").append(replace(event, **fields))  # type: ignore[arg-type]

    def replay(self, arriving: Iterable[list[WindowRecord]]) -> list[Retrain]:
        """The retrains that are started when each arriving window is recorded and decided on."""
        for each in arriving:
            self.monitor(each)
        return sorted(self.started.values(), key=lambda each: each.window_end)


def arrivals(data: st.DataObject, found: list[dict[str, bool | None]]) -> list[list[WindowRecord]]:
    """Windows in an order of their own, some lost, some doubled, some by one measure after the other."""
    days = data.draw(st.lists(st.sampled_from(range(len(found))), min_size=1, max_size=40))
    batches = []
    for day in days:
        measures = windows(day, found[day])
        apart = data.draw(st.booleans())
        batches += [[each] for each in measures] if apart else [measures]
    return batches


@unhurried
@given(policies, signals, st.lists(outcomes, min_size=1, max_size=5), st.data())
def test_no_limit_is_ever_broken_whatever_the_order(
    policy: RetrainPolicy,
    found: list[dict[str, bool | None]],
    ends: list[str | None],
    data: st.DataObject,
) -> None:
    world = World(policy, ends)
    for batch in arrivals(data, found):
        champion, before = str(world.champion), len(world.started)
        decision = world.monitor(batch)
        assert (decision.verdict == "retrain") == (decision.level == "retrain")
        if len(world.started) == before:
            continue
        assert decision.state == "violated" or (decision.state == "fine" and not policy.latest)
        assert covering(policy.blackout, batch[0].window_end) is None
        mine = {each.window_end for each in world.known if each.champion == champion}
        assert len([end for end in mine if end <= batch[0].window_end]) > policy.warm_up
    times = sorted(each.window_end for each in world.started.values())
    assert all((b - a).total_seconds() >= policy.cooldown_s for a, b in pairwise(times))
    if policy.budget_max is not None and policy.budget_per_s is not None:
        for last in times:
            within = [t for t in times if 0 <= (last - t).total_seconds() < policy.budget_per_s]
            assert len(within) <= policy.budget_max


@unhurried
@given(policies, st.integers(1, 30))
def test_what_is_unknown_never_retrains_and_is_never_silent(policy: RetrainPolicy, days: int) -> None:
    world = World(policy)
    levels = [world.monitor(windows(day, {"drift": None, "performance": None})).level for day in range(days)]
    silent = policy.escalation.page.unknown - 1
    assert levels == ["none"] * min(silent, days) + ["page"] * max(0, days - silent)


@unhurried
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_constant_drift_retrains_once_per_cooldown_until_that_has_failed_too_often(
    cooldown: int, days: int, most: int, promote: bool
) -> None:
    escalation = Escalation(page=Paging(failed_retrains=most))
    policy = RetrainPolicy(cooldown_s=cooldown * DAY, escalation=escalation)
    world = World(policy, ["promoted" if promote else "rejected"])
    levels = [world.monitor(drifting(day)).level for day in range(days)]
    once_each = -(-days // cooldown)
    assert len(world.started) == (once_each if promote else min(once_each, most))
    assert levels[most * cooldown :] == (
        ["retrain" if day % cooldown == 0 else "warn" for day in range(most * cooldown, days)]
        if promote
        else ["page"] * max(0, days - most * cooldown)
    )


@unhurried
@given(st.integers(1, 4), st.lists(outcomes.filter(lambda end: end != "promoted"), min_size=1))
def test_a_person_is_called_after_failed_retrains_in_a_row_and_a_fine_window_calls_off(
    most: int, ends: list[str | None]
) -> None:
    policy = RetrainPolicy(cooldown_s=DAY, escalation=Escalation(page=Paging(failed_retrains=most)))
    world = World(policy, ends)
    levels = [world.monitor(drifting(day)).level for day in range(most + 2)]
    assert levels == ["retrain"] * most + ["page", "page"]
    assert world.monitor(windows(most + 2, {"drift": False})).level == "none"
    assert world.monitor(drifting(most + 3)).level == "retrain"


@unhurried
@given(st.data())
def test_lost_doubled_reordered_and_batched_windows_give_exactly_one(data: st.DataObject) -> None:
    policy = RetrainPolicy(violated=2, of=3, cooldown_s=30 * DAY)
    days = data.draw(st.sets(st.integers(1, 20), min_size=2))
    doubled = data.draw(st.lists(st.sampled_from(sorted(days)), max_size=10))
    order = data.draw(st.permutations([*days, *doubled]))
    world = World(policy)
    batched = data.draw(st.integers(0, len(order)))
    world.record(drifting(*order[:batched]))
    for day in order[:batched]:
        world.monitor(drifting(day))
    assert len(world.replay([drifting(day) for day in order[batched:]])) <= 1
    assert len(world.replay([drifting(max(days) + 1)])) == 1


@unhurried
@given(policies, signals, st.lists(outcomes, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_losing_all_of_airflow_starts_nothing_that_was_not_started(
    policy: RetrainPolicy,
    found: list[dict[str, bool | None]],
    ends: list[str | None],
    random: Random,
) -> None:
    world = World(policy, ends)
    for day, each in enumerate(found):
        world.monitor(windows(day, each))
    started, known = set(world.started), list(world.known)
    days = list(range(len(found)))
    random.shuffle(days)
    for day in days:
        again = world.decide(at(day))
        assert (again.verdict == "retrain") == (again.run_id in started)
        assert again.run_id == drift_run_id(at(day))
    assert retrains(Ledger(world.store, "flights")) == tuple(
        sorted(world.started.values(), key=lambda each: each.window_end)
    )
    assert known == world.known


@unhurried
@given(policies, signals, st.randoms(use_true_random=False), outcomes)
def test_a_decision_is_the_same_whenever_and_from_whatever_order_it_is_taken(
    policy: RetrainPolicy, found: list[dict[str, bool | None]], random: Random, end: str | None
) -> None:
    """How the retrains ended is told in the reason and changes nothing else."""
    world = World(policy)
    first = {
        at(day): world.monitor(windows(day, each))
        for day, each in enumerate(found)
        if covering(policy.blackout, at(day)) is None
    }
    ended = [replace(each, outcome=end) for each in world.started.values()]
    shuffled = [*world.known, *world.known]
    random.shuffle(shuffled)
    for time, decision in first.items():
        again = decide(policy, shuffled, [*ended, *ended], window_end=time, champion="1")
        assert (again.verdict, again.run_id) == (decision.verdict, decision.run_id)
        if not any(each.window_end > time for each in ended):
            assert again.level == decision.level


@unhurried
@given(policies, signals, st.sampled_from([None, "rejected", "failed", "rolled_back"]))
def test_the_baseline_moves_on_promotion_only(
    policy: RetrainPolicy, found: list[dict[str, bool | None]], end: str | None
) -> None:
    world = World(policy, [end])
    for day, each in enumerate(found):
        world.monitor(windows(day, each))
    last = at(len(found) - 1)
    kept = world.decide(last)
    assert {each.champion for each in kept.windows} <= {"1"}
    after = decide(policy, world.known, world.started.values(), window_end=at(len(found)), champion="2")
    assert after.windows == ()
    assert after.verdict == "keep"


@given(signals)
def test_windows_against_an_earlier_champion_do_not_count(found: list[dict[str, bool | None]]) -> None:
    old = [record for day, each in enumerate(found) for record in windows(day, each)]
    (new,) = windows(len(found), {"drift": False}, champion="2")
    policy = RetrainPolicy(latest=False, of=50, cooldown_s=DAY)
    assert decide(policy, [*old, new], [], window_end=new.window_end, champion="2").verdict == "keep"


histories = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("123"), measured, measured, st.sampled_from([None, True])),
    max_size=40,
)
runs = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(["drift", "drift", "schedule", "manual"]),
        st.sampled_from("123"),
        st.booleans(),
        outcomes,
    ),
    max_size=12,
)


@unhurried
@given(policies, histories, runs, st.integers(0, 40), st.sampled_from("123"))
def test_what_is_in_sight_decides_as_everything_does(
    policy: RetrainPolicy,
    history: list[tuple[int, str, bool | None, bool | None, bool | None]],
    started: list[tuple[int, str, str, bool, str | None]],
    day: int,
    champion: str,
) -> None:
    """Also where people retrain, rehearse and roll back as they like."""
    world = World(policy)
    for end, version, drift, performance, schema in history:
        world.champion = int(version)
        first, *rest = windows(end, {"drift": drift, "performance": performance})
        world.record([replace(first, signals={**first.signals, "schema": schema}), *rest])
    for number, (end, cause, version, dry_run, outcome) in enumerate(started):
        run_id = drift_run_id(at(end)) if cause == "drift" else f"{cause}__{number}"
        evidence = {"cause": cause, "champion": version, "dry_run": dry_run}
        world.append(run_id, "retrain_requested", at(end), evidence=evidence)
        world.append(run_id, "concluded", at(end), outcome=outcome or "skipped")
    world.started = {each.run_id: each for each in retrains(Ledger(world.store, "flights"))}
    world.known = list(WindowLog(world.store, "flights").all())
    world.champion = int(champion)
    world.decide(at(day))


@given(policies, signals)
def test_policies_and_decisions_travel_as_json(
    policy: RetrainPolicy, found: list[dict[str, bool | None]]
) -> None:
    assert from_wire(RetrainPolicy, json.loads(json.dumps(to_wire(policy)))) == policy
    decision = World(policy).monitor(windows(1, found[0]))
    assert from_wire(RetrainDecision, json.loads(json.dumps(to_wire(decision)))) == decision
