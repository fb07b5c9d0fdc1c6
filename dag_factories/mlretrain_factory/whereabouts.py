"""Which pipeline a command is about, by file or name, and where that pipeline's state is kept."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mlretrain.errors import ConfigError
from mlretrain_factory.loader import SUFFIXES, load_source, pipeline_files, pipeline_name
from mlretrain_factory.plan.serving import serving

_SUGGESTED = 5


def name_of(pipeline: str) -> str:
    """The pipeline's name. A file that is named like its pipeline is not read: it may be broken."""
    path = Path(pipeline)
    if path.name.endswith(SUFFIXES):
        return pipeline_name(path)
    return load_source(path.absolute()).spec.pipeline if path.is_file() else pipeline


def whereabouts(pipeline: str, dags: Path) -> dict[str, Any]:
    """``{pipeline, artifacts_uri, mlflow_conn_id, storage_conn_id, serving}``.

    :param pipeline: its file, or its name, which is then looked for below ``dags``.
    :raises ConfigError: there is no such pipeline, or more than one.
    """
    source = load_source(_file(pipeline, dags).absolute())
    stack = source.stack
    return {
        "pipeline": source.spec.pipeline,
        "artifacts_uri": stack.artifacts_uri,
        "mlflow_conn_id": stack.registry.conn_id,
        "storage_conn_id": stack.storage.conn_id if stack.storage else None,
        **serving(source),
    }


def _file(pipeline: str, dags: Path) -> Path:
    if Path(pipeline).is_file():
        return Path(pipeline)
    found = pipeline_files(dags, pipeline) if "/" not in pipeline else []
    if len(found) != 1:
        known = [pipeline_name(path) for path in pipeline_files(dags)]
        raise ConfigError(
            "two files of this name" if found else "no such pipeline",
            where=str(dags),
            found=", ".join(map(str, found)) or repr(pipeline),
            allowed=", ".join(get_close_matches(pipeline, known) or known[:_SUGGESTED]) or "none",
            remedy="Name the pipeline's file, or the folder of pipelines with --dags.",
        )
    return found[0]
