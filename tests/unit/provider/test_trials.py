"""The log of a search: nothing asked twice, nothing forgotten, failures tried again only on request."""

from __future__ import annotations

from mlretrain_provider.trials import TrialLog
from tests.fakes.memory_store import MemoryStore

ERROR = {"type": "UserCodeError", "message": "KeyError"}


def test_what_was_asked_first_counts() -> None:
    store = MemoryStore()
    one, other = TrialLog(store, "tune"), TrialLog(store, "tune")
    first = one.ask({"depth": 3}, "r")
    assert other.ask({"depth": 4}, "r") == first
    assert other.trials == TrialLog(store, "tune").trials == (first,)


def test_what_was_told_first_counts() -> None:
    store = MemoryStore()
    one, other = TrialLog(store, "tune"), TrialLog(store, "tune")
    trial = one.ask({"depth": 3}, "r")
    told = one.tell(trial, value=0.5)
    assert other.tell(trial, error=ERROR) == told
    assert TrialLog(store, "tune").trials == (told,)


def test_a_round_ends_with_giving_up_and_the_next_one_repeats_what_failed() -> None:
    store = MemoryStore()
    log = TrialLog(store, "tune")
    good, bad = log.ask({"depth": 3}, "a"), log.ask({"depth": 4}, "b")
    log.tell(good, value=0.5)
    assert log.tell(bad, error=ERROR).state == "failed"
    log.give_up()
    second = TrialLog(store, "tune")
    assert second.round == 1
    assert [(each.state, each.params) for each in second.trials] == [
        ("complete", {"depth": 3}),
        ("running", {"depth": 4}),
    ]
    assert second.tell(second.trials[1], error=ERROR).state == "failed"
    assert [each.state for each in TrialLog(store, "tune").trials] == ["complete", "failed"]
    second.give_up()
    TrialLog(store, "tune").tell(second.trials[1], value=0.25)
    assert [each.value for each in TrialLog(store, "tune").trials] == [0.5, 0.25]


def test_other_files_of_the_folder_are_nobodys_trials() -> None:
    store = MemoryStore()
    store.write("tune/trials/readme.txt", b"")
    store.write("tune/trials/page.html", b"")
    assert TrialLog(store, "tune").trials == ()
