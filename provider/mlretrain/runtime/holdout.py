"""The rows that training has not seen, as it left them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.intervals import time_blocks
from mlretrain.runtime.store import read_uri
from mlretrain.scoring import Array

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """Rows with their truth.

    :param seconds: each row's time since 1970; ``None`` where times are not known.
    :param blocks: the block of time that each row belongs to, if time tells anything.
    """

    rows: pd.DataFrame
    truth: Array
    seconds: Array | None
    blocks: Array | None

    def __len__(self) -> int:
        return len(self.rows)


def read_holdout(
    uri: str,
    sha256: str,
    *,
    target: str,
    slices: Sequence[str],
    time_column: str | None,
    env: Mapping[str, str],
) -> HeldOut:
    """The holdout at ``uri``.

    :raises InvalidInput: it is not the one that training left.
    :raises ConfigError: the target or a slice is no column of it.
    """
    from mlretrain.data.frames import to_frame
    from mlretrain.data.read import connect

    data = read_uri(uri, env)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise InvalidInput(
            "the holdout has changed since training",
            where=uri,
            found=f"SHA-256 {found[:12]}…",
            allowed=f"{sha256[:12]}…",
            remedy="Train again: scores on different rows cannot be compared",
        )
    with tempfile.TemporaryDirectory(prefix="mlretrain-") as folder, connect() as con:
        path = Path(folder) / "holdout.parquet"
        path.write_bytes(data)
        rows = to_frame(con.read_parquet(str(path)))
    missing = [each for each in (target, *slices) if each not in rows.columns]
    if missing:
        raise ConfigError(
            f"the holdout has no column {', '.join(map(repr, missing))}",
            where="evaluate.slices" if target in rows.columns else "data.target",
            allowed=", ".join(map(str, rows.columns)),
        )
    seconds = _seconds(rows[time_column]) if time_column in rows.columns else None
    blocks = None if seconds is None else time_blocks(seconds)
    return HeldOut(rows=rows, truth=rows[target].to_numpy(), seconds=seconds, blocks=blocks)


def _seconds(column: pd.Series) -> Array:
    import numpy as np
    import pandas as pd

    times = pd.to_datetime(column, utc=True, errors="coerce")
    return np.asarray((times - pd.Timestamp(0, tz="UTC")).dt.total_seconds(), dtype=float)
