"""``mlretrain simulate``: a pipeline's policy over its own history, before it is switched on."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pydantic_core import PydanticCustomError

from mlretrain import wire
from mlretrain.errors import ConfigError
from mlretrain.simulation.simulate import Simulation, simulate
from mlretrain_factory.image import code_of
from mlretrain_factory.simulation.case import Case, read_case
from mlretrain_factory.simulation.past import bench
from mlretrain_factory.simulation.progress import Progress
from mlretrain_factory.simulation.question import notes, question
from mlretrain_factory.spec.quantity import parse_duration

CALENDAR = {"weekly": timedelta(days=7), "monthly": timedelta(days=30)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mlretrain simulate``."""
    parser.add_argument("pipeline", type=Path, help="a pipeline file")
    parser.add_argument(
        "--from", dest="start", required=True, metavar="DAY", help="when the first model takes over"
    )
    parser.add_argument("--to", dest="end", required=True, metavar="DAY", help="the end of the replay")
    parser.add_argument(
        "--train", action="store_true", help="train the models too, and say what they are worth"
    )
    parser.add_argument(
        "--sweep",
        nargs="+",
        default=[],
        metavar="KEY=VALUE,…",
        help="other values to try: drift.tolerance=0.02,0.05 retrain.cooldown=3d,7d",
    )
    parser.add_argument(
        "--fixed",
        default="weekly,monthly",
        metavar="CALENDAR,…",
        help="calendars to compare with: weekly, monthly (30 days), 14d; none (default: %(default)s)",
    )
    parser.add_argument(
        "--no-always", action="store_true", help="do not compare with a retrain at every window"
    )
    parser.add_argument("--data", metavar="URI", help="where the history is, instead of data.training.uri")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: <pipeline>.simulation")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the result as JSON, instead of a table")


def main(options: argparse.Namespace) -> None:
    """Replay; a table on stdout, a page, a plot and the data in a folder. Raises errors with a remedy."""
    from mlretrain.simulation.page import render_html
    from mlretrain.simulation.plot import render_svg
    from mlretrain.simulation.table import render_text

    case = read_case(
        options.pipeline,
        start=options.start,
        end=options.end,
        swept=options.sweep,
        data_uri=options.data,
        fixed=_calendars(options.fixed),
        always=not options.no_always,
    )
    out: Path = options.out or Path(f"{case.source.spec.pipeline}.simulation")
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with _stoppable():
        found = _run(case, out, train=options.train, jobs=max(1, options.jobs))
    found = replace(found, timings={**found.timings, "total": round(time.perf_counter() - started, 1)})
    (out / "simulation.json").write_bytes(wire.pretty(found))
    (out / "simulation.svg").write_text(render_svg(found), "utf-8")
    (out / "simulation.html").write_text(render_html(found), "utf-8")
    sys.stdout.write(wire.pretty(found).decode() if options.json else render_text(found))
    sys.stderr.write(f"{out / 'simulation.html'}\n")


def _run(case: Case, out: Path, *, train: bool, jobs: int) -> Simulation:
    asked = question(case)
    # Models and their database are as large as they are many: they go when the replay ends.
    with tempfile.TemporaryDirectory(dir=out, prefix=".models-") as folder, Progress(sys.stderr) as progress:
        progress.say(f"reading {case.uri}")
        past = bench(case, asked, folder=Path(folder) if train else None)
        if past.training is not None:
            sys.path.insert(0, str(code_of(case.source.path, case.source.spec.train.entrypoint)))
        return simulate(
            asked,
            past,
            jobs=jobs,
            notes=notes(case, trained=train),
            log=out / "simulation.log" if train else None,
            progress=progress,
        )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the processes, and leave nothing in the folder."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing was kept")
    finally:
        signal.signal(signal.SIGTERM, before)


def _calendars(text: str) -> dict[str, timedelta]:
    """Lengths of time by name."""
    names = [each.strip() for each in text.split(",") if each.strip() not in ("", "none")]
    try:
        return {each: CALENDAR.get(each) or parse_duration(each) for each in names}
    except PydanticCustomError:
        allowed = f"none, {', '.join(CALENDAR)}, or lengths such as 14d"
        raise ConfigError("not a calendar", where="--fixed", found=repr(text), allowed=allowed) from None
