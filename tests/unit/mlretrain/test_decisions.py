"""The decisions that are kept, with their evidence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlretrain.decisions import DecisionLog, DecisionRecord
from mlretrain.errors import ContractError
from mlretrain.policy.retrain import Retrain, RetrainPolicy, WindowRecord, decide
from tests.fakes.memory_store import MemoryStore
from tests.unit.mlretrain.policy.windows import day, window


def decided(*windows: WindowRecord, retrains: tuple[Retrain, ...] = ()) -> DecisionRecord:
    policy = RetrainPolicy()
    decision = decide(policy, windows, retrains, window_end=day(9), champion="7")
    return DecisionRecord(
        pipeline="flights",
        window_end=day(9),
        champion="7",
        decision=decision,
        retrains=retrains,
        policy=policy,
    )


def test_a_decision_is_kept_with_its_evidence() -> None:
    store = MemoryStore()
    log = DecisionLog(store, "flights")
    retrain = Retrain(run_id="scheduled__1", window_end=day(4), cause="schedule", outcome="promoted")
    record = decided(window(8), window(9), retrains=(retrain,))
    assert log.record(record) == log.at(day(9)) == record
    assert store.list("") == ["flights/decisions/20130429T000000Z.json"]
    kept = json.loads(store.read("flights/decisions/20130429T000000Z.json"))
    assert kept["champion"] == "7"
    assert kept["decision"]["level"] == "warn"
    assert [each["passed"] for each in kept["decision"]["checks"] if each["name"] == "cooldown"] == [False]
    assert [each["summary"] for each in kept["decision"]["windows"]] == ["6 of 9 columns drifted"] * 2
    assert kept["retrains"][0]["run_id"] == "scheduled__1"
    assert kept["policy"]["cooldown_s"] == 604_800


def test_deciding_again_replaces_a_decision_to_keep() -> None:
    log = DecisionLog(MemoryStore(), "flights")
    log.record(decided(window(9, None)))
    asked = decided(window(9))
    assert log.record(asked) == log.at(day(9)) == asked


def test_a_decision_to_retrain_stands_with_the_evidence_it_was_taken_on() -> None:
    log = DecisionLog(MemoryStore(), "flights")
    asked = log.record(decided(window(9)))
    later = replace(asked, champion="8", decision=replace(asked.decision, windows=()))
    assert log.record(later) == log.at(day(9)) == asked


def test_what_is_no_decision_is_named() -> None:
    store = MemoryStore()
    log = DecisionLog(store, "flights")
    assert log.at(day(9)) is None
    store.write(log.path(day(9)), b"[]")
    with pytest.raises(ContractError, match=r"decisions/20130429T000000Z\.json: not a decision"):
        log.at(day(9))
    with pytest.raises(ContractError, match="another pipeline"):
        DecisionLog(store, "other").record(decided())
