"""The parts that a dataset is scored in: its files, or the rows with the same value in a column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as quote_path

from mlretrain.batch.share import share_sql
from mlretrain.data.dataset import DataFile, Dataset
from mlretrain.data.files import verify
from mlretrain.data.read import reading, verified
from mlretrain.data.time_window import check_column, literal, quote
from mlretrain.errors import ConfigError
from mlretrain.wire import digest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

MOST = 10_000
"""Partitions of one dataset; beyond, a column is no sensible one to partition by."""

_TIMES = ("TIMESTAMP", "DATE")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Rows that are scored together, into one object.

    :param path: of the object, below the output's folder.
    :param input: a digest of the rows.
    :param file: the file that they are in; ``None``: they are those that fulfil ``where``.
    """

    path: str
    input: str
    rows: int
    file: DataFile | None = None
    where: str = ""


class Source:
    """The rows of a dataset, in partitions.

    :param key: the columns that say which version scores a row; none: all.
    :param partition_by: a column, times in it by their date in UTC; none: by file.
    :raises InvalidInput: a file has changed, or there is no such column.
    """

    def __init__(
        self,
        con: DuckDBPyConnection,
        dataset: Dataset,
        *,
        key: Sequence[str] = (),
        partition_by: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        verify(dataset.files, env)
        self._con, self._dataset, self._env = con, dataset, env
        whole = verified(con, dataset, env)
        self.types = dict(zip(whole.columns, map(str, whole.types), strict=True))
        """The columns of all files, and DuckDB's types for them."""
        for name in (*key, *([partition_by] if partition_by else [])):
            check_column(name, self.types, dataset.uri)
        self._share = share_sql(key or sorted(self.types))
        self._partition_by = partition_by

    def partitions(self) -> list[Partition]:
        """All that have rows, in order."""
        with reading(self._dataset.uri):
            found = list(self._by_value() if self._partition_by else self._by_file())
        return sorted(found, key=lambda each: each.path)

    def sample(self, rows: int) -> Any:
        """The first rows as an Arrow table, without shares."""
        with reading(self._dataset.uri):
            return self._typed(verified(self._con, self._dataset, self._env).limit(rows)).to_arrow_table()

    def batches(self, partition: Partition, rows: int) -> Iterator[Any]:
        """The partition's rows as Arrow tables of so many rows, the last column being the shares."""
        import pyarrow as pa

        dataset = self._dataset
        if partition.file is not None:
            dataset = replace(dataset, files=(partition.file,))
        with reading(dataset.uri):
            relation = verified(self._con, dataset, self._env)
            if partition.where:
                relation = relation.filter(partition.where)
            for batch in self._typed(relation, self._share).to_arrow_reader(rows):
                yield pa.Table.from_batches([batch])

    @property
    def window(self) -> str:
        """The dataset's window as it is written in paths; empty for all rows up to now."""
        start, end = self._dataset.start, self._dataset.end
        return f"{start:%Y%m%dT%H%M%SZ}-{end:%Y%m%dT%H%M%SZ}" if start and end else ""

    def _typed(self, relation: DuckDBPyRelation, *more: str) -> DuckDBPyRelation:
        """Each file's columns in the types of all files."""
        columns = (f"CAST({quote(name)} AS {kind}) AS {quote(name)}" for name, kind in self.types.items())
        return relation.select(", ".join([*columns, *more]))

    def _by_file(self) -> Iterator[Partition]:
        for file in self._dataset.files:
            relation = verified(self._con, replace(self._dataset, files=(file,)), self._env)
            rows = int(relation.aggregate("count(*)").fetchall()[0][0])
            if rows:
                # Windows that end later have the same rows if they have as many.
                facts = {"etag": file.etag, "size": file.size, "start": self._dataset.start, "rows": rows}
                name = re.sub(r"(\.parquet|\.pq|\.csv|\.csv\.gz)$", "", self._relative(file.uri).lower())
                name = self._relative(file.uri)[: len(name)]
                path = f"{name}-{self.window}.parquet" if self.window else f"{name}.parquet"
                yield Partition(path=path, input=digest(facts), rows=rows, file=file)

    def _by_value(self) -> Iterator[Partition]:
        column = str(self._partition_by)
        is_time = self.types[column].startswith(_TIMES)
        value = f"CAST({quote(column)} AS DATE)" if is_time else quote(column)
        text = f"CAST({value} AS VARCHAR)"
        rows = ", ".join(map(quote, sorted(self.types)))
        relation = verified(self._con, self._dataset, self._env)
        sums = f"{text} AS value, count(*), CAST(sum(CAST(hash({rows}) AS HUGEINT)) AS VARCHAR)"
        found = relation.aggregate(sums, text).limit(MOST + 1).fetchall()
        if len(found) > MOST:
            raise ConfigError(
                f"column {column!r} has too many values to partition by",
                where=self._dataset.uri,
                allowed=f"{MOST} values",
                remedy="Partition by a time column, which counts by the day, or leave partition_by out.",
            )
        name = f"rows-{self.window}.parquet" if self.window else "rows.parquet"
        for each, count, checksum in found:
            folder = f"{_segment(column)}={_NO_VALUE if each is None else _segment(each)}"
            where = f"{text} IS NULL" if each is None else f"{text} = {literal(each)}"
            yield Partition(
                path=f"{folder}/{name}", input=digest({"rows": checksum}), rows=int(count), where=where
            )

    @cached_property
    def _base(self) -> str:
        """The folder that names of files are relative to; the same whichever of them are in the window."""
        fixed = re.split(r"[*?[]", self._dataset.uri, maxsplit=1)[0]
        uri = self._dataset.uri
        is_folder = fixed == uri and any(
            file.uri.startswith(f"{uri.rstrip('/')}/") for file in self._dataset.files
        )
        return f"{uri.rstrip('/')}/" if is_folder else f"{fixed.rpartition('/')[0]}/"

    def _relative(self, uri: str) -> str:
        return uri.removeprefix(self._base)


def _segment(value: str) -> str:
    """``value`` as a part of a path."""
    return quote_path(value, safe=" ,;@!$&'()~") or "%00"
