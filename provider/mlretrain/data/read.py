"""A resolved dataset as a DuckDB relation or a pandas frame, its files checked to be still the same."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.data.dataset import DataFile, Dataset, Format
from mlretrain.data.files import is_remote, verify
from mlretrain.data.time_window import TimeColumn, check_column, quote
from mlretrain.errors import InvalidInput, MissingExtra, TransientError
from mlretrain.runtime.s3 import S3Settings, arrow_filesystem
from mlretrain.runtime.store import local_path, read_uri

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pandas import DataFrame


def connect(memory_limit: str | None = None) -> DuckDBPyConnection:
    """A DuckDB in memory that speaks UTC, spills to the temporary folder and never asks the network.

    :param memory_limit: such as ``"2GB"``; by default DuckDB's own, 80 % of the machine's.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra.of("duckdb", "data") from error
    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        # A profile asks for one column after the other; parsing a wide file's footer each time takes longer.
        "parquet_metadata_cache": True,
        "temp_directory": str(Path(tempfile.gettempdir()) / f"mlretrain-duckdb-{os.getpid()}"),
        **({"memory_limit": memory_limit} if memory_limit else {}),
    }
    connection = duckdb.connect(config=config)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def open_relation(
    con: DuckDBPyConnection, dataset: Dataset, env: Mapping[str, str] | None = None
) -> DuckDBPyRelation:
    """The rows of ``dataset``, lazily, in the order of the files and of the rows in them; times kept as text
    are times here.

    Sets the connection's time zone to UTC. Raises :class:`InvalidInput` if a file is gone or has changed.
    """
    verify(dataset.files, env)
    return verified(con, dataset, env)


def verified(
    con: DuckDBPyConnection, dataset: Dataset, env: Mapping[str, str] | None = None
) -> DuckDBPyRelation:
    """As :func:`open_relation`, of files that the caller has just verified."""
    with reading(dataset.uri):
        relation = scan(con, dataset.files, dataset.format, env)
    if dataset.time_column is None:
        return relation
    with reading(dataset.uri):
        time = TimeColumn(relation, dataset.time_column, dataset.uri)
        window = time.within(dataset.start, dataset.end)
        if window and not _all_within(relation, dataset, time):
            relation = relation.filter(window)
        if time.sql == quote(dataset.time_column):
            return relation
        return relation.select(f"* REPLACE ({time.sql} AS {quote(dataset.time_column)})")


@contextmanager
def open_columns(
    con: DuckDBPyConnection, dataset: Dataset, env: Mapping[str, str] | None = None
) -> Iterator[DuckDBPyRelation]:
    """The rows of ``dataset`` in a form whose columns can be read one by one at no more cost than together.

    Local Parquet is that already; CSV and what is in S3 is read once, into a temporary file. Raises as
    :func:`open_relation`.
    """
    relation = open_relation(con, dataset, env)
    if dataset.format == "parquet" and not is_remote(dataset.files):
        yield relation
        return
    with copied(con, relation, dataset.uri) as copy:
        yield copy


@contextmanager
def copied(con: DuckDBPyConnection, relation: DuckDBPyRelation, where: str) -> Iterator[DuckDBPyRelation]:
    """The rows of ``relation``, in any order, in a temporary Parquet file.

    :param where: the dataset's name in errors.
    """
    with tempfile.TemporaryDirectory(prefix="mlretrain-columns-") as folder:
        path = str(Path(folder) / "rows.parquet")
        # Keeping the order would keep many rows in memory.
        con.execute("SET preserve_insertion_order = false")
        try:
            with reading(where):
                relation.write_parquet(path)
                copy = con.read_parquet(path)
        finally:
            con.execute("SET preserve_insertion_order = true")
        yield copy


def read_frame(
    dataset: Dataset,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    env: Mapping[str, str] | None = None,
) -> DataFrame:
    """The rows of ``dataset`` in memory.

    :param columns: which, in this order; by default all.
    :param where: a predicate of :class:`~mlretrain.data.split.Split`.
    """
    with connect() as con:
        relation = open_relation(con, dataset, env)
        with reading(dataset.uri):
            if where:
                relation = relation.filter(where)
            if columns is not None:
                names = [quote(check_column(name, relation.columns, dataset.uri)) for name in columns]
                relation = relation.select(", ".join(names))
            frame: DataFrame = relation.df()
            return frame


