"""``python -m tests.benchmarks.verdicts [--repeats N] [--rows 1e3,1e4,1e6]``: three tables in Markdown.

How the rules of other libraries and ours judge independent rows; how often they cry wolf on data of which the
rows depend on each other, or have heavy tails, or many categories; and what they find.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tests.benchmarks.verdicts.rules import RULES
from tests.benchmarks.verdicts.scenarios import CATEGORICAL, NONE, NUMERIC, SCENARIOS
from tests.benchmarks.verdicts.tally import Tally, wilson_upper
from tests.benchmarks.verdicts.trial import OURS, WINDOWS, Trial, named, run

Totals = dict[tuple[str, int, int, str, str], Tally]
"""By scenario, rows, windows of the reference, rule and change."""

LARGE = 50_000
AT_ONCE = 20
"""Data sets of one column that are profiled in one go, to save time."""
CORRELATED = 5
LEARNT = "JS > mean + 3 sd of the reference's windows (NannyML)"
PLAIN = ("independent rows", "1 % outliers", "50 categories, uniform")


def unchanged(rows: int, repeats: int) -> Iterator[Trial]:
    """So many data sets of each sort; beyond :data:`LARGE` rows a tenth.

    They have one column where columns do not depend on each other: the hardest case for the verdict, which is
    wrong whenever the column is.
    """
    large = rows > LARGE
    wanted = max(1, repeats // 10) if large else repeats
    at_once = 2 if large else AT_ONCE
    for scenario in SCENARIOS:
        for seed in range(wanted if scenario.together else -(-wanted // at_once)):
            yield Trial(
                scenario=scenario.name,
                rows=rows,
                seed=seed,
                columns=CORRELATED if scenario.together else at_once,
                changes=(NONE,),
                rules=tuple(RULES) if seed < 2 and not large else (),
            )


def changed(rows: int, repeats: int, *, alone: bool) -> Iterator[Trial]:
    """Every change, judged by every rule; ``alone``: a reference of one window and without time.

    Beyond :data:`LARGE` rows other rules, which sort, judge a few data sets of one window, and no others.
    """
    large = rows > LARGE
    rules = [rule for rule in RULES if not (alone and rule == LEARNT) and not (large and not alone)]
    for seed in range(max(1, repeats // (100 if large and alone else 20))):
        for name in PLAIN:
            yield Trial(
                scenario=name,
                rows=rows,
                seed=seed,
                columns=1 if large and alone else 2,
                changes=tuple(CATEGORICAL if named(name).categories else NUMERIC),
                windows=1 if alone else WINDOWS,
                timed=not alone,
                rules=tuple(rules),
            )


PARTS: dict[str, Callable[[int, int], Iterator[Trial]]] = {
    "rules": partial(changed, alone=True),
    "unchanged": unchanged,
    "power": partial(changed, alone=False),
}


def measure(trials: Sequence[Trial], processes: int) -> Totals:
    """Run them, first those of the lowest seeds, and add up; Ctrl-C keeps what is there."""
    totals: Totals = defaultdict(Tally)
    started, number = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(processes, signal.signal, _IGNORED) as pool:
        try:
            for trial, outcome in pool.imap_unordered(run, sorted(trials, key=lambda each: each.seed)):
                number += 1
                for (rule, change), tally in outcome.items():
                    totals[trial.scenario, trial.rows, trial.windows, rule, change] += tally
                if sys.stderr.isatty():
                    spent = time.monotonic() - started
                    print(f"\r{number} of {len(trials)} trials, {spent:.0f} s", end="", file=sys.stderr)
        except KeyboardInterrupt:
            pool.terminate()
    print(f"{number} of {len(trials)} trials in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return totals


_IGNORED = (signal.SIGINT, signal.SIG_IGN)


def print_rules(totals: Totals, rows: Sequence[int], windows: int, scenario: str) -> None:
    """A line for each rule: the share of columns flagged, by rows and change."""
    changes = tuple(CATEGORICAL if named(scenario).categories else NUMERIC)
    print(f"\n**{scenario}**, the reference is {windows} × the window; share of columns flagged: ", end="")
    print(" / ".join(changes))
    print(f"\n{_head('rule', rows)}")
    for rule in (*RULES, OURS):
        cells = []
        for n in rows:
            seen = [totals.get((scenario, n, windows, rule, change)) for change in changes]
            cells.append(" / ".join(f"{tally.column_rate:.2g}" for tally in seen if tally))
        if any(cells):
            print(f"| {rule} | {' | '.join(cells)} |")


def print_unchanged(totals: Totals, rows: Sequence[int], windows: int) -> None:
    """A line for each scenario: ours by rows, then what others flag."""
    print("\nUnchanged data, mlretrain: false verdicts on data sets (upper end of Wilson's 95 % interval);")
    print("share of columns flagged falsely\n")
    print(_head("data", rows))
    for scenario in SCENARIOS:
        seen = [totals.get((scenario.name, n, windows, OURS, NONE), Tally()) for n in rows]
        print(f"| {scenario.name} | {' | '.join(_false_verdicts(each) for each in seen)} |")
    every = [
        sum((totals.get((each.name, n, windows, OURS, NONE), Tally()) for each in SCENARIOS), Tally())
        for n in rows
    ]
    print(f"| all | {' | '.join(_false_verdicts(each) for each in every)} |")
    print("\nUnchanged data, other rules: share of columns flagged falsely, by rows of a window\n")
    print(f"| data | rows | {' | '.join(RULES)} |\n|---|---|{'---|' * len(RULES)}")
    for scenario in SCENARIOS:
        for n in rows:
            found = [totals.get((scenario.name, n, windows, rule, NONE)) for rule in RULES]
            if any(found):
                rates = " | ".join(f"{tally.column_rate:.2g}" if tally else "" for tally in found)
                print(f"| {scenario.name} | {n:,} | {rates} |")


def _false_verdicts(tally: Tally) -> str:
    bound = 100 * wilson_upper(tally.drift, tally.reports)
    counted = f"{tally.drift} of {tally.reports} (≤ {bound:.2g} %); {tally.column_rate:.2g}"
    return counted if tally.reports else ""


def _head(first: str, rows: Sequence[int]) -> str:
    return f"| {first} | {' | '.join(f'n = {each:,}' for each in rows)} |\n|---|{'---|' * len(rows)}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.verdicts", description=__doc__)
    parser.add_argument("--repeats", type=int, default=400, help="data sets per sort of data; a tenth at 1e6")
    parser.add_argument("--rows", default="1e3,1e4,1e6", help="rows of a window")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--data", nargs="*", default=[], help="only these sorts of data")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args(arguments)
    sizes = [int(float(each)) for each in given.rows.split(",")]
    for part in given.parts.split(","):
        every = [trial for n in sizes for trial in PARTS[part](n, given.repeats)]
        trials = [trial for trial in every if not given.data or trial.scenario in given.data]
        totals = measure(trials, given.processes)
        if part == "unchanged":
            print_unchanged(totals, sizes, trials[0].windows)
        else:
            for scenario in PLAIN:
                print_rules(totals, sizes, trials[0].windows, scenario)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
