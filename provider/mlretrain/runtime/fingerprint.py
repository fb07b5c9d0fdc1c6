"""A packaged model's fingerprints: whether what is loaded now is what was trained, file by file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlretrain.errors import InvalidInput
from mlretrain.wire import digest

MODEL_TAG = "mlretrain.model_sha256"
SIGNATURE_TAG = "mlretrain.signature_sha256"
"""Tags of a model version, with :func:`fingerprint` and :func:`signature_digest` of what was trained."""

_DESCRIPTION = "MLmodel"
# MLflow writes it beside the model on every download of a registered version.
_WRITTEN_BY_DOWNLOAD = "registered_model_meta"
_SIGNATURE = "signature:"
_PLAIN_CACHE = bytes(4)


def fingerprint(folder: str | Path) -> str:
    """The SHA-256 of a model's files, by path and content, in hexadecimal digits.

    Left out is what appears beside a model that is merely downloaded and used: MLflow's note of the version,
    and the byte code that Python caches by the source's time, which it does not trust in another copy.

    :raises InvalidInput: there is no model in ``folder``.
    """
    _model_file(folder)
    root = Path(folder)
    return digest({path.relative_to(root).as_posix(): _sha256(path) for path in _files(root)})


def size(folder: str | Path) -> int:
    """The bytes of the files that :func:`fingerprint` is of."""
    return sum(path.stat().st_size for path in _files(Path(folder)))


def signature_digest(folder: str | Path) -> str:
    """The SHA-256 of the signature in the model's ``MLmodel``, as it is written there.

    A model without one has the digest of nothing, so that one that appears later is noticed.

    :raises InvalidInput: there is no model in ``folder``.
    """
    return hashlib.sha256("\n".join(_signature(_model_file(folder).read_text("utf-8"))).encode()).hexdigest()


def check(folder: str | Path, tags: Mapping[str, str], *, where: str) -> None:
    """Return if the model in ``folder`` is the one that the version's ``tags`` speak of.

    A tag that is missing asks for nothing: the version was registered by somebody else, or long ago.

    :param where: what was loaded, such as ``models:/flights/7``.
    :raises InvalidInput: naming what differs.
    """
    found = {"files": (MODEL_TAG, fingerprint), "signature": (SIGNATURE_TAG, signature_digest)}
    differing = {
        what: (measured, tags[tag])
        for what, (tag, measure) in found.items()
        if tags.get(tag) and (measured := measure(folder)) != tags[tag]
    }
    if differing:
        raise InvalidInput(
            f"the model is not what was registered: other {' and '.join(differing)}",
            where=where,
            found=_said(differing, 0),
            allowed=_said(differing, 1),
            remedy="Somebody has changed its artifacts since: serve another version, or train again.",
        )


def _said(differing: Mapping[str, tuple[str, str]], which: int) -> str:
    return ", ".join(f"{what} {pair[which]}" for what, pair in differing.items())


def _model_file(folder: str | Path) -> Path:
    path = Path(folder) / _DESCRIPTION
    if not path.is_file():
        raise InvalidInput(
            "there is no MLflow model", where=str(folder), allowed=f"a folder with {path.name}"
        )
    return path


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root, followlinks=True):
        for path in (Path(folder) / name for name in names):
            if path != root / _WRITTEN_BY_DOWNLOAD and not _is_cache(path):
                yield path


def _is_cache(path: Path) -> bool:
    """Whether Python would use the file only beside a source of that very time (PEP 552)."""
    if path.parent.name != "__pycache__" or path.suffix != ".pyc":
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == _PLAIN_CACHE


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _signature(text: str) -> Iterator[str]:
    """The lines of the block: YAML ends one where a line begins at the margin again."""
    inside = False
    for line in text.splitlines():
        if line and not line[0].isspace():
            inside = line.startswith(_SIGNATURE)
        if inside and line.strip():
            yield line.rstrip()
