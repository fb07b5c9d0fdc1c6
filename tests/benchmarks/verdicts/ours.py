"""The product's own verdict on arrays, by the code that a monitor runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, build_profile
from mlretrain.drift.verdict import DriftReport

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Array = Any
START_S = 2_240 * 7 * 86_400
"""The first window begins where a time chunk of seven days does, in December 2012."""


def connect() -> DuckDBPyConnection:
    """A database of one thread: two of these programs' processes run side by side."""
    import duckdb

    con = duckdb.connect(config={"threads": 1})
    con.execute("SET enable_progress_bar = false")
    return con


def reference_profile(
    con: DuckDBPyConnection, columns: Mapping[str, Array], *, windows: int, window_s: int, timed: bool
) -> DriftProfile:
    """As training makes it; the noise is learnt from the reference's windows if its rows have a time."""
    rows = table(columns, span_s=windows * window_s)
    times: dict[str, Any] = {"time_column": "t", "chunk_s": window_s} if timed else {"exclude": ["t"]}
    return build_profile(con.from_arrow(rows), **times)


def judge(
    con: DuckDBPyConnection,
    reference: DriftProfile,
    columns: Mapping[str, Array],
    policy: DriftPolicy,
    *,
    together: bool,
) -> list[DriftReport]:
    """The report on a window; or, unless columns are judged together, on each as a data set of its own."""
    window = build_profile(con.from_arrow(table(columns, span_s=1)), exclude=["t"], reference=reference)
    if together:
        return [compare(reference, window, policy)]
    return [
        compare(replace(reference, columns=(one,)), replace(window, columns=(other,)), policy)
        for one, other in zip(reference.columns, window.columns, strict=True)
    ]


def table(columns: Mapping[str, Array], *, span_s: int) -> Any:
    """An Arrow table with the time ``t``; integers are codes of categories."""
    import numpy as np
    import pyarrow as pa

    rows = len(next(iter(columns.values())))
    micros = START_S * 1_000_000 + np.arange(rows) * (span_s * 1_000_000 // rows)
    return pa.table({"t": micros.astype("datetime64[us]"), **{k: _column(v) for k, v in columns.items()}})


def _column(values: Array) -> Any:
    import pyarrow as pa

    if values.dtype.kind == "f":
        return pa.array(values)
    words = pa.array([f"word {code}" for code in range(int(values.max()) + 1)])
    return pa.DictionaryArray.from_arrays(pa.array(values.astype("int32")), words)
