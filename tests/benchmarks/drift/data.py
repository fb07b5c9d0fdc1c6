"""``python -m tests.benchmarks.drift.data narrow|wide FILE ROWS SEED``: the same arguments, the same bytes.

Run as a process of its own, so that the one that measures stays small.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROW_GROUP = 122_880
"""DuckDB's own; a piece is one row group, so a file needs no more memory than one."""
DAYS = 90
CARDINALITIES = (5, 10, 50, 100, 500)
WIDE_NUMBERS, WIDE_CATEGORIES = 900, 100


def narrow(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """20 numeric columns (12 normal, 4 exponential, 4 integers), 5 categorical, and the time of each row."""
    import numpy as np

    for start, piece, random in _pieces(rows, seed):
        columns: dict[str, Any] = {f"x{i}": random.normal(i, i + 1, piece) for i in range(12)}
        columns |= {f"e{i}": random.exponential(size=piece) for i in range(4)}
        columns |= {f"i{i}": random.integers(0, 1000, piece) for i in range(4)}
        for i, many in enumerate(CARDINALITIES):
            columns[f"c{i}"] = _words(random.integers(0, many, piece), f"c{i}_", many)
        micros = (np.arange(start, start + piece) * (DAYS * 86_400_000_000 // rows)).astype("timedelta64[us]")
        columns["t"] = np.datetime64("2013-01-01T00:00:00", "us") + micros
        yield columns


def wide(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """1,000 columns, one in ten categorical; numbers have two decimals, or the file would have 24 GB."""
    import numpy as np

    for _, piece, random in _pieces(rows, seed):
        drawn = random.normal(size=piece + WIDE_NUMBERS).round(2).astype(np.float32)
        words = random.integers(0, 50, piece + WIDE_CATEGORIES)
        columns: dict[str, Any] = {f"x{i:03}": drawn[i : i + piece] for i in range(WIDE_NUMBERS)}
        columns |= {f"c{i:02}": _words(words[i : i + piece], "word_", 50) for i in range(WIDE_CATEGORIES)}
        yield columns


def _pieces(rows: int, seed: int) -> Iterator[tuple[int, int, Any]]:
    import numpy as np

    random = np.random.default_rng(seed)
    for start in range(0, rows, ROW_GROUP):
        yield start, min(ROW_GROUP, rows - start), random


def _words(indices: Any, prefix: str, many: int) -> Any:
    import pyarrow as pa

    words = pa.array([f"{prefix}{j}" for j in range(many)])
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype("int32")), words).cast(pa.string())


def write(path: Path, pieces: Iterator[dict[str, Any]]) -> None:
    """Write Parquet with pyarrow's defaults; the name appears only when the file is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    unfinished = path.with_suffix(".unfinished")
    writer = None
    for columns in pieces:
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(unfinished, table.schema)
        writer.write_table(table, row_group_size=ROW_GROUP)
    if writer:
        writer.close()
        unfinished.rename(path)


if __name__ == "__main__":
    shape, file, rows, seed = sys.argv[1:]
    write(Path(file), {"narrow": narrow, "wide": wide}[shape](int(rows), int(seed)))
