"""Where scores appear: objects below a folder, in files or in S3, each whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlretrain.data.files import describe
from mlretrain.errors import NotFound
from mlretrain.runtime.s3 import S3Settings, delete_object, put_file
from mlretrain.runtime.store import join_uri, local_path, open_store
from mlretrain.wire import pretty

SUCCESS = "_SUCCESS"
MANIFESTS = "_manifests"
MIRRORED = ".mirrored"
"""Names that readers of data pass over; the last is the folder of what was not served."""

_STAGED = ".scoring-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An object that has appeared.

    :param path: below the output's folder.
    :param etag: as :class:`~mlretrain.data.dataset.DataFile` has it.
    """

    path: str
    rows: int
    size: int
    sha256: str
    etag: str


class Output:
    """A folder of scores.

    :param uri: ``file://…`` or ``s3://…``.
    :param env: settings and credentials of S3.
    """

    def __init__(self, uri: str, env: Mapping[str, str] | None = None) -> None:
        self.uri = uri.rstrip("/")
        self._env = os.environ if env is None else env
        self._store = open_store(self.uri, self._env)

    @contextmanager
    def staged(self, path: str) -> Iterator[Path]:
        """A file to write to, for :meth:`publish` to put in the place of what was at ``path``."""
        if self.uri.startswith("s3://"):
            with tempfile.TemporaryDirectory(prefix="mlretrain-scores-") as folder:
                yield Path(folder) / "scores.parquet"
            return
        staged = self._local(path).parent / f"{_STAGED}{uuid.uuid4().hex}"
        staged.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what jobs that were killed have left unfinished."""
        if not self.uri.startswith("s3://"):
            for path in local_path(self.uri).rglob(f"{_STAGED}*"):
                path.unlink(missing_ok=True)

    def publish(self, staged: Path, path: str, rows: int) -> Published:
        """Let what was staged appear at ``path``: readers see what was there before, or this."""
        with staged.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        size = staged.stat().st_size
        if self.uri.startswith("s3://"):
            put_file(join_uri(self.uri, path), staged, S3Settings.from_env(self._env))
            etag = self.etag(path) or ""
        else:
            staged.replace(self._local(path))
            etag = f"sha256:{sha256}"
        return Published(path=path, rows=rows, size=size, sha256=sha256, etag=etag)

    def etag(self, path: str) -> str | None:
        """What is at ``path`` now; ``None`` if nothing is."""
        found = describe([join_uri(self.uri, path)], self._env)[0]
        return found.etag if found else None

    def remove(self, path: str) -> None:
        """Let nothing be at ``path``."""
        if self.uri.startswith("s3://"):
            delete_object(join_uri(self.uri, path), S3Settings.from_env(self._env))
        else:
            self._local(path).unlink(missing_ok=True)

    def write_json(self, path: str, content: Any) -> None:
        """Keep a small object."""
        self._store.write(path, pretty(content))

    def read_json(self, path: str) -> Any:
        """The small object at ``path``, or ``None``."""
        try:
            return json.loads(self._store.read(path))
        except NotFound:
            return None

    def list(self, prefix: str) -> list[str]:
        """Every path that starts with ``prefix``."""
        return self._store.list(prefix)

    def _local(self, path: str) -> Path:
        return local_path(join_uri(self.uri, path))
