"""``python -m tests.benchmarks.drift [--rows 1e5,1e6] [--wide]``: whole processes, in turn, in one run."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.drift.process import Cost, measure
from tests.benchmarks.environments import Unavailable, cache, environment

CONTENDERS = Path(__file__).parent / "contenders"
ROUNDS = 5
WIDE_ROWS = 3_000_000
NEIGHBOURS = {
    "Evidently 0.7.23": ("with_evidently.py", ["evidently==0.7.23", "pandas<3", "pyarrow"]),
    "NannyML 0.13": (
        "with_nannyml.py",
        ["nannyml==0.13.*", "pandas<3", "pyarrow", "statsmodels", "setuptools<80"],
    ),
}
RAW, OURS = "raw scan (DuckDB)", "mlretrain"


def data(shape: str, rows: int, seed: int) -> Path:
    """A file of the cache, made in a process of its own if it is not there."""
    path = cache() / f"{shape}-{rows}-{seed}.parquet"
    if not path.exists():
        made = measure(_python("-m", "tests.benchmarks.drift.data", shape, str(path), str(rows), str(seed)))
        if made.failure:
            raise SystemExit(f"the data could not be made: {made.failure}")
    return path


def stored_profile(reference: Path) -> tuple[Path, Cost]:
    """The reference profile as training stores it, and what that cost, once."""
    path = reference.with_suffix(".profile.json")
    return path, measure(_python(str(CONTENDERS / "ours.py"), "--train", str(reference), str(path)))


def in_turn(commands: dict[str, list[str]], rounds: int) -> dict[str, Cost]:
    """The median of each command's rounds, after one that only warms the page cache."""
    seen: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            cost = measure(command)
            if number:
                seen[name].append(cost)
    return {name: median(costs) for name, costs in seen.items()}


def median(costs: Sequence[Cost]) -> Cost:
    """Median times, and the highest peak."""
    return Cost(
        wall_s=statistics.median(each.wall_s for each in costs),
        cpu_s=statistics.median(each.cpu_s for each in costs),
        peak=max(each.peak for each in costs),
        failure=next((each.failure for each in costs if each.failure), ""),
        output=costs[-1].output,
    )


def neighbours(reference: Path, current: Path, memory: int, timeout_s: float) -> dict[str, Cost | str]:
    """Each neighbour once; a line instead of a cost where it cannot be had."""
    found: dict[str, Cost | str] = {}
    for name, (script, requirements) in NEIGHBOURS.items():
        try:
            python = environment(script.removesuffix(".py").removeprefix("with_"), requirements)
        except Unavailable as why:
            found[name] = f"skipped: {why}"
            continue
        command = [str(python), "-W", "ignore", str(CONTENDERS / script), str(reference), str(current)]
        found[name] = measure(command, memory=memory, timeout_s=timeout_s)
    return found


def compare(rows: int, *, rounds: int, memory: int, timeout_s: float, alone: bool) -> None:
    """Print the table's lines for files of this many rows."""
    reference, current = data("narrow", rows, 1), data("narrow", rows, 2)
    profile, trained = stored_profile(reference)
    commands = {
        RAW: _python(str(CONTENDERS / "raw.py"), str(current)),
        OURS: _python(str(CONTENDERS / "ours.py"), str(profile), str(current)),
    }
    costs: dict[str, Cost | str] = {**in_turn(commands, rounds)}
    if not alone:
        costs |= neighbours(reference, current, memory, timeout_s)
    for name, cost in costs.items():
        print(line(rows, name, cost, costs[RAW], costs[OURS]), flush=True)
    print(line(rows, "mlretrain, the reference at training", trained, costs[RAW], costs[OURS]), flush=True)


def line(rows: int, name: str, cost: Cost | str, raw: Cost | str, ours: Cost | str) -> str:
    """A row of the table in Markdown."""
    if isinstance(cost, str) or isinstance(raw, str) or isinstance(ours, str):
        return f"| {rows:.0e} | {name} | {cost} | | | | |"
    if cost.failure:
        spent = f"{cost.cpu_s:.2f} | {cost.peak / 1e6:.0f}"
        return f"| {rows:.0e} | {name} | stopped: {cost.failure} | {spent} | | |"
    return (
        f"| {rows:.0e} | {name} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} | {cost.peak / 1e6:.0f} "
        f"| {cost.wall_s / raw.wall_s:.2f} | {cost.wall_s / ours.wall_s:.1f} |"
    )


def wide(rows: int) -> None:
    """Print what 1,000 columns cost."""
    path = data("wide", rows, 1)
    profile, trained = stored_profile(path)
    commands = {
        RAW: _python(str(CONTENDERS / "raw.py"), str(path)),
        OURS: _python(str(CONTENDERS / "ours.py"), str(profile), str(path)),
    }
    costs = in_turn(commands, 1)
    print(f"1,000 columns, {path.stat().st_size / 1e9:.1f} GB; profile {profile.stat().st_size / 1e3:.0f} kB")
    for name, cost in {**costs, "mlretrain, the reference at training": trained}.items():
        print(line(rows, name, cost, costs[RAW], costs[OURS]), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drift", description=__doc__)
    parser.add_argument("--rows", default="1e5,1e6,1e7", help="rows of the narrow files")
    parser.add_argument("--wide", action="store_true", help=f"1,000 columns × {WIDE_ROWS:.0e} rows instead")
    parser.add_argument("--wide-rows", type=float, default=WIDE_ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the scan and of ours; neighbours once")
    parser.add_argument(
        "--memory", type=float, default=10, help="gigabytes after which a neighbour is stopped"
    )
    parser.add_argument(
        "--timeout", type=float, default=900, help="seconds after which a neighbour is stopped"
    )
    parser.add_argument("--alone", action="store_true", help="without the neighbours")
    given = parser.parse_args(arguments)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; files in {cache()}\n")
    print("| rows | | wall s | CPU s | peak MB | × raw scan | × mlretrain |\n|---|---|---|---|---|---|---|")
    if given.wide:
        wide(int(given.wide_rows))
        return 0
    for rows in given.rows.split(","):
        compare(
            int(float(rows)),
            rounds=given.rounds,
            memory=int(given.memory * 1e9),
            timeout_s=given.timeout,
            alone=given.alone,
        )
    return 0


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", *arguments]


if __name__ == "__main__":
    sys.exit(main())
