"""Whatever is in a file, reading it ends in a pipeline or in faults with their places; nothing else."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain_factory.errors import Position, SpecError, SpecErrors
from mlretrain_factory.loader import load_source

EVERYTHING = Path(__file__).parents[1] / "golden" / "everything"
WRITTEN = (EVERYTHING / "pipeline.yaml").read_text()
SNIPPETS = [
    "\t",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ":",
    "\n",
    "  ",
    "&a",
    "*a",
    "!t ",
    "${",
    "}",
    '"',
    "'",
    "~",
    "0",
    "|",
    "? ",
]


def read(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("stacks", "suite.json"):
            (root / name).symlink_to(EVERYTHING / name)
        (root / "pipeline.yaml").write_bytes(data)
        errors = faults(root)
        assert all(str(error).startswith(folder) and error.position.line > 0 for error in errors)


def faults(root: Path) -> tuple[SpecError, ...]:
    try:
        load_source(root / "pipeline.yaml", {}, root)
    except SpecErrors as problem:
        return problem.errors or (SpecError(position=Position(""), message="no fault is named", remedy=""),)
    return ()


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_bytes(data: bytes) -> None:
    read(data)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WRITTEN)), st.integers(0, 20), st.sampled_from(SNIPPETS))
def test_a_slip_of_the_hand(at: int, deleted: int, inserted: str) -> None:
    read((WRITTEN[:at] + inserted + WRITTEN[at + deleted :]).encode())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([line for line in WRITTEN.splitlines() if ": " in line]),
    st.sampled_from(
        ["~", "3", "-1", "text", "[]", "{}", "[x, 3]", "{a: b}", "${nothing}", "1e400", "true", "''"]
    ),
)
def test_a_value_of_another_kind(line: str, value: str) -> None:
    key = line.partition(": ")[0]
    read(WRITTEN.replace(line, f"{key}: {value}").encode())
