"""A DAG bundle of ``*.pipeline.yaml`` files, for which nobody writes Python.

Airflow 3.3 lists Python files only, so each YAML gets a stub of its own: with that its own import error, its
own staleness and its own parse.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion
from airflow.dag_processing.bundles.local import LocalDagBundle

from mlretrain import wire
from mlretrain.errors import ConfigError

SUFFIXES = (".pipeline.yaml", ".pipeline.yml")
STUB = """\
# An airflow dag file made from {name}: edit that one, this is overwritten.
from pathlib import Path

from mlretrain_factory.to_airflow import load

for dag in load(Path(__file__).with_suffix("").resolve()):
    globals()[dag.dag_id] = dag
"""
LOADER = b"load_airflow_dags("


class YamlDagBundle(BaseDagBundle):
    """The pipelines and the Python DAG files of a folder, or of another bundle.

    Airflow sees a mirror of the folder: a link to every file and, beside each pipeline, a stub. Loader files
    are left out, because their pipelines are there already.

    :param path: the folder; default Airflow's DAGs folder.
    :param bundle: another bundle to take the files from, ``{"classpath": …, "kwargs": {…}}``, e.g. Git's; its
        versions are this bundle's versions.
    """

    def __init__(
        self, *, path: str | None = None, bundle: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if path is not None and bundle is not None:
            raise ConfigError(
                f"the bundle {self.name!r} names two sources", found="path and bundle", allowed="one of them"
            )
        self.source = _source(path, bundle, kwargs)
        self.supports_versioning = self.source.supports_versioning

    def initialize(self) -> None:
        """Fetch the files and make the stubs."""
        # Not under our lock: the source has our name, so its lock is the same file.
        self.source.initialize()
        self._mirror()
        super().initialize()

    def refresh(self) -> None:
        """Fetch what is new and bring the stubs up to date."""
        self.source.refresh()
        self._mirror()

    @property
    def path(self) -> Path:
        """The mirror, one for each place of the source: storage may be shared, and versions are places."""
        return self.base_dir / "stubs" / wire.digest(str(self.source.path), 12)

    def get_current_version(self) -> str | BundleVersion | None:
        """The version of the source."""
        return self.source.get_current_version()

    def view_url_template(self) -> str | None:
        """Where people see the source."""
        return self.source.view_url_template()

    def _mirror(self) -> None:
        with self.lock():
            mirror(self.source.path, self.path)


def _source(path: str | None, bundle: Mapping[str, Any] | None, kwargs: Mapping[str, Any]) -> BaseDagBundle:
    if bundle is None:
        return LocalDagBundle(path=path, **kwargs)
    made: BaseDagBundle = resolve_name(bundle["classpath"])(**{**kwargs, **bundle.get("kwargs", {})})
    return made


def mirror(source: Path, target: Path) -> None:
    """Make ``target`` show ``source`` with a stub beside each pipeline.

    What is right already is not touched, so that Airflow sees no change where there is none; every change is
    one rename, so that a process that reads meanwhile sees the old file or the new one.
    """
    target.mkdir(parents=True, exist_ok=True)
    wanted = dict(_wanted(source))
    for path in sorted(_files(target), reverse=True):
        if str(path.relative_to(target)) not in wanted:
            path.unlink()
    for folder in sorted((Path(root) for root, _, _ in os.walk(target)), reverse=True):
        if folder != target and not any(folder.iterdir()):
            folder.rmdir()
    for relative, content in wanted.items():
        _put(target / relative, content)


def _wanted(source: Path) -> Iterator[tuple[str, Path | str]]:
    """Each file of the mirror: what it links to, or its text."""
    for path in _files(source):
        relative = str(path.relative_to(source))
        if path.suffix == ".py" and LOADER in path.read_bytes():
            continue
        yield relative, path.absolute()
        if path.name.endswith(SUFFIXES):
            yield f"{relative}.py", STUB.format(name=path.name)


def _files(root: Path) -> Iterator[Path]:
    """Files and linked folders below ``root``; of what is hidden, only ``.airflowignore``."""
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in links and name != "__pycache__" and not name.startswith(".")
        ]
        for name in (*names, *links):
            if not name.startswith(".") or name == ".airflowignore":
                yield Path(folder, name)


def _put(path: Path, content: Path | str) -> None:
    fresh = path.with_name(f".{uuid.uuid4().hex}")
    if isinstance(content, Path):
        if path.is_symlink() and os.readlink(path) == str(content):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.symlink_to(content)
    else:
        if not path.is_symlink() and path.is_file() and path.read_text() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(content)
    fresh.replace(path)
