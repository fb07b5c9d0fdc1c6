"""A resolved dataset: an immutable list of files, a window of time and one fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mlretrain.errors import ContractError
from mlretrain.runtime.store import open_store, read_uri, split_uri
from mlretrain.wire import digest, from_wire, pretty, to_wire

Format = Literal["parquet", "csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file as it was when resolved: size in bytes; etag of S3, or ``sha256:…`` of a local file."""

    uri: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Rows of ``files`` whose ``time_column`` is in [``start``, ``end``).

    :param uri: what was asked for: a file, a glob or a folder.
    :param files: sorted by URI.
    :param rows: how many rows are in the window.
    :param fingerprint: see :func:`fingerprint`.
    """

    uri: str
    format: Format
    files: tuple[DataFile, ...]
    time_column: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    rows: int
    fingerprint: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def fingerprint(
    files: tuple[DataFile, ...],
    *,
    format: Format,  # noqa: A002 - the name on the wire
    time_column: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> str:
    """The SHA-256 over files, format and window; the order of the files does not matter."""
    content = {
        "files": sorted((to_wire(file) for file in files), key=lambda file: str(file["uri"])),
        "format": format,
        "time_column": time_column,
        "start": start,
        "end": end,
    }
    return digest(content)


def write_dataset(dataset: Dataset, uri: str, env: Mapping[str, str] | None = None) -> None:
    """Keep ``dataset`` as JSON at ``uri``."""
    root, path = split_uri(uri)
    open_store(root, env).write(path, pretty(dataset))


def read_dataset(uri: str, env: Mapping[str, str] | None = None) -> Dataset:
    """The dataset kept at ``uri``."""
    try:
        content = json.loads(read_uri(uri, env))
    except ValueError as error:
        raise ContractError("not a dataset", where=uri, found=str(error)) from error
    return from_wire(Dataset, content)
