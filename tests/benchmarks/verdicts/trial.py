"""One reference, one window of the same data, and what every rule says of the window as it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlretrain.drift.policy import DriftPolicy
from tests.benchmarks.verdicts import ours
from tests.benchmarks.verdicts.rules import RULES
from tests.benchmarks.verdicts.scenarios import CATEGORICAL, NUMERIC, SCENARIOS, Scenario
from tests.benchmarks.verdicts.tally import Tally, one_report

OURS = "mlretrain"
POLICY = DriftPolicy(min_rows=1)
WINDOWS = 13
"""A quarter of a year of weeks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is drawn and judged.

    :param rows: of a window; the reference has ``windows`` of them.
    :param timed: whether rows have a time, so that noise can be learnt.
    :param rules: those of other libraries that judge too.
    """

    scenario: str
    rows: int
    seed: int
    columns: int
    changes: tuple[str, ...]
    windows: int = WINDOWS
    timed: bool = True
    rules: tuple[str, ...] = ()


Outcome = Mapping[tuple[str, str], Tally]
"""By rule and change."""


def run(trial: Trial) -> tuple[Trial, Outcome]:
    """Draw, profile, judge."""
    import numpy as np

    scenario = named(trial.scenario)
    random = np.random.default_rng([trial.seed, trial.rows, _number(trial.scenario)])
    drawn = scenario.draw(random, trial.rows, trial.windows + 1, trial.columns)
    columns = {f"c{i:02}": column for i, column in enumerate(drawn)}
    reference = {name: column[: -trial.rows] for name, column in columns.items()}
    con = ours.connect()
    profile = ours.reference_profile(
        con, reference, windows=trial.windows, window_s=scenario.window_s, timed=trial.timed
    )
    outcome: dict[tuple[str, str], Tally] = {}
    for name in trial.changes:
        change = (CATEGORICAL if scenario.categories else NUMERIC)[name]
        rest = {key: column[-trial.rows :] for key, column in columns.items()}
        window = {key: change(random, column) if change else column for key, column in rest.items()}
        reports = ours.judge(con, profile, window, POLICY, together=scenario.together)
        tallies = (one_report((each.drifted for each in one.columns), one.verdict) for one in reports)
        outcome[OURS, name] = sum(tallies, Tally())
        for rule in trial.rules:
            outcome[rule, name] = _by_rule(rule, reference, window, trial, scenario)
    con.close()
    return trial, outcome


def named(name: str) -> Scenario:
    """The scenario of that name."""
    return next(each for each in SCENARIOS if each.name == name)


def _by_rule(
    rule: str, reference: Mapping[str, Any], window: Mapping[str, Any], trial: Trial, scenario: Scenario
) -> Tally:
    flags = [
        RULES[rule](reference[key], window[key], trial.windows, scenario.categories) for key in reference
    ]
    return one_report(flags, "drift" if sum(flags) >= 0.5 * len(flags) else "stable")


def _number(name: str) -> int:
    return [each.name for each in SCENARIOS].index(name)
