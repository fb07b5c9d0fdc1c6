"""Requests of any shape as one Parquet table whose columns keep their types from file to file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa

RESERVED = ("prediction", "model_version", "served_at", "request_id")
"""Columns that the log adds; a request's own column of that name is kept as ``input_<name>``."""


class Answered(Protocol):
    """What a row of the log is made from."""

    @property
    def version(self) -> str: ...
    @property
    def served_at(self) -> datetime: ...
    @property
    def request_id(self) -> str: ...
    @property
    def rows(self) -> Any: ...
    @property
    def predictions(self) -> Any: ...


def row_count(rows: Any) -> int:
    """How many rows a request asked about."""
    if isinstance(rows, dict):
        return max((_length(column) for column in rows.values()), default=1)
    return _length(rows)


def to_table(answered: Sequence[Answered], known: pa.Schema | None) -> pa.Table:
    """All rows of all requests, with the columns of ``known`` first, in its types where the values allow it.

    Types are bool, int64, double, string and UTC timestamps; a column that does not fit its known type takes
    the wider one, in the end string. Values that are no scalars are kept as JSON. A column without any value
    yet has no type yet and is left out.
    """
    import pandas as pd
    import pyarrow as pa

    frames = [to_frame(each.rows) for each in answered]
    counts = [len(frame) for frame in frames]
    rows = sum(counts)
    pairs = zip(answered, counts, strict=True)
    predicted = [value for each, count in pairs for value in to_scalars(each.predictions, count)]
    types = {} if known is None else {name: known.field(name).type for name in known.names}
    stacked = pd.concat(frames, ignore_index=True)
    columns = {_column_name(name): stacked[name] for name in stacked.columns}
    columns["prediction"] = pd.Series(predicted)
    found = {name: to_array(column, types.get(name)) for name, column in columns.items()}
    found |= _repeated(answered, counts)
    arrays = {name: found.get(name, pa.nulls(rows, types.get(name))) for name in (*types, *found)}
    return pa.table({name: array for name, array in arrays.items() if not pa.types.is_null(array.type)})


def to_frame(rows: Any) -> pd.DataFrame:
    """A request's rows as MLflow parsed them (frame, array, dict of arrays, list) as a frame."""
    import numpy as np
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return rows
    if isinstance(rows, dict):
        count = row_count(rows)
        return pd.DataFrame({name: _items(column, count) for name, column in rows.items()})
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        return pd.DataFrame(rows)
    if _length(rows) and all(isinstance(row, dict) for row in rows):
        return pd.DataFrame(list(rows))
    return pd.DataFrame({"input": _items(rows, _length(rows))})


def to_scalars(predictions: Any, count: int) -> list[Any]:
    """One value per row: the prediction, the probability of the positive class, or the likeliest class.

    Of columns of probabilities (they sum to 1, or to no number) the second is kept if there are two, else the
    position of the largest; other predictions with several values per row are kept as JSON.
    """
    import numpy as np
    import pandas as pd

    if not isinstance(predictions, (pd.DataFrame, np.ndarray)):
        return _items(predictions, count)
    values = np.asarray(predictions)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 2 and values.dtype.kind == "f" and not (abs(values.sum(axis=1) - 1) > 1e-3).any():
        values = values[:, 1] if values.shape[1] == 2 else values.argmax(axis=1)
    return _items(values, count)


def to_array(values: pd.Series[Any], known: pa.DataType | None) -> pa.Array:
    """``values`` in one of the log's types: ``known`` if they fit, else the narrowest that holds both."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)
    try:
        array = _plain(pa.Array.from_pandas(values))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        array = _texts(values)
    if known is None or array.type == known:
        return array
    if pa.types.is_null(array.type):
        return array.cast(known)
    numbers = (pa.int64(), pa.float64())
    if array.type in numbers and known in numbers:
        try:
            return array.cast(known)
        except pa.ArrowInvalid:
            return array.cast(pa.float64(), safe=False)
    return _texts(values)


def _plain(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return array
    if pa.types.is_integer(kind):
        return array.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.float64())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us", "UTC"), safe=False)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array.cast(pa.string())
    return _texts(array.to_pandas())


def _texts(values: pd.Series[Any]) -> pa.Array:
    import pandas as pd
    import pyarrow as pa

    def text(value: Any) -> str | None:
        if isinstance(value, str):
            return value
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return None
        return json.dumps(value, default=_jsonable)

    return pa.array([text(value) for value in values], pa.string())


def _jsonable(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _repeated(answered: Sequence[Answered], counts: list[int]) -> dict[str, pa.Array]:
    """What is the same for all rows of a request."""
    import pyarrow as pa

    pairs = list(zip(answered, counts, strict=True))
    kind = pa.timestamp("us", "UTC")
    return {
        "model_version": pa.array([each.version for each, n in pairs for _ in range(n)], pa.string()),
        "served_at": pa.array([each.served_at for each, n in pairs for _ in range(n)], kind),
        "request_id": pa.array([each.request_id for each, n in pairs for _ in range(n)], pa.string()),
    }


def _length(rows: Any) -> int:
    if isinstance(rows, (str, bytes)) or not hasattr(rows, "__len__"):
        return 1
    return len(rows) if getattr(rows, "ndim", 1) else 1


def _items(values: Any, count: int) -> list[Any]:
    """``values`` as ``count`` items; one value that is no list of that length stands for itself."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or _length(values) != count:
        return [values, *[None] * (count - 1)] if count else []
    items = values.tolist() if hasattr(values, "tolist") else list(values)
    return items if isinstance(items, list) else [items]


def _column_name(name: Any) -> str:
    return f"input_{name}" if name in RESERVED else str(name)
