"""``python raw.py CURRENT``: one DuckDB query that reads every value of every column but the time.

``sum`` of a number; of a string the ``sum`` of its length in bytes, for which each row's string has to be
looked up, unlike for a ``count``, or for a ``max`` out of the file's statistics.
"""

import sys

import duckdb

con = duckdb.connect()
rows = con.read_parquet(sys.argv[1])
values = [
    f"sum(strlen({name}))" if kind.id == "varchar" else f"sum({name})"
    for name, kind in zip(rows.columns, rows.types, strict=True)
    if name != "t"
]
con.execute(f"SELECT {', '.join(values)} FROM read_parquet('{sys.argv[1]}')").fetchall()
print(f"{len(values)} columns")
