"""The files that a dataset's URI names, and what they are now: sizes and etags."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlretrain.data.dataset import DataFile
from mlretrain.errors import InvalidInput
from mlretrain.runtime.s3 import S3Settings, head_object, list_objects, split_s3
from mlretrain.runtime.store import file_uri, local_path

_GLOB = re.compile(r"[*?[]")


def find(uri: str, env: Mapping[str, str] | None = None) -> list[str]:
    """The URIs of the files that ``uri`` names, sorted.

    :param uri: one file, a glob (``**`` spans folders), or a folder with all below it. Names below its fixed
        part that start with ``.`` or ``_`` are left out.
    """
    if uri.startswith("s3://"):
        return _find_remote(uri, S3Settings.from_env(os.environ if env is None else env))
    path = local_path(uri)
    if path.is_file():
        return [file_uri(path)]
    if path.is_dir():
        return _visible(path, path.rglob("*"))
    if _GLOB.search(str(path)):
        fixed = Path(_fixed_part(str(path)) or "/")
        return _visible(fixed, (Path(each) for each in glob.iglob(str(path), recursive=True)))
    return []


def _visible(root: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(
        file_uri(path)
        for path in paths
        if not _is_hidden(path.relative_to(root).as_posix()) and path.is_file()
    )


def _find_remote(uri: str, settings: S3Settings) -> list[str]:
    bucket, key = split_s3(uri)
    if key and not key.endswith("/") and head_object(uri, settings):
        return [uri]
    is_glob = bool(_GLOB.search(key))
    fixed = _fixed_part(key) if is_glob else key.rstrip("/")
    start = f"{fixed}/" if fixed else ""
    pattern = re.compile(_glob_regex(key[len(start) :]) if is_glob else r".*")
    names = [each.key.removeprefix(start) for each in list_objects(bucket, start, settings) if each.size]
    return sorted(
        f"s3://{bucket}/{start}{name}" for name in names if pattern.fullmatch(name) and not _is_hidden(name)
    )


def _fixed_part(path: str) -> str:
    """The folders of ``path`` before the first with a wildcard."""
    start = _GLOB.split(path, maxsplit=1)[0]
    return start.rpartition("/")[0]


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/"))


def _glob_regex(pattern: str) -> str:
    """A shell pattern as a regular expression: ``*`` stays within a folder, ``**/`` spans folders."""
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", pattern)
    wild = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    return "".join(wild.get(token) or _bracket(token) for token in tokens)


def _bracket(token: str) -> str:
    if not (token.startswith("[") and token.endswith("]")):
        return re.escape(token)
    inside = token[1:-1].replace("\\", r"\\")
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def verify(files: Iterable[DataFile], env: Mapping[str, str] | None = None) -> None:
    """Raises :class:`InvalidInput` naming the first of ``files`` that is not as it was when resolved."""
    expected = list(files)
    uris = [file.uri for file in expected]
    for before, now in zip(expected, describe(uris, env), strict=True):
        if now != before:
            raise InvalidInput(
                "the file has changed since the dataset was resolved" if now else "the file is gone",
                where=before.uri,
                found=f"{now.size} bytes, {now.etag}" if now else None,
                allowed=f"{before.size} bytes, {before.etag}",
                remedy="Run the pipeline from its first task; add new files instead of changing old ones.",
            )


def describe(uris: Sequence[str], env: Mapping[str, str] | None = None) -> list[DataFile | None]:
    """Size and etag of each file now; ``None`` for one that is not there."""
    settings = S3Settings.from_env(os.environ if env is None else env)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda uri: _describe(uri, settings), uris))


def _describe(uri: str, settings: S3Settings) -> DataFile | None:
    if uri.startswith("s3://"):
        found = head_object(uri, settings)
        return DataFile(uri=uri, size=found.size, etag=found.etag) if found else None
    try:
        with local_path(uri).open("rb") as file:
            etag = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            return DataFile(uri=uri, size=file.tell(), etag=etag)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput("the file cannot be read", where=uri, found=str(error)) from error


def is_remote(files: Iterable[DataFile]) -> bool:
    """Whether the files are in S3 rather than on this machine."""
    return any(file.uri.startswith("s3://") for file in files)
