"""From "the flights of the last 90 days" to a fixed list of files: what a run works on from then on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from mlretrain.data.dataset import DataFile, Dataset, Format, fingerprint
from mlretrain.data.files import describe, find
from mlretrain.data.parquet import check_same_columns, read_footers
from mlretrain.data.read import connect, reading, scan
from mlretrain.data.time_window import TimeColumn, from_epoch_us
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.runtime.s3 import S3Settings, arrow_filesystem
from mlretrain.runtime.store import file_uri, local_path
from mlretrain.wire import utc

_SUFFIXES: dict[Format, tuple[str, ...]] = {"parquet": (".parquet", ".pq"), "csv": (".csv", ".csv.gz")}


def resolve(
    uri: str,
    *,
    time_column: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    format: str | None = None,  # noqa: A002 - the word in the YAML
    env: Mapping[str, str] | None = None,
) -> Dataset:
    """The rows at ``uri`` whose time is in [``start``, ``end``), as files that will not change unnoticed.

    Parquet files that lie wholly outside the window by their own statistics are left out unread.

    :param uri: one file, a glob, or a folder; ``file://``, a plain path, or ``s3://``.
    :param time_column: timestamps, dates, or ISO text; what has no zone is UTC.
    :param format: ``parquet`` or ``csv``; by default what the files' names say.
    :param env: settings and credentials of S3; by default the process's environment.
    :raises InvalidInput: nothing matches, no row is in the window, or files cannot be read together.
    """
    start, end = (utc(time) if time else None for time in (start, end))
    _check_window(uri, time_column, start, end)
    uri = uri if uri.startswith("s3://") else file_uri(local_path(uri))
    uris, chosen = _choose(uri, find(uri, env), format)
    source = _Source(uri=uri, format=chosen, time_column=time_column, start=start, end=end, env=env)
    files = source.describe(source.prune(uris))
    rows = source.count(files) if files else 0
    if not rows:
        raise source.empty(source.describe(uris))
    return Dataset(
        uri=uri,
        format=chosen,
        files=files,
        time_column=time_column,
        start=start,
        end=end,
        rows=rows,
        fingerprint=fingerprint(files, format=chosen, time_column=time_column, start=start, end=end),
    )


def _check_window(uri: str, time_column: str | None, start: datetime | None, end: datetime | None) -> None:
    if (start or end) and time_column is None:
        raise ConfigError("a window needs a time column", where=uri, remedy="Set time_column beside the uri.")
    if start and end and start >= end:
        raise ConfigError("the window is empty", where=uri, found=f"[{start.isoformat()}, {end.isoformat()})")


def _choose(uri: str, found: Sequence[str], wanted: str | None) -> tuple[list[str], Format]:
    """The files to read and their one format; other kinds of files in a folder or glob are left out."""
    if wanted is not None and wanted not in get_args(Format):
        raise ConfigError("an unknown data format", where=uri, found=wanted, allowed="parquet, csv")
    by_format: dict[Format, list[str]] = {
        each: [one for one in found if one.lower().endswith(suffixes)]
        for each, suffixes in _SUFFIXES.items()
        if wanted in (None, each)
    }
    present = {each: uris for each, uris in by_format.items() if uris}
    if len(present) > 1:
        raise InvalidInput(
            "files of several formats",
            where=uri,
            found=", ".join(uris[0] for uris in present.values()),
            remedy="Name one kind in the uri, such as *.parquet, or set format.",
        )
    for only, uris in present.items():
        return uris, only
    if len(found) == 1 and wanted:
        return list(found), next(iter(by_format))
    raise InvalidInput(
        "no data files here",
        where=uri,
        found=f"{len(found)} other files, such as {found[0]}" if found else "nothing",
        allowed=", ".join(suffix for each in by_format for suffix in _SUFFIXES[each]),
        remedy="Check the path; names that start with . or _ are ignored.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Files of one format seen through one window."""

    uri: str
    format: Format
    time_column: str | None
    start: datetime | None
    end: datetime | None
    env: Mapping[str, str] | None

    def prune(self, uris: Sequence[str]) -> list[str]:
        """Those of ``uris`` that may have rows in the window; checked to have the same columns."""
        if self.format == "csv":
            return list(uris)
        remote = uris[0].startswith("s3://")
        settings = S3Settings.from_env(os.environ if self.env is None else self.env)
        footers = read_footers(uris, self.time_column, arrow_filesystem(settings) if remote else None)
        check_same_columns(footers)
        return [footer.uri for footer in footers if footer.overlaps(self.start, self.end)]

    def describe(self, uris: Sequence[str]) -> tuple[DataFile, ...]:
        """Sizes and etags of ``uris``."""
        files = tuple(file for file in describe(uris, self.env) if file)
        gone = sorted(set(uris) - {file.uri for file in files})
        if gone:
            raise InvalidInput("the file went away while the data was looked at", where=gone[0])
        return files

    def count(self, files: Sequence[DataFile]) -> int:
        """How many rows are in the window."""
        with connect() as con, reading(self.uri):
            relation = scan(con, files, self.format, self.env)
            if self.time_column is None:
                return int(relation.aggregate("count(*)").fetchall()[0][0])
            time = TimeColumn(relation, self.time_column, self.uri)
            window = time.within(self.start, self.end)
            relation = relation.filter(window) if window else relation
            # Counting the times too shows now whether text can be read as times.
            return int(relation.aggregate(f"count(*), count({time.sql})").fetchall()[0][0])

    def empty(self, files: Sequence[DataFile]) -> InvalidInput:
        """The error that no row is in the window, with the span of time that there is."""
        if self.time_column is None or not (self.start or self.end):
            return InvalidInput("the files hold no rows", where=self.uri, found=f"{len(files)} files")
        with connect() as con, reading(self.uri):
            relation = scan(con, files, self.format, self.env)
            time = TimeColumn(relation, self.time_column, self.uri).sql
            first, last = relation.aggregate(f"epoch_us(min({time})), epoch_us(max({time}))").fetchall()[0]
        start, end = (each.isoformat() if each else "…" for each in (self.start, self.end))
        span = [from_epoch_us(each).isoformat() for each in (first, last) if each is not None]
        return InvalidInput(
            f"no rows in the window [{start}, {end})",
            where=self.uri,
            found=f"{' to '.join(span) or 'no times'} in {self.time_column!r}",
            remedy="Start the run for an instant by which there was data, or wait for new data.",
        )
