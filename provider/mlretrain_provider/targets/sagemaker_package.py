"""A model version as SageMaker wants it: one ``model.tar.gz``, the same bytes whenever it is packed."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from mlretrain.errors import InvalidInput, MissingExtra, TransientError
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.targets import Surroundings

FILE = "model.tar.gz"
_WRITTEN_BY_DOWNLOAD = "registered_model_meta"
_CACHE = "__pycache__"
_DOWNLOAD_S = 1800
_LINES = 5


class ModelSource(Protocol):
    """Where versions come from."""

    def tags(self, model: str, version: str) -> Mapping[str, str]:
        """The version's tags. Raises ``InvalidInput`` if there is no such version."""

    def download(self, model: str, version: str, folder: Path) -> Path:
        """The folder below ``folder`` that the version's files were copied to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowModels:
    """Versions of MLflow's registry; its own client copies them, in a process with the right environment."""

    around: Surroundings

    def tags(self, model: str, version: str) -> Mapping[str, str]:
        found = MLflowHook(self.around.mlflow_conn_id).registry().version(model, version)
        if found is None:
            raise InvalidInput("there is no such version", where=f"models:/{model}/{version}")
        return found.tags

    def download(self, model: str, version: str, folder: Path) -> Path:
        where = f"models:/{model}/{version}"
        command = (sys.executable, "-m", "mlflow", "artifacts", "download", "-u", where, "-d", str(folder))
        env = {
            **os.environ,
            **MLflowHook(self.around.mlflow_conn_id).env(),
            **storage_env(self.around.storage_conn_id),
        }
        try:
            done = subprocess.run(  # noqa: S603
                command, env=env, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_S
            )
        except subprocess.TimeoutExpired:
            raise TransientError(
                "the download takes too long", where=where, found=f"{_DOWNLOAD_S} s"
            ) from None
        if done.returncode:
            raise _not_downloaded(where, done.stderr)
        return min(
            (each.parent for each in folder.rglob("MLmodel")),
            key=lambda each: len(each.parts),
            default=folder,
        )


@contextmanager
def downloaded(source: ModelSource, model: str, version: str) -> Iterator[Path]:
    """The version's files, for as long as the block takes."""
    with TemporaryDirectory(prefix="mlretrain-model-") as folder:
        yield source.download(model, version, Path(folder))


def pack(folder: Path, archive: Path) -> str:
    """Pack a model's files into ``archive``; its SHA-256.

    Order, times, owners and rights are the same for the same files, so that the digest says what is inside.
    """
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(_files(folder), key=lambda each: each.relative_to(folder).as_posix()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)
    with archive.open("rb") as packed:
        return hashlib.file_digest(packed, "sha256").hexdigest()


def _files(root: Path) -> Iterator[Path]:
    """What the version consists of, without what a download or an import leaves beside it."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [each for each in folders if each != _CACHE]
        for path in (Path(folder) / name for name in names):
            if path != root / _WRITTEN_BY_DOWNLOAD:
                yield path


def _not_downloaded(where: str, said: str) -> Exception:
    if "No module named mlflow" in said:
        return MissingExtra.of("mlflow", "mlflow")
    told = " / ".join(said.strip().splitlines()[-_LINES:])
    return TransientError("MLflow could not copy the model", where=where, found=told)
