"""Small real data files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

Write = Callable[..., Path]

ROWS = """
    SELECT i AS id, i * 0.5 AS value, 'it''s ' || i AS "na""me",
        TIMESTAMP '2013-01-01' + i * INTERVAL 1 HOUR AS at
    FROM range({first}, {last}) AS rows(i)
"""


def writer(folder: Path) -> Write:
    """Writes an hourly series from ``first`` to ``last``, or a query; the suffix says the format."""

    def write(name: str, first: int = 0, last: int = 24, query: str | None = None) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (query or ROWS).format(first=first, last=last)
        options = "FORMAT parquet" if path.suffix in (".parquet", ".pq") else "FORMAT csv, HEADER"
        with duckdb.connect() as con:
            con.execute(f"COPY ({text}) TO '{path}' ({options})")
        return path

    return write