def scan(
    con: DuckDBPyConnection,
    files: Sequence[DataFile],
    file_format: Format,
    env: Mapping[str, str] | None = None,
) -> DuckDBPyRelation:
    """All rows of ``files``, columns matched by name."""
    con.execute("SET TimeZone = 'UTC'")
    if not is_remote(files):
        paths = [str(local_path(file.uri)) for file in files]
        return _scan_parquet(con, paths) if file_format == "parquet" else _scan_csv(con, paths, files)
    if file_format == "csv":
        return _scan_remote_csv(con, files, env)
    return con.from_arrow(_arrow_dataset(files, env))


def _all_within(relation: DuckDBPyRelation, dataset: Dataset, time: TimeColumn) -> bool:
    """Whether every row is in the window, where the files' own statistics say so at no cost."""
    if dataset.format != "parquet" or is_remote(dataset.files):
        return False
    least, most = f"min({time.sql})", f"max({time.sql})"
    inside = [
        f"count(*) = count({time.sql})",
        *([time.at_or_after(dataset.start, least)] if dataset.start else []),
        *([time.before(dataset.end, most)] if dataset.end else []),
    ]
    return bool(relation.aggregate(" AND ".join(inside)).fetchall()[0][0])


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns DuckDB's and Arrow's complaints about data into :class:`InvalidInput`, those about S3 into
    :class:`TransientError`.
    """
    import duckdb

    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise TransientError("out of memory", where=where, found=first_line(error)) from error
    except (duckdb.Error, OSError, ValueError, TypeError) as error:
        # DuckDB passes on what Arrow says as text; Arrow's own errors are OSError, ValueError, TypeError.
        if "AWS Error" in str(error):
            raise TransientError("S3 failed", where=where, found=first_line(error)) from error
        raise InvalidInput("the data cannot be read", where=where, found=first_line(error)) from error


def first_line(error: BaseException) -> str:
    """What an error says, without the hints below it."""
    return str(error).strip().split("\n", 1)[0]


def _scan_parquet(con: DuckDBPyConnection, paths: Sequence[str]) -> DuckDBPyRelation:
    return con.read_parquet([_verbatim(path) for path in paths], union_by_name=True, hive_partitioning=False)


def _scan_csv(con: DuckDBPyConnection, paths: Sequence[str], files: Sequence[DataFile]) -> DuckDBPyRelation:
    """All of ``paths``, which hold ``files``; types are found over all of them."""
    names: list[str] = []
    for path, file in zip(paths, files, strict=True):
        with reading(file.uri):
            found = con.read_csv(_verbatim(path), header=True, hive_partitioning=False).columns
        names = names or found
        for name in sorted(set(names) ^ set(found)):
            lacking, having = (file, files[0]) if name in names else (files[0], file)
            raise InvalidInput(f"column {name!r} is missing", where=lacking.uri, found=f"it in {having.uri}")
    # The stubs know one path only.
    every: Any = [_verbatim(path) for path in paths]
    return con.read_csv(every, header=True, union_by_name=True, hive_partitioning=False)


def _verbatim(path: str) -> str:
    """``path`` as a pattern of DuckDB's that matches nothing else."""
    return path.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


def _scan_remote_csv(
    con: DuckDBPyConnection, files: Sequence[DataFile], env: Mapping[str, str] | None
) -> DuckDBPyRelation:
    """A table made from copies, so that types and delimiters are found as in local files."""
    table = f"csv_{hashlib.sha256(repr(files).encode()).hexdigest()[:16]}"
    with tempfile.TemporaryDirectory(prefix="mlretrain-csv-") as folder:
        paths = [
            Path(folder) / f"{i:06}{''.join(Path(file.uri).suffixes[-2:])}" for i, file in enumerate(files)
        ]
        for file, path in zip(files, paths, strict=True):
            path.write_bytes(read_uri(file.uri, env))
        con.execute(f"DROP TABLE IF EXISTS {quote(table)}")
        _scan_csv(con, [str(path) for path in paths], files).create(table)
    return con.table(table)


def _arrow_dataset(files: Sequence[DataFile], env: Mapping[str, str] | None) -> Any:
    import pyarrow as pa
    import pyarrow.dataset as ds

    filesystem = arrow_filesystem(S3Settings.from_env(os.environ if env is None else env))
    keys = [file.uri.removeprefix("s3://") for file in files]
    found = ds.dataset(keys, filesystem=filesystem, format="parquet", partitioning=None)
    fragments = list(found.get_fragments())
    schema = pa.unify_schemas(
        [_plain(fragment.physical_schema) for fragment in fragments], promote_options="permissive"
    )
    return ds.FileSystemDataset(fragments, schema, found.format, filesystem)


def _plain(schema: Any) -> Any:
    """``schema`` without dictionaries and metadata, which differ between files of the same content."""
    import pyarrow as pa

    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in schema
    ]
    return pa.schema(fields)
