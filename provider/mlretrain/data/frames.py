"""Rows as the pandas frame that every model library understands, and frames as Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation
    from pandas import DataFrame


def to_frame(relation: DuckDBPyRelation) -> DataFrame:
    """``relation`` in memory; numbers and booleans with nulls are doubles with NaN, never pandas' own types.

    Which of both DuckDB gives depends on its version and on pandas', and few model libraries take the latter.
    """
    import pandas as pd

    frame: DataFrame = relation.df()
    for name, column in frame.items():
        if isinstance(column.dtype, pd.api.extensions.ExtensionDtype) and column.dtype.kind in "iufb":
            nan = float("nan")
            frame[name] = column.to_numpy("float64", na_value=nan) if column.hasnans else column.to_numpy()
    return frame


def to_parquet(relation: DuckDBPyRelation) -> bytes:
    """``relation`` as one Parquet file; the same rows in the same order give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="mlretrain-") as folder:
        path = Path(folder) / "rows.parquet"
        relation.write_parquet(str(path))
        return path.read_bytes()
