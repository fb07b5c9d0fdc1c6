"""Artifact stores by URI: a local folder, or any S3 endpoint.

``file://`` URIs are percent-decoded as RFC 8089 says; S3 keys are taken as they stand.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from mlretrain.errors import ConfigError, ContractError, NotFound, TransientError
from mlretrain.ports import ArtifactStore

_TEMPORARY = ".tmp-"


def open_store(root_uri: str, env: Mapping[str, str] | None = None) -> ArtifactStore:
    """The store below ``root_uri``: ``file://…``, a plain path, or ``s3://bucket/prefix``.

    :param env: settings and credentials by their usual names (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
        …); by default the process's environment.
    """
    if root_uri.startswith("s3://"):
        from mlretrain.runtime.s3 import S3Settings, S3Store

        return S3Store(root_uri, S3Settings.from_env(os.environ if env is None else env))
    return FileStore(local_path(root_uri))


def split_uri(uri: str) -> tuple[str, str]:
    """``uri`` as the root of a store and a path in it."""
    root, slash, name = uri.rpartition("/")
    if not slash or not name or root.endswith(":/"):
        raise ConfigError("not the URI of an object", found=repr(uri), allowed="<folder>/<name>")
    return root or "/", unquote(name) if root.startswith("file://") else name


def join_uri(root_uri: str, path: str) -> str:
    """The URI of ``path`` in the store at ``root_uri``."""
    return f"{root_uri.rstrip('/')}/{_escape(path) if root_uri.startswith('file://') else path}"


def read_uri(uri: str, env: Mapping[str, str] | None = None) -> bytes:
    """The bytes of the object at ``uri``. Raises :class:`NotFound`."""
    root, path = split_uri(uri)
    return open_store(root, env).read(path)


def local_path(uri: str) -> Path:
    """The absolute path that a ``file://`` URI or a plain path stands for."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri).absolute()
    host, slash, path = rest.partition("/")
    if scheme != "file" or host not in ("", "localhost") or not slash:
        raise ConfigError("a location that cannot be opened", found=uri, allowed="file:///…, s3://…")
    return Path("/" + unquote(path))


def file_uri(path: Path) -> str:
    """The ``file://`` URI of an absolute path, which :func:`local_path` undoes; only ``%`` is escaped."""
    return "file://" + _escape(str(path))


def _escape(path: str) -> str:
    return path.replace("%", "%25")


def check_path(path: str) -> str:
    """``path`` if it stays below a store's root, else :class:`ContractError`."""
    if path.startswith("/") or "\\" in path or "\0" in path or {"", ".", ".."} & set(path.split("/")):
        raise ContractError("not a path within the store", found=repr(path), allowed="a/b/c")
    return path


def _refuse(error: OSError) -> None:
    """A folder that is not there has nothing in it; one that cannot be read has what nobody knows."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


class FileStore(ArtifactStore):
    """A folder. Objects appear whole, by rename or hard link from a file beside them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.root_uri = file_uri(root)

    def read(self, path: str) -> bytes:
        with self._errors(path):
            return self._file(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        with self._errors(path), self._staged(path, data) as staged:
            staged.replace(self._file(path))

    def create(self, path: str, data: bytes) -> bool:
        with self._errors(path), self._staged(path, data) as staged:
            try:
                os.link(staged, self._file(path))
            except FileExistsError:
                return False
            return True

    def list(self, prefix: str) -> list[str]:
        folder = self._file(prefix.rpartition("/")[0]) if "/" in prefix else self._root
        with self._errors(prefix):
            return sorted(
                path
                for parent, _, names in os.walk(folder, onerror=_refuse)
                for name in names
                if not name.startswith(_TEMPORARY)
                and (path := (Path(parent) / name).relative_to(self._root).as_posix()).startswith(prefix)
            )

    def _file(self, path: str) -> Path:
        return self._root / check_path(path)

    @contextmanager
    def _staged(self, path: str, data: bytes) -> Iterator[Path]:
        folder = self._file(path).parent
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        where = join_uri(self.root_uri, path)
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound("no such object", where=where) from error
        except PermissionError as error:
            # Hard links are also refused with EPERM by file systems that have none (FAT, some FUSE).
            raise ConfigError("the file system refuses access", where=where, found=str(error)) from error
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EXDEV, errno.ENAMETOOLONG, errno.EROFS):
                raise ConfigError(
                    "the file system cannot hold this object", where=where, found=str(error)
                ) from error
            raise TransientError("the file system failed", where=where, found=str(error)) from error
