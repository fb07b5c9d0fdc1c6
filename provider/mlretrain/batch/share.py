"""Which version scores a row: by a hash of the row, so that a repeat comes to the same.

The lowest version has the first hundredths, so that a version whose share grows keeps the rows that it had.
Copies go by other digits of the same hash: which rows are mirrored has nothing to do with who serves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain.data.time_window import quote

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMN = "mlretrain.share"
"""The column that :func:`share_sql` makes."""


def share_sql(columns: Sequence[str]) -> str:
    """A number from 0 to 9999 for each row, by the values of ``columns`` as text."""
    texts = ", ".join(f"coalesce(CAST({quote(name)} AS VARCHAR), chr(0))" for name in columns)
    return f"md5_number_lower(concat_ws(chr(31), {texts})) % 10000 AS {quote(COLUMN)}"


def served(numbers: NDArray[Any], weights: Mapping[str, int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The positions of the rows that each version scores."""
    import numpy as np

    hundredths, first = numbers % 100, 0
    for version in sorted(weights, key=int):
        last = first + weights[version]
        rows = np.flatnonzero((hundredths >= first) & (hundredths < last))
        first = last
        if len(rows):
            yield version, rows


def copied(numbers: NDArray[Any], share: int) -> NDArray[Any]:
    """The positions of the rows that a mirrored version gets copies of."""
    import numpy as np

    return np.flatnonzero(numbers // 100 < share)
