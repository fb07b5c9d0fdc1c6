"""A model as MLflow packs it: its files in a folder of one's own, and what they say about themselves."""

from __future__ import annotations

from pathlib import Path

REQUIREMENTS_FILE = "requirements.txt"


def fetch(model_uri: str, into: str | Path) -> Path:
    """The folder below ``into`` with a copy of the model's files. Raises whatever MLflow raises."""
    import mlflow.artifacts

    return Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=str(into)))


def requirements(folder: Path) -> list[str]:
    """The packages that the model says it needs, as pip writes them; none if it says nothing."""
    file = folder / REQUIREMENTS_FILE
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return [text for line in lines if (text := line.partition(" #")[0].strip()) and not text.startswith("#")]
