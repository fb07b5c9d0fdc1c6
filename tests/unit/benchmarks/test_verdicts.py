"""The pieces of ``tests.benchmarks.verdicts`` work; the rates that it counts are not tested here."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.verdicts import __main__ as program
from tests.benchmarks.verdicts.rules import RULES
from tests.benchmarks.verdicts.scenarios import NONE, NUMERIC, SCENARIOS, Scenario, tilt
from tests.benchmarks.verdicts.tally import Tally, one_report, wilson_upper
from tests.benchmarks.verdicts.trial import OURS, Trial, run


def trial(scenario: str, *changes: str) -> Trial:
    return Trial(
        scenario=scenario, rows=500, seed=1, columns=2, changes=changes, windows=6, rules=tuple(RULES)
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_scenario_draws_columns_of_all_windows(scenario: Scenario) -> None:
    drawn = list(scenario.draw(np.random.default_rng(1), 70, 3, 2))
    assert [len(each) for each in drawn] == [210, 210]
    assert {each.dtype.kind for each in drawn} == ({"i"} if scenario.categories else {"f"})


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_rule_sees_a_gross_change_and_nothing_in_equal_data(rule: object) -> None:
    assert callable(rule)
    random = np.random.default_rng(1)
    rows = random.standard_normal(5_000)
    assert rule(rows, rows + 3, 5, 0)
    assert not rule(rows, rows[:1_000], 5, 0)
    codes = random.integers(0, 10, 5_000)
    assert rule(codes, tilt(random, codes, by=0.9), 5, 10)
    assert not rule(codes, codes[:1_000], 5, 10)


def test_a_trial_judges_each_column_as_a_data_set_or_all_as_one() -> None:
    _, alone = run(trial("independent rows", NONE, "0.5 sd"))
    assert (alone[OURS, NONE].reports, alone[OURS, NONE].flagged) == (2, 0)
    assert alone[OURS, "0.5 sd"].drift == 2
    assert set(alone) == {(rule, change) for rule in (OURS, *RULES) for change in (NONE, "0.5 sd")}
    _, together = run(trial("one factor", NONE))
    assert (together[OURS, NONE].reports, together[OURS, NONE].columns) == (1, 2)


def test_the_same_trial_gives_the_same_outcome() -> None:
    assert run(trial("shops", *NUMERIC)) == run(trial("shops", *NUMERIC))


def test_tallies_add_up() -> None:
    total = one_report([True, False], "drift") + one_report([False, False], "unknown")
    assert total == Tally(reports=2, drift=1, unknown=1, alarmed=1, flagged=1, columns=4)
    assert total.column_rate == 0.25


@pytest.mark.parametrize(("found", "of", "upper"), [(0, 400, 0.0095), (1, 400, 0.0140), (0, 0, 1.0)])
def test_wilsons_bound(found: int, of: int, upper: float) -> None:
    assert wilson_upper(found, of) == pytest.approx(upper, abs=1e-4)


def test_every_part_has_trials_for_every_scenario_it_is_about() -> None:
    unchanged = list(program.unchanged(1_000, repeats=40))
    assert {each.scenario for each in unchanged} == {each.name for each in SCENARIOS}
    assert sum(each.columns for each in unchanged if each.scenario == "days") == 40
    for part in ("rules", "power"):
        assert {each.scenario for each in program.PARTS[part](1_000, 40)} == set(program.PLAIN)


def test_tables_are_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    tally = one_report([False], "stable")
    totals = {("independent rows", 1_000, 13, OURS, NONE): tally}
    program.print_unchanged(totals, [1_000], 13)
    program.print_rules(totals, [1_000], 13, "independent rows")
    printed = capsys.readouterr().out
    assert "| independent rows | 0 of 1 (≤ 79 %); 0 |" in printed.splitlines()
    assert "| mlretrain | 0 |" in printed.splitlines()
