"""What Parquet footers tell without reading rows: columns, kinds of values, spans of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from mlretrain.data.time_window import check_column
from mlretrain.errors import InvalidInput, MissingExtra, TransientError
from mlretrain.runtime.store import local_path
from mlretrain.wire import utc


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """One file's footer.

    :param kinds: column to kind of value: ``number``, ``text``, ``boolean``, ``time``, …
    :param span: first and last time in the time column; ``None`` if the file does not say.
    """

    uri: str
    kinds: Mapping[str, str]
    span: tuple[datetime, datetime] | None

    def overlaps(self, start: datetime | None, end: datetime | None) -> bool:
        """Whether rows may be in [``start``, ``end``)."""
        if self.span is None:
            return True
        return (end is None or self.span[0] < end) and (start is None or self.span[1] >= start)


def read_footers(uris: Sequence[str], time_column: str | None, filesystem: Any | None) -> list[Footer]:
    """The footers of ``uris``.

    :param filesystem: pyarrow's, for ``s3://`` URIs.
    :raises InvalidInput: a file is not Parquet, or has no ``time_column``.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda uri: _read_footer(uri, time_column, filesystem), uris))


def check_same_columns(footers: Sequence[Footer]) -> None:
    """Raises :class:`InvalidInput` naming the first column in which a file differs from the first one."""
    first = footers[0]
    for footer in footers[1:]:
        for name in sorted({*first.kinds, *footer.kinds}):
            before, now = first.kinds.get(name), footer.kinds.get(name)
            if before is None or now is None:
                lacking, having = (first, footer) if before is None else (footer, first)
                raise InvalidInput(
                    f"column {name!r} is missing", where=lacking.uri, found=f"it in {having.uri}"
                )
            if before != now and "null" not in (before, now):
                raise InvalidInput(
                    f"column {name!r} differs between files",
                    where=footer.uri,
                    found=now,
                    allowed=f"{before}, as in {first.uri}",
                )


def _read_footer(uri: str, time_column: str | None, filesystem: Any | None) -> Footer:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra.of("pyarrow", "data") from error
    try:
        if filesystem is None:
            file = parquet.ParquetFile(local_path(uri))
        else:
            file = parquet.ParquetFile(uri.removeprefix("s3://"), filesystem=filesystem)
    except pa.ArrowInvalid as error:
        raise InvalidInput("not a Parquet file, or a damaged one", where=uri, found=str(error)) from error
    except FileNotFoundError as error:
        raise InvalidInput("the file is gone", where=uri) from error
    except OSError as error:
        failure = InvalidInput if filesystem is None else TransientError
        raise failure("the file cannot be read", where=uri, found=str(error)) from error
    with file:
        kinds = {column.name: _kind(column.type) for column in file.schema_arrow}
        if time_column is not None:
            check_column(time_column, kinds, uri)
        return Footer(uri=uri, kinds=kinds, span=_span(file.metadata, time_column))


def _kind(column: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(column):
        return _kind(column.value_type)
    kinds = {
        "number": (types.is_integer, types.is_floating, types.is_decimal),
        "text": (types.is_string, types.is_large_string),
        "boolean": (types.is_boolean,),
        "time": (types.is_timestamp, types.is_date),
    }
    fitting = (kind for kind, tests in kinds.items() if any(test(column) for test in tests))
    return next(fitting, str(column))


def _span(metadata: Any, time_column: str | None) -> tuple[datetime, datetime] | None:
    """First and last time over all row groups, or ``None`` as soon as one does not say."""
    if time_column is None or not metadata.num_row_groups:
        return None
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if time_column not in paths:
        return None
    times: list[datetime] = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(paths.index(time_column)).statistics
        bounds = _bounds(statistics)
        if bounds is None:
            return None
        times += bounds
    return min(times), max(times)


def _bounds(statistics: Any) -> list[datetime] | None:
    if statistics is None or not statistics.has_min_max:
        return None
    bounds = [_instant(each) for each in (statistics.min, statistics.max)]
    return [each for each in bounds if each] if all(bounds) else None


def _instant(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return None
