"""Virtual environments for local jobs: installed once for each list of requirements, then shared."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlretrain.errors import ConfigError
from mlretrain.runtime.installer import checked, install, run
from mlretrain.wire import digest
from mlretrain_provider.backends.own_wheel import DISTRIBUTION, build_wheel, needed_for_s3, source_digest

UNUSED_S = 30 * 24 * 3600.0
"""How long an environment that no job uses is kept."""

logger = logging.getLogger(__name__)


class Environments:
    """Virtual environments below one folder, which any number of workers may share.

    An environment has this Python, the requirements, this very distribution without Airflow, and what a job
    needs to train: MLflow, pandas, DuckDB, pyarrow and boto3. It is installed anew when any of the
    requirements, the Python or the distribution's own files change, and not when an index has something
    newer: pin what must not differ. ``uv`` installs where there is one, else ``pip``; both read their usual
    configuration and variables, such as ``UV_INDEX_URL``, ``PIP_INDEX_URL``, ``UV_CONSTRAINT``,
    ``PIP_CONSTRAINT``.

    :param folder: none: ``mlretrain/environments`` in the user's cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self._folder = Path(folder or f"{cache}/mlretrain/environments").expanduser().absolute()

    def python(self, requirements: Sequence[str]) -> Path:
        """The interpreter of the environment with ``requirements``, installed if there is none.

        Of several that ask at once one installs, the others wait for it.

        :raises UnmetRequirements: it cannot be installed; the message ends with the installer's last lines.
        :raises TransientError: the package index does not answer.
        """
        lines = sorted({checked(each) for each in requirements})
        key = digest([lines, sys.version, sys.base_prefix, platform.machine(), source_digest()], 16)
        with self._locked(key):
            link = self._folder / key
            if not (link / "bin" / "python").exists():
                self._install(key, lines)
                self._sweep()
            os.utime(link, follow_symlinks=False)
            return link.resolve() / "bin" / "python"

    def _install(self, key: str, lines: Sequence[str]) -> None:
        """Install aside, then let the key point there: what is half done is never found."""
        for half in self._folder.glob(f"{key}-*"):
            half.unlink() if half.is_symlink() else shutil.rmtree(half)
        target = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self._folder))
        logger.info("Installing %s for local jobs.", ", ".join(lines))
        start = time.monotonic()
        try:
            _fill(target, lines)
        except BaseException:
            shutil.rmtree(target)
            raise
        link = target.with_suffix(".link")
        link.symlink_to(target.name)
        link.replace(self._folder / key)
        logger.info("Installed %s in %.1f s.", target, time.monotonic() - start)

    def _sweep(self) -> None:
        """Remove the environments that no job has used for long."""
        for link in self._folder.iterdir():
            if link.is_symlink() and time.time() - link.lstat().st_mtime > UNUSED_S:
                with self._locked(link.name):
                    target = link.resolve()
                    link.unlink()
                    shutil.rmtree(target, ignore_errors=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self._folder / f"{key}.lock").open("w")
        except OSError as error:
            raise ConfigError(
                "no place for virtual environments",
                where=str(self._folder),
                found=str(error.strerror),
                remedy="Set local.environments_dir in the stack to a folder that the worker may write to.",
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _fill(target: Path, lines: Sequence[str]) -> None:
    wheel = build_wheel(target / "wheel")
    python = install(target, (*lines, f"{DISTRIBUTION}[mlflow] @ {wheel.as_uri()}", *needed_for_s3()), lines)
    run([str(python), "-I", "-c", "import mlretrain.runtime.__main__"], lines, os.environ)
