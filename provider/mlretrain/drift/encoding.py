"""Two sets of rows as numbers that trees can be fitted on, in folds that are stretches of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.drift.sample import TIME

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FOLDS = 5
FEWEST = 50
"""Rows that each side must have, so that every fold has ten."""

_CELLS = 500_000
"""Rows times columns of one side; wide data is told apart by fewer rows, in the same time."""
_CATEGORIES = 255
"""scikit-learn's trees know no more; all rarer values share the last."""
_TEXT_DISTINCT = 0.5
"""Strings that are mostly distinct are free text or keys: only their length can come again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Both sets, the first above the second, with ranks for numbers: trees ask for their order alone.

    :param second: 1 for the rows of the second set, else 0.
    """

    names: list[str]
    categorical: list[bool]
    values: Floats
    second: Ints
    folds: Ints


def encode(first: pa.Table, second: pa.Table) -> Rows | str:
    """The columns that both have and that vary, or why there are none."""
    import numpy as np

    kinds = shared_columns(first, second)
    if not kinds:
        return "no column is in both the reference and the window"
    most = max(_CELLS // len(kinds), FEWEST)
    tables = [_thinned(each, most) for each in (first, second)]
    names, categorical, columns = [], [], []
    for name, kind in kinds.items():
        encoded, is_category = _numbers(tables, name, kind)
        if _varies(encoded):
            names.append(name)
            categorical.append(is_category)
            columns.append(encoded)
    if not names:
        return "every column holds one value only"
    return Rows(
        names=names,
        categorical=categorical,
        values=np.column_stack(columns),
        second=np.repeat([0, 1], [each.num_rows for each in tables]),
        folds=np.concatenate([_blocks(each) for each in tables]),
    )


def _thinned(table: pa.Table, most: int) -> pa.Table:
    import numpy as np

    if table.num_rows <= most:
        return table
    return table.take(np.linspace(0, table.num_rows - 1, most).round().astype(np.int64))


def shared_columns(first: pa.Table, second: pa.Table) -> dict[str, str]:
    """The columns that both tables have, by kind: ``number``, ``boolean`` or ``text``."""
    ours, theirs = _kinds(first), _kinds(second)
    return {name: kind for name, kind in ours.items() if theirs.get(name) == kind}


def _kinds(table: pa.Table) -> Mapping[str, str]:
    """The columns that can be compared; instants move on with the calendar, so they tell nothing."""
    from pyarrow import types

    def kind(column: Any) -> str | None:
        if types.is_boolean(column):
            return "boolean"
        if types.is_integer(column) or types.is_floating(column) or types.is_decimal(column):
            return "number"
        return "text" if types.is_string(column) or types.is_large_string(column) else None

    found = {field.name: kind(field.type) for field in table.schema if field.name != TIME}
    return {name: each for name, each in found.items() if each}


def _numbers(tables: list[pa.Table], name: str, kind: str) -> tuple[Floats, bool]:
    """The column of both tables as numbers, missing ones NaN, and whether they are categories."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    target = pa.large_string() if kind == "text" else pa.float64()
    whole = pa.chunked_array([each[name].cast(target, safe=False) for each in tables]).combine_chunks()
    if kind == "text":
        codes = _codes(whole)
        if codes is not None:
            return codes, True
        whole = pc.utf8_length(whole).cast(pa.float64())
    numbers = whole.to_numpy(zero_copy_only=False)
    usable = ~np.isnan(numbers)
    ranks = np.full(len(numbers), np.nan)
    ranks[usable] = np.unique(numbers[usable], return_inverse=True)[1]
    return ranks, False


def _codes(strings: Any) -> Floats | None:
    """A number for each of the most frequent values; none if hardly any comes again."""
    import numpy as np

    encoded = strings.dictionary_encode()
    places = encoded.indices.to_numpy(zero_copy_only=False).astype(float)
    usable = ~np.isnan(places)
    values = encoded.dictionary.to_pylist()
    if len(values) > _TEXT_DISTINCT * usable.sum():
        return None
    counts = np.bincount(places[usable].astype(int), minlength=len(values))
    ranked = sorted(range(len(values)), key=lambda i: (-counts[i], values[i]))
    code = np.full(len(values), _CATEGORIES - 1.0)
    code[ranked[: _CATEGORIES - 1]] = np.arange(min(len(values), _CATEGORIES - 1))
    result = np.full(len(places), np.nan)
    result[usable] = code[places[usable].astype(int)]
    return result


def _varies(values: Floats) -> bool:
    import numpy as np

    missing = np.isnan(values)
    return bool(missing.any() and not missing.all()) or len(np.unique(values[~missing])) > 1


def _blocks(table: pa.Table) -> Ints:
    """Each row's fold: as many rows in each, one stretch of time, or by turns where times are not known."""
    import numpy as np

    order = np.arange(table.num_rows)
    if TIME not in table.column_names:
        return order % FOLDS
    times = table[TIME].to_numpy().astype("datetime64[us]").astype(np.int64)
    folds = np.empty_like(order)
    folds[np.argsort(times, kind="stable")] = order * FOLDS // table.num_rows
    return folds
