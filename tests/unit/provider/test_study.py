"""Searches: the next question depends on the answers so far, and on nothing else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain_provider.space import read_space
from mlretrain_provider.study import Sampler, Study, Trial
from mlretrain_provider.trials import TrialLog
from tests.fakes.memory_store import MemoryStore

SPACE: dict[str, Any] = {
    "depth": {"int": [3, 9]},
    "rate": {"float": [0.001, 0.3], "log": True},
    "share": {"float": [0, 1], "step": 0.1},
    "kind": {"choice": ["a", [64, 32], None]},
}
GRID: dict[str, Any] = {
    "depth": {"int": [3, 9], "step": 2},
    "kind": {"choice": ["a", "b"]},
    "bins": {"int": [8, 8]},
}
SAMPLERS: tuple[Sampler, ...] = ("tpe", "random", "cmaes", "grid")


def study(sampler: Sampler, *, seed: int = 7, **space: Any) -> Study:
    given = space or (GRID if sampler == "grid" else SPACE)
    return Study(space=read_space(given), sampler=sampler, direction="minimize", seed=seed)


def loss(params: dict[str, Any]) -> float:
    return float(
        abs(params["depth"] - 7) + abs(params.get("rate", 0.05) - 0.05) * 10 + (params["kind"] != "a")
    )


def ended(number: int, params: dict[str, Any]) -> Trial:
    value = loss(params)
    return Trial(number=number, params=params, mlflow_run_id="r", state="complete", value=value)


def search(searched: Study, trials: int) -> list[Trial]:
    """One trial after the other."""
    found: list[Trial] = []
    for number in range(searched.total(trials)):
        found.append(ended(number, searched.ask(found)))
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_asks_the_same_questions(sampler: Sampler) -> None:
    first, again, other = (search(study(sampler, seed=seed), 25) for seed in (7, 7, 8))
    assert first == again
    assert [each.params for each in first] != [each.params for each in other]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_goes_on_after_any_trial_as_if_nothing_had_happened(sampler: Sampler) -> None:
    whole = search(study(sampler), 25)
    store = MemoryStore()
    for trial in whole:
        resumed = TrialLog(store, "tune")
        assert list(resumed.trials) == whole[: trial.number]
        assert study(sampler).ask(resumed.trials) == trial.params
        asked = resumed.ask(trial.params, "r")
        TrialLog(store, "tune").tell(asked, value=trial.value)


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_trials_at_once_are_different_trials(sampler: Sampler) -> None:
    trials = search(study(sampler), 12)
    for number in range(12, 16):
        params = study(sampler).ask(trials)
        trials.append(Trial(number=number, params=params, mlflow_run_id="r"))
    assert all(one.params != other.params for one, other in itertools.combinations(trials[12:], 2))


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_search_finds_more_than_chance(sampler: Sampler) -> None:
    losses = {}
    for each in (sampler, "random"):
        bests = [study(each).best(search(study(each, seed=seed), 40)) for seed in range(5)]
        losses[each] = sum(best.value or 0.0 for best in bests if best)
    assert losses[sampler] < losses["random"]


def test_failed_trials_are_learnt_from_by_nobody_and_do_no_harm() -> None:
    trials = [
        Trial(number=n, params=each.params, mlflow_run_id="r", state="failed", error={"message": "no"})
        for n, each in enumerate(search(study("tpe"), 20))
    ]
    for sampler in ("tpe", "random", "cmaes"):
        assert study(sampler).ask(trials)["kind"] in ("a", [64, 32], None)
    assert study("tpe").best(trials) is None


def test_a_grid_ends_with_every_choice_made_once() -> None:
    searched = study("grid")
    trials = search(searched, 100)
    assert len(trials) == searched.total(100) == 8
    found = {(each.params["depth"], each.params["kind"], each.params["bins"]) for each in trials}
    assert found == set(itertools.product((3, 5, 7, 9), ("a", "b"), (8,)))


def test_a_grid_that_has_no_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"too large a grid.*Use the sampler random"):
        study("grid", a={"int": [1, 10_000]}, b={"int": [1, 2]}).total(10)
    with pytest.raises(ConfigError, match="a grid needs every value"):
        study("grid", rate={"float": [0, 1]}).total(10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_value_each_or_none_at_all_is_searched_too(sampler: Sampler) -> None:
    single = study(sampler, a={"int": [3, 3]}, b={"choice": ["x"]}, c={"float": [0.5, 0.5]})
    trials = [ended(0, {**single.ask([]), "depth": 1, "kind": "a"})]
    assert single.ask(trials) == {"a": 3, "b": "x", "c": 0.5}
    assert Study(space=(), sampler=sampler, direction="minimize").total(30) == 1
    assert Study(space=(), sampler=sampler, direction="minimize").ask([]) == {}


@pytest.mark.parametrize(("direction", "number"), [("minimize", 1), ("maximize", 2)])
def test_of_equal_trials_the_first_is_best(direction: Any, number: int) -> None:
    values = (0.5, 0.1, 0.9, 0.9, 0.1)
    trials = [
        Trial(number=n, params={}, mlflow_run_id="r", state="complete", value=value)
        for n, value in enumerate(values)
    ]
    best = Study(space=(), sampler="tpe", direction=direction).best(trials)
    assert best is not None
    assert best.number == number
