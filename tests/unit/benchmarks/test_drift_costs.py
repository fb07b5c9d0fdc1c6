"""The pieces of ``tests.benchmarks.drift`` work; what they measure is not tested here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import environments
from tests.benchmarks.drift import __main__ as program
from tests.benchmarks.drift.data import ROW_GROUP, narrow, wide, write
from tests.benchmarks.drift.process import Cost, measure


def cost(wall_s: float, peak: int = 0, failure: str = "") -> Cost:
    return Cost(wall_s=wall_s, cpu_s=wall_s, peak=peak, failure=failure)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first.parquet", "second.parquet", "other.parquet"))
    write(first, narrow(1_000, seed=1))
    write(second, narrow(1_000, seed=1))
    write(other, narrow(1_000, seed=2))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_pieces_are_row_groups() -> None:
    import pyarrow as pa

    sizes = [pa.table(piece).num_rows for piece in narrow(ROW_GROUP + 5, seed=1)]
    assert sizes == [ROW_GROUP, 5]
    assert len(next(narrow(10, seed=1))) == 26
    assert len(next(wide(10, seed=1))) == 1_000


@pytest.mark.parametrize("contender", ["raw.py", "ours.py"])
def test_a_contender_reads_its_file(tmp_path: Path, contender: str) -> None:
    path, profile = tmp_path / "rows.parquet", tmp_path / "profile.json"
    write(path, narrow(2_000, seed=1))
    script = str(program.CONTENDERS / contender)
    arguments = [str(path)]
    if contender == "ours.py":
        subprocess.run([sys.executable, script, "--train", str(path), str(profile)], check=True)
        arguments = [str(profile), str(path)]
    done = subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("25 columns" if contender == "raw.py" else "0 of 25 columns")


def test_a_process_is_measured_and_its_failure_told() -> None:
    fine = measure([sys.executable, "-c", "print('done')"])
    assert (fine.output, fine.failure) == ("done\n", "")
    assert fine.peak > 1_000_000
    assert measure([sys.executable, "-c", "raise SystemExit('no such file')"]).failure == "no such file"


def test_a_process_that_holds_too_much_is_stopped() -> None:
    wants = "import time; held = b'x' * 300_000_000; time.sleep(60)"
    assert measure([sys.executable, "-c", wants], memory=100_000_000).failure == "over 0.1 GB"


def test_a_neighbour_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str, requirements: object) -> Path:
        raise environments.Unavailable("uv is not installed")

    monkeypatch.setattr(program, "environment", refuse)
    found = program.neighbours(tmp_path, tmp_path, memory=1, timeout_s=1)
    assert set(found.values()) == {"skipped: uv is not installed"}


def test_a_line_has_ratios_where_there_is_something_to_compare() -> None:
    raw, ours = cost(2.0), cost(4.0, peak=100_000_000)
    assert program.line(1_000, "us", ours, raw, ours) == "| 1e+03 | us | 4.00 | 4.00 | 100 | 2.00 | 1.0 |"
    assert "stopped: over 10 GB" in program.line(1_000, "it", cost(1, failure="over 10 GB"), raw, ours)
    assert "skipped" in program.line(1_000, "it", "skipped: no uv", raw, ours)


def test_the_median_keeps_the_highest_peak() -> None:
    both = program.median([cost(1.0, 5), cost(3.0, 9), cost(2.0, 7)])
    assert (both.wall_s, both.peak) == (2.0, 9)
