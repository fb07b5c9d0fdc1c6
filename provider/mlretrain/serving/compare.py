"""How a mirrored version's answer differs from the one that was served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.serving.columns import to_scalars

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-6
"""Numbers that differ by no more than this share of the larger are the same number, computed elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two answers to the same rows.

    :param rows: how many rows were compared.
    :param differing: how many of them have another prediction.
    :param differences: of predictions that are numbers, how far apart they are, in their own unit.
    """

    rows: int
    differing: int
    differences: tuple[float, ...] = ()


def compare(served: Any, mirrored: Any, rows: int) -> Comparison:
    """Row by row, each as the one value that the prediction log keeps of it.

    Numbers agree within :data:`TOLERANCE`, and a missing one with a missing one; everything else, labels and
    truth values among them, has to be equal.
    """
    import numpy as np

    one, other = to_scalars(served, rows), to_scalars(mirrored, rows)
    numbers = _numbers(one), _numbers(other)
    if numbers[0] is None or numbers[1] is None:
        differing = sum(a != b for a, b in zip(one, other, strict=True))
        return Comparison(rows=rows, differing=differing)
    with np.errstate(invalid="ignore"):
        apart = np.abs(numbers[0] - numbers[1])
        largest = np.maximum(np.abs(numbers[0]), np.abs(numbers[1]))
        same = np.isfinite(apart) & (apart <= TOLERANCE * largest) | (numbers[0] == numbers[1])
    same |= np.isnan(numbers[0]) & np.isnan(numbers[1])
    known = apart[np.isfinite(apart)]
    return Comparison(rows=rows, differing=int((~same).sum()), differences=tuple(known.tolist()))


def _numbers(values: list[Any]) -> NDArray[Any] | None:
    """``values`` as numbers, ``None`` as one that is missing; nothing if they are something else."""
    import numpy as np

    try:
        found = np.array([np.nan if value is None else value for value in values])
    except ValueError:
        return None
    return found.astype(float) if found.dtype.kind in "iuf" and found.ndim == 1 else None
